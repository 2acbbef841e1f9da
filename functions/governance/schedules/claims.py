"""Claiming: which ticks are due, who gets them, and the rows and events that make each happen once."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Literal

from functions.governance.schedules.cron import latest, parse, zone_of
from shared.events import CloudEvent
from shared.events.cloudevent import rendered_time
from shared.events.subjects import SCHEDULE_DUE
from shared.function.declaration import Every
from shared.ids import PLATFORM, TenantId

if TYPE_CHECKING:
    from shared.postgres import ControlTransaction

CATCH_UP_TICKS_MAX = 100
ON_TIME = timedelta(seconds=90)
"""A tick older than this was missed: the timer calls once a minute."""
TICKS_KEPT = timedelta(days=14)
SOURCE = "/dcoder/governance/schedules"

SYNC = """
INSERT INTO schedules (name, function, operation, cron, per, zone, catch_up, reached)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (name) DO UPDATE SET
    cron = excluded.cron, per = excluded.per, zone = excluded.zone, catch_up = excluded.catch_up,
    reached = CASE WHEN schedules.retired OR (schedules.cron, schedules.zone) <> (excluded.cron, excluded.zone)
                   THEN greatest(schedules.reached, excluded.reached) ELSE schedules.reached END,
    retired = false
WHERE (schedules.cron, schedules.per, schedules.zone, schedules.catch_up, schedules.retired)
   <> (excluded.cron, excluded.per, excluded.zone, excluded.catch_up, false)
"""
RETIRE = "UPDATE schedules SET retired = true WHERE NOT retired AND name <> ALL($1::text[])"
LOCK = "SELECT * FROM schedules WHERE NOT retired ORDER BY name FOR UPDATE"
READY_TENANTS = "SELECT id FROM tenants WHERE state IN ('ready', 'moving') ORDER BY id"
CLAIM = """
INSERT INTO schedule_ticks (schedule, nominal, tenant)
SELECT $1, nominal, tenant FROM unnest($2::timestamptz[]) nominal CROSS JOIN unnest($3::text[]) tenant
ON CONFLICT DO NOTHING RETURNING nominal, tenant
"""
WOKEN = "governance-schedules.wake"
FIRST = (
    "INSERT INTO schedule_ticks (schedule, nominal, tenant) VALUES ($1, $2, $3) ON CONFLICT DO NOTHING RETURNING true"
)
REACH = "UPDATE schedules SET reached = $2 WHERE name = $1"
FORGET = "DELETE FROM schedule_ticks WHERE claimed_at < $1"


@dataclass(frozen=True)
class Schedule:
    """A schedule and how far it has come: ticks up to `reached` are decided."""

    name: str
    function: str
    operation: str
    cron: str
    per: Literal["platform", "tenant"]
    zone: str
    catch_up: Literal["skip", "once", "all"]
    reached: datetime


Declared = tuple[str, str, Every]
"""Function, operation and when."""


def due(schedule: Schedule, now: datetime) -> tuple[list[datetime], datetime]:
    """The nominal times to run now, by the catch-up policy, and how far the schedule has come with that.

    A clock that went back finds nothing due until it has passed `reached` again.
    """
    ticks = latest(parse(schedule.cron), zone_of(schedule.zone), schedule.reached, now, CATCH_UP_TICKS_MAX)
    if not ticks:
        return [], schedule.reached
    if schedule.catch_up == "all":
        return ticks, ticks[-1]
    if schedule.catch_up == "once":
        return ticks[-1:], ticks[-1]
    return [tick for tick in ticks if now - tick <= ON_TIME], ticks[-1]


def due_event(schedule: Schedule, tenant: TenantId, nominal: datetime) -> CloudEvent:
    """The event of one tick. Its id follows from schedule, tenant and nominal time."""
    spelled = rendered_time(nominal)
    return CloudEvent(
        id=f"tick.{schedule.name}.{spelled}.{tenant}",
        source=SOURCE,
        type=SCHEDULE_DUE,
        subject=schedule.name,
        tenant=tenant,
        time=nominal,
        data={"function": schedule.function, "operation": schedule.operation, "nominal": spelled},
    )


async def sync(transaction: ControlTransaction, declared: Iterable[Declared], now: datetime) -> None:
    """Make the schedules' rows what the catalog declares. A new or changed one starts from `now`."""
    names = []
    for function, operation, every in declared:
        parse(every.cron)
        zone_of(every.zone)
        name = f"{function}.{operation}"
        names.append(name)
        await transaction.execute(
            SYNC, name, function, operation, every.cron, every.per, every.zone, every.catch_up, now
        )
    await transaction.execute(RETIRE, names)


async def first_of_minute(transaction: ControlTransaction, now: datetime) -> bool:
    """Claim the minute that `now` is in; False when it was claimed. Cron's minutes begin at second 0, so whatever falls
    due in a minute is due for the first that comes in it, and a later one would find nothing."""
    minute = now.replace(second=0, microsecond=0)
    return bool(await transaction.fetchval(FIRST, WOKEN, minute, str(PLATFORM)))


async def claim_due(transaction: ControlTransaction, now: datetime) -> int:
    """Claim everything due and emit its events in the same transaction; the number of ticks that fell to us."""
    schedules = [schedule_of(row) for row in await transaction.fetch(LOCK)]
    tenants: Sequence[TenantId] | None = None
    claimed = 0
    for schedule in schedules:
        nominals, reached = due(schedule, now)
        if nominals and schedule.per == "tenant" and tenants is None:
            tenants = [TenantId(row["id"]) for row in await transaction.fetch(READY_TENANTS)]
        if nominals:
            recipients = [PLATFORM] if schedule.per == "platform" else tenants or []
            claimed += await claim(transaction, schedule, nominals, recipients)
        if reached > schedule.reached:
            await transaction.execute(REACH, schedule.name, reached)
    await transaction.execute(FORGET, now - TICKS_KEPT)
    return claimed


async def claim(
    transaction: ControlTransaction, schedule: Schedule, nominals: Sequence[datetime], tenants: Sequence[TenantId]
) -> int:
    rows = await transaction.fetch(CLAIM, schedule.name, list(nominals), [str(tenant) for tenant in tenants])
    for row in sorted(rows, key=lambda row: (row["nominal"], row["tenant"])):
        await transaction.emit(due_event(schedule, TenantId(row["tenant"]), row["nominal"]))
    return len(rows)


def schedule_of(row: object) -> Schedule:
    """A row of `schedules` as a value."""
    from collections.abc import Mapping
    from typing import Any, cast

    columns = cast("Mapping[str, Any]", row)  # Any: column types are the table's
    return Schedule(**{name: columns[name] for name in Schedule.__dataclass_fields__})
