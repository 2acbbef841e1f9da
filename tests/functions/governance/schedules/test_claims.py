"""Claiming ticks in a real control database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any, Literal

import pytest

from functions.governance.schedules.claims import Declared, Schedule, claim_due, due, sync
from shared.events import CloudEvent
from shared.function.declaration import Every
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from tests.fixtures.control import add_tenant, control_database

START = datetime(2026, 3, 29, 0, 0, 30, tzinfo=UTC)
HOURLY: Declared = ("governance-x", "clean", Every("0 * * * *"))


@pytest.fixture
async def control(postgres_admin_url: str) -> AsyncIterator[ControlDatabase]:
    async with control_database(postgres_admin_url) as control:
        yield control


async def wake(control: ControlDatabase, declared: list[Declared], now: datetime) -> int:
    async with control.transaction() as transaction:
        await sync(transaction, declared, now)
        return await claim_due(transaction, now)


async def emitted(control: ControlDatabase) -> list[CloudEvent]:
    return [CloudEvent.from_json(row["event"]) for row in await control.fetch("SELECT event FROM outbox ORDER BY id")]


async def nominals(control: ControlDatabase) -> list[str]:
    return [event.time.strftime("%H:%M") for event in await emitted(control)]


async def test_nothing_is_due_when_a_schedule_is_first_seen(control: ControlDatabase) -> None:
    assert await wake(control, [HOURLY], START) == 0
    assert await emitted(control) == []


async def test_a_due_schedule_emits_one_event_with_its_nominal_time(control: ControlDatabase) -> None:
    await wake(control, [HOURLY], START)
    assert await wake(control, [HOURLY], START + timedelta(hours=1)) == 1
    assert await wake(control, [HOURLY], START + timedelta(hours=1, minutes=1)) == 0
    [event] = await emitted(control)
    assert event.type == "dcoder.schedule.due"
    assert event.tenant == "platform"
    assert event.data == {"function": "governance-x", "operation": "clean", "nominal": "2026-03-29T01:00:00Z"}


async def test_many_schedulers_at_once_have_one_effect(control: ControlDatabase) -> None:
    await wake(control, [HOURLY], START)
    claimed = await asyncio.gather(*(wake(control, [HOURLY], START + timedelta(hours=1)) for _ in range(6)))
    assert sum(claimed) == 1
    assert len(await emitted(control)) == 1


async def test_a_tick_is_claimed_once_even_when_the_schedule_forgot_how_far_it_was(control: ControlDatabase) -> None:
    await wake(control, [HOURLY], START)
    await wake(control, [HOURLY], START + timedelta(hours=1))
    await control.execute("UPDATE schedules SET reached = $1", START)
    assert await wake(control, [HOURLY], START + timedelta(hours=1)) == 0


async def test_a_crash_before_the_commit_leaves_the_tick_due(control: ControlDatabase) -> None:
    await wake(control, [HOURLY], START)
    later = START + timedelta(hours=1)

    async def crash() -> None:
        async with control.transaction() as transaction:
            assert await claim_due(transaction, later) == 1
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await crash()
    assert await wake(control, [HOURLY], later) == 1


async def test_a_schedule_per_tenant_reaches_every_ready_tenant(control: ControlDatabase) -> None:
    for tenant, state in (("acme", "ready"), ("beta", "ready"), ("gone", "deleted"), ("new", "creating")):
        await add_tenant(control, TenantId(tenant), state)
    declared: list[Declared] = [("knowledge-documents", "reconcile", Every("*/15 * * * *", per="tenant"))]
    await wake(control, declared, START)
    assert await wake(control, declared, START + timedelta(minutes=15)) == 2
    assert [event.tenant for event in await emitted(control)] == ["acme", "beta"]


@pytest.mark.parametrize(
    ("catch_up", "expected"),
    [("skip", []), ("once", ["05:00"]), ("all", ["01:00", "02:00", "03:00", "04:00", "05:00"])],
)
async def test_after_an_outage_each_schedule_follows_its_policy(
    control: ControlDatabase, catch_up: Literal["skip", "once", "all"], expected: list[str]
) -> None:
    declared: list[Declared] = [("f", "o", Every("0 * * * *", catch_up=catch_up))]
    await wake(control, declared, START)
    await wake(control, declared, START + timedelta(hours=5, minutes=20))
    assert await nominals(control) == expected


async def test_skipped_ticks_stay_skipped(control: ControlDatabase) -> None:
    declared: list[Declared] = [("f", "o", Every("0 * * * *", catch_up="skip"))]
    await wake(control, declared, START)
    await wake(control, declared, START + timedelta(hours=5, minutes=20))
    await wake(control, declared, START + timedelta(hours=6))
    assert await nominals(control) == ["06:00"]


async def test_a_clock_that_jumps_ahead_and_back_fires_nothing_twice(control: ControlDatabase) -> None:
    await wake(control, [HOURLY], START)
    await wake(control, [HOURLY], START + timedelta(hours=3))
    assert await wake(control, [HOURLY], START + timedelta(hours=1)) == 0
    assert await wake(control, [HOURLY], START + timedelta(hours=3)) == 0
    assert await wake(control, [HOURLY], START + timedelta(hours=4)) == 1
    assert await nominals(control) == ["03:00", "04:00"]


async def test_a_schedule_that_is_no_longer_declared_rests_and_does_not_catch_up_later(
    control: ControlDatabase,
) -> None:
    await wake(control, [HOURLY], START)
    assert await wake(control, [], START + timedelta(hours=2)) == 0
    assert await wake(control, [HOURLY], START + timedelta(hours=4)) == 0
    assert await wake(control, [HOURLY], START + timedelta(hours=5)) == 1


async def test_a_changed_expression_counts_from_the_change(control: ControlDatabase) -> None:
    await wake(control, [HOURLY], START)
    changed: list[Declared] = [("governance-x", "clean", Every("*/10 * * * *", catch_up="all"))]
    assert await wake(control, changed, START + timedelta(hours=2)) == 0
    assert await wake(control, changed, START + timedelta(hours=2, minutes=10)) == 1


def schedule(**changes: Any) -> Schedule:
    plain = Schedule("f.o", "f", "o", "* * * * *", "platform", "Europe/Berlin", "all", START)
    return replace(plain, **changes)


def test_catching_up_on_everything_is_bounded() -> None:
    ticks, reached = due(schedule(), START + timedelta(days=3))
    assert len(ticks) == 100
    assert reached == ticks[-1]


@pytest.mark.parametrize(("night", "nominal"), [("2026-03-29", "01:00"), ("2026-10-25", "00:30")])
def test_a_job_in_a_night_of_a_jump_is_due_once(night: str, nominal: str) -> None:
    midnight = datetime.fromisoformat(f"{night}T00:00:00+00:00") - timedelta(hours=2)
    state, fired = schedule(cron="30 2 * * *", reached=midnight), []
    for minute in range(6 * 60):
        ticks, reached = due(state, midnight + timedelta(minutes=minute))
        fired += ticks
        state = replace(state, reached=reached)
    assert [tick.strftime("%H:%M") for tick in fired] == [nominal]
