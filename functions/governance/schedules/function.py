"""Durable schedules: one wake-up a minute becomes one event per due schedule and tenant."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel

from functions.governance.schedules.claims import Declared, claim_due, first_of_minute, schedule_of, sync
from functions.governance.schedules.cron import next_after, parse, zone_of
from shared.clock import Clock
from shared.events import Relay
from shared.function import Function, Minute, Scale
from shared.postgres import ControlDatabase

schedules = Function(scale=Scale(max=2), timeout_s=60)

LIST = """
SELECT schedules.*, (SELECT max(nominal) FROM schedule_ticks WHERE schedule = schedules.name) AS last
FROM schedules WHERE NOT retired ORDER BY name
"""


class ScheduleState(BaseModel):
    """A schedule, when it last fell due and when it will next."""

    name: str
    cron: str
    zone: str
    per: str
    catch_up: str
    last: datetime | None
    next: datetime | None


class Schedules(BaseModel):
    schedules: list[ScheduleState]


class Claimed(BaseModel):
    """How many ticks this wake-up started."""

    claimed: int


@schedules.get("/v1/schedules", permission="schedules:read")
async def list_schedules(control: ControlDatabase, clock: Clock) -> Schedules:
    """Every schedule with its last and next time."""
    return Schedules(schedules=[state_of(row, clock.now()) for row in await control.fetch(LIST)])


@schedules.post("/v1/schedules/tick", permission="schedules:use")
async def tick(control: ControlDatabase, clock: Clock, relay: Relay) -> Claimed:
    """Start whatever is due, and publish what a crash left behind. Any number of callers start each tick once."""
    now = clock.now()
    async with control.transaction() as transaction:
        await sync(transaction, declared(), now)
        claimed = await claim_due(transaction, now)
    await relay.drain(control)
    return Claimed(claimed=claimed)


@schedules.on(Minute())
async def wake(control: ControlDatabase, clock: Clock, relay: Relay) -> None:
    """Start whatever is due, once a minute however often this is called: the caller is not known."""
    now = clock.now()
    async with control.transaction() as transaction:
        if not await first_of_minute(transaction, now):
            return
        await sync(transaction, declared(), now)
        await claim_due(transaction, now)
    await relay.drain(control)


def declared() -> list[Declared]:
    """Every schedule that the functions of the catalog declare."""
    from shared.function import catalog

    return [(one.name, operation.name, every) for one in catalog.find() for operation, every in one.schedules()]


def state_of(row: object, now: datetime) -> ScheduleState:
    schedule = schedule_of(row)
    following = next_after(parse(schedule.cron), zone_of(schedule.zone), max(now, schedule.reached))
    return ScheduleState(
        name=schedule.name,
        cron=schedule.cron,
        zone=schedule.zone,
        per=schedule.per,
        catch_up=schedule.catch_up,
        last=row["last"],  # type: ignore[index]  # an asyncpg record
        next=following,
    )
