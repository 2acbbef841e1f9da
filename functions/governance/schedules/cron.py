"""Cron arithmetic: which instants an expression names between two others, in a time zone. Pure.

Five fields (minute, hour, day of month, month, day of week) with lists, ranges, steps and English names; 0 and 7 are
Sunday; `@hourly` to `@yearly`. A day matches when both day fields do, or either where both are restricted (POSIX).

Where a zone's clock jumps:
- forward, a time that does not exist runs once, at the end of the gap (02:30 on 2026-03-29 in Berlin → 03:00);
- back, a time that comes twice runs once, the first time; only where the hour field is `*` does it run both
  times, since a job of every quarter of an hour would otherwise be silent for an hour.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from datetime import time as clock_time
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from shared.errors import Invalid

DAYS_MAX = 366 * 41  # 29 February falls on a given day of the week every 28 years, across most turns of a century 40
WORDS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
MONTH_NAMES = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
MONTHS = {name: number for number, name in enumerate(MONTH_NAMES, 1)}
WEEKDAYS = {name: number for number, name in enumerate(("sun", "mon", "tue", "wed", "thu", "fri", "sat"))}
DAY = timedelta(days=1)
CALENDAR = date(2000, 1, 1)
CALENDAR_DAYS = 366 * 28
"""After 28 years every date has fallen on every day of the week."""


@dataclass(frozen=True)
class Field:
    """One field's name, bounds and words."""

    name: str
    low: int
    high: int
    words: dict[str, int]


FIELDS = (
    Field("minute", 0, 59, {}),
    Field("hour", 0, 23, {}),
    Field("day of month", 1, 31, {}),
    Field("month", 1, 12, MONTHS),
    Field("day of week", 0, 7, WEEKDAYS),
)


@dataclass(frozen=True)
class Cron:
    """A parsed expression. `every_hour`, `any_day` and `any_weekday`: the field began with `*`."""

    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    every_hour: bool
    any_day: bool
    any_weekday: bool

    def runs_on(self, day: date) -> bool:
        if day.month not in self.months:
            return False
        by_day, by_weekday = day.day in self.days, day.isoweekday() % 7 in self.weekdays
        return by_day and by_weekday if self.any_day or self.any_weekday else by_day or by_weekday


@lru_cache(maxsize=256)
def parse(expression: str) -> Cron:
    """Read a cron expression. Raises `Invalid` naming the field at fault, and for one that never comes due."""
    parts = WORDS.get(expression.strip().lower(), expression).lower().split()
    if len(parts) != len(FIELDS):
        raise Invalid(
            f"cron expression {expression!r} has {len(parts)} fields; expected 5: minute hour day month weekday"
        )
    minutes, hours, days, months, weekdays = (values(part, field) for part, field in zip(parts, FIELDS, strict=True))
    cron = Cron(
        minutes=tuple(sorted(minutes)),
        hours=tuple(sorted(hours)),
        days=frozenset(days),
        months=frozenset(months),
        weekdays=frozenset(number % 7 for number in weekdays),
        every_hour=parts[1].startswith("*"),
        any_day=parts[2][0] in "*?",
        any_weekday=parts[4][0] in "*?",
    )
    if not any(cron.runs_on(CALENDAR + DAY * offset) for offset in range(CALENDAR_DAYS)):
        raise Invalid(f"cron expression {expression!r} names no day that exists")
    return cron


def values(text: str, field: Field) -> set[int]:
    """The numbers that a field's text names: `*/15`, `mon-fri`, `1,15`, `10-20/5`."""
    return {number for item in text.split(",") for number in item_values(item, field)}


def item_values(item: str, field: Field) -> range:
    span, slash, step_text = item.partition("/")
    if slash and not (step_text.isdecimal() and 1 <= int(step_text) <= field.high):
        raise Invalid(f"{field.name}: step in {item!r} is a whole number from 1 to {field.high}")
    step = int(step_text) if slash else 1
    if span in ("*", "?"):
        return range(field.low, field.high + (field.high != 7), step)  # 7 is Sunday's second name
    first_text, dash, last_text = span.partition("-")
    first = number_of(first_text, item, field)
    last = number_of(last_text, item, field) if dash else (field.high if slash else first)
    if last < first:
        raise Invalid(f"{field.name}: {item!r} ends before it begins")
    return range(first, last + 1, step)


def number_of(text: str, item: str, field: Field) -> int:
    if text in field.words:
        return field.words[text]
    if not (text.isascii() and text.isdecimal()) or not field.low <= int(text) <= field.high:
        raise Invalid(f"{field.name}: {item!r} is not within {field.low} to {field.high}")
    return int(text)


def zone_of(name: str) -> ZoneInfo:
    """The IANA zone. Raises `Invalid`."""
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError) as unknown:
        raise Invalid(f"{name!r} is not an IANA time zone such as Europe/Berlin") from unknown


def next_after(cron: Cron, zone: ZoneInfo, after: datetime) -> datetime | None:
    """The first instant after `after`, in UTC; None when there is none within forty years."""
    first_day = after.astimezone(zone).date() - DAY
    for offset in range(DAYS_MAX):
        for instant in instants(cron, zone, first_day + DAY * offset):
            if instant > after:
                return instant
    return None


def latest(cron: Cron, zone: ZoneInfo, after: datetime, until: datetime, limit: int) -> list[datetime]:
    """The last `limit` instants in (`after`, `until`], in order, in UTC."""
    found: list[datetime] = []
    day = until.astimezone(zone).date() + DAY
    for _ in range(DAYS_MAX):
        if len(found) >= limit or day < after.astimezone(zone).date() - DAY:
            break
        found[:0] = [instant for instant in instants(cron, zone, day) if after < instant <= until]
        day -= DAY
    return sorted(set(found))[-limit:]


def instants(cron: Cron, zone: ZoneInfo, day: date) -> list[datetime]:
    """Every instant that the expression names on a local day, in order."""
    if not cron.runs_on(day):
        return []
    walls = (datetime.combine(day, clock_time(hour, minute)) for hour in cron.hours for minute in cron.minutes)
    return sorted({instant for wall in walls for instant in instants_of(wall, zone, twice=cron.every_hour)})


def instants_of(wall: datetime, zone: ZoneInfo, *, twice: bool) -> Iterator[datetime]:
    """The instants at which the zone's clock shows `wall`; for a time in a gap, the gap's end."""
    first, second = (wall.replace(tzinfo=zone, fold=fold).astimezone(UTC) for fold in (0, 1))
    if first > second:
        yield gap_end(zone, second, first)
        return
    yield first
    if twice and second != first:
        yield second


def gap_end(zone: ZoneInfo, before: datetime, after: datetime) -> datetime:
    """The instant in (`before`, `after`] at which the zone's offset changes, to the second."""
    offset = before.astimezone(zone).utcoffset()
    while after - before > timedelta(seconds=1):
        middle = before + (after - before) // 2
        middle = middle.replace(microsecond=0)
        if middle <= before:
            break
        if middle.astimezone(zone).utcoffset() == offset:
            before = middle
        else:
            after = middle
    return after
