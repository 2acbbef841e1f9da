"""Cron arithmetic, also on the nights on which clocks jump."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from croniter import croniter
from hypothesis import given, settings
from hypothesis import strategies as st

from functions.governance.schedules.cron import latest, next_after, parse, zone_of
from shared.errors import Invalid

BERLIN = ZoneInfo("Europe/Berlin")
UTC_ZONE = ZoneInfo("UTC")


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def between(expression: str, zone: ZoneInfo, after: str, until: str) -> list[str]:
    found = latest(parse(expression), zone, at(after), at(until), 100)
    return [instant.strftime("%m-%d %H:%M") for instant in found]


@pytest.mark.parametrize("day", ["2026-03-29", "2027-03-28"])
def test_a_time_in_the_spring_gap_runs_once_when_the_gap_ends(day: str) -> None:
    ran = between("30 2 * * *", BERLIN, f"{day}T00:00", f"{day}T12:00")
    assert ran == [f"{day[5:]} 01:00"]  # 03:00 in Berlin


@pytest.mark.parametrize("day", ["2026-10-25", "2027-10-31"])
def test_a_time_that_comes_twice_in_autumn_runs_the_first_time_only(day: str) -> None:
    ran = between("30 2 * * *", BERLIN, f"{day[:8]}{int(day[8:]) - 1}T12:00", f"{day}T12:00")
    assert ran == [f"{day[5:]} 00:30"]  # 02:30 summer time


def test_a_job_of_every_half_hour_is_never_silent_for_an_hour() -> None:
    assert len(between("*/30 * * * *", BERLIN, "2026-10-24T22:00", "2026-10-25T04:00")) == 12
    assert len(between("*/30 * * * *", BERLIN, "2026-03-28T22:00", "2026-03-29T04:00")) == 12


def test_times_in_the_gap_and_at_its_end_are_one_run() -> None:
    assert between("0,30 2,3 * * *", BERLIN, "2026-03-29T00:00", "2026-03-29T12:00") == ["03-29 01:00", "03-29 01:30"]


def test_a_daily_job_keeps_its_local_time_across_a_jump() -> None:
    ran = between("0 9 * * *", BERLIN, "2026-03-28T00:00", "2026-03-30T00:00")
    assert ran == ["03-28 08:00", "03-29 07:00"]


def test_a_zone_that_jumps_by_half_an_hour_is_right_too() -> None:
    ran = between("15 2 * * *", ZoneInfo("Australia/Lord_Howe"), "2026-10-03T00:00", "2026-10-04T00:00")
    assert ran == ["10-03 15:30"]  # 02:15 does not exist on 4 October; 02:30 does


def test_two_restricted_day_fields_mean_either() -> None:
    ran = between("0 0 13 * fri", UTC_ZONE, "2026-11-01T00:00", "2026-11-30T23:59")
    assert ran == ["11-06 00:00", "11-13 00:00", "11-20 00:00", "11-27 00:00"]
    ran = between("0 0 1 * mon", UTC_ZONE, "2026-11-01T00:00", "2026-12-01T23:59")
    assert ran == ["11-02 00:00", "11-09 00:00", "11-16 00:00", "11-23 00:00", "11-30 00:00", "12-01 00:00"]


def test_the_29th_of_february_is_found_across_a_century_without_one() -> None:
    found = next_after(parse("0 0 29 2 *"), UTC_ZONE, at("2096-03-01T00:00"))
    assert found == at("2104-02-29T00:00")


@pytest.mark.parametrize(
    ("expression", "after", "due"),
    [
        ("0 0 */7 1 0", "2023-02-01T00:00", "2034-01-01T00:00"),
        ("0 0 */28 2 0", "2032-03-01T00:00", "2037-02-01T00:00"),
        ("0 0 29 2 */7", "2088-03-01T00:00", "2128-02-29T00:00"),
    ],
)
def test_a_date_that_falls_on_its_weekday_once_in_decades_is_found(expression: str, after: str, due: str) -> None:
    assert next_after(parse(expression), UTC_ZONE, at(after)) == at(due)


def test_a_long_outage_costs_no_more_than_the_limit() -> None:
    found = latest(parse("* * * * *"), UTC_ZONE, at("2000-01-01T00:00"), at("2026-01-01T00:00"), 100)
    assert len(found) == 100
    assert found[-1] == at("2026-01-01T00:00")


@pytest.mark.parametrize(
    "expression",
    ["", "* * * *", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *", "* * * * 8", "*/0 * * * *", "5-1 * * * *",
     "a * * * *", "1,, * * * *", "0 0 31 2 *", "0 0 30 feb *", "@never", "² * * * *", "-1 * * * *"],
)  # fmt: skip
def test_an_expression_that_cannot_come_due_is_refused(expression: str) -> None:
    with pytest.raises(Invalid):
        parse(expression)


def test_an_unknown_zone_is_refused() -> None:
    for name in ("Mars/Olympus", "", "../etc/passwd"):
        with pytest.raises(Invalid):
            zone_of(name)


def fields(low: int, high: int) -> st.SearchStrategy[str]:
    numbers = st.integers(low, high)
    pairs = st.tuples(numbers, numbers).filter(lambda pair: pair[0] != pair[1])  # croniter reads `0-0` as every day
    spans = pairs.map(lambda pair: f"{min(pair)}-{max(pair)}")
    steps = st.tuples(st.just("*") | spans, st.integers(1, max(1, high // 2))).map(lambda pair: f"{pair[0]}/{pair[1]}")
    return st.just("*") | st.lists(numbers.map(str) | spans | steps, min_size=1, max_size=3).map(",".join)


expressions = st.tuples(fields(0, 59), fields(0, 23), fields(1, 28), fields(1, 12), fields(0, 6)).map(" ".join)
moments = st.datetimes(datetime(2020, 1, 1), datetime(2040, 1, 1), timezones=st.just(UTC))


@given(expressions, moments)
def test_in_utc_the_next_time_is_the_one_that_croniter_finds(expression: str, after: datetime) -> None:
    fields_of_days = (expression.split()[2], expression.split()[4])
    if any("*" in one and one != "*" for one in fields_of_days):
        return  # croniter and POSIX differ on whether `*/2` restricts a day field
    expected = croniter(expression, after).get_next(datetime)
    assert next_after(parse(expression), UTC_ZONE, after) == expected


@settings(max_examples=50)
@given(expressions, moments, st.sampled_from(["Europe/Berlin", "America/Sao_Paulo", "Australia/Lord_Howe", "UTC"]))
def test_next_and_latest_agree_in_every_zone(expression: str, after: datetime, zone_name: str) -> None:
    cron, zone = parse(expression), ZoneInfo(zone_name)
    first = next_after(cron, zone, after)
    assert first is not None
    assert first > after
    assert latest(cron, zone, after, first, 5) == [first]
    assert latest(cron, zone, after, first - timedelta(seconds=1), 5) == []
