"""Totals from daily sums are those of the ledger's rows, whatever is written, killed or restored meanwhile."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import asyncpg
import pytest

from functions.governance.usage.totals import COUNTS, advance, totals
from shared.postgres import ControlDatabase
from tests.fixtures.control import control_database, migrate
from tests.fixtures.waiting import until

INSERT = """
INSERT INTO usage_ledger (id, started_at, tenant, request_id, model, provider, feature, outcome, input_tokens,
                          usage_known, cost_micro_usd, price_known, tags, saved_micro_usd)
VALUES (gen_random_uuid(), $1, 'acme', 'r', $2, 'p', 'chat', 'done', $3, true, $4, $4::bigint IS NOT NULL, $5, $4)
"""
BEFORE_SAVINGS = """
INSERT INTO usage_ledger (id, started_at, tenant, request_id, model, provider, feature, outcome, input_tokens,
                          usage_known, cost_micro_usd, price_known, tags)
VALUES (gen_random_uuid(), $1, 'acme', 'r', 'm', 'p', 'chat', 'done', $2, true, $2, true, $3)
"""
EXPECTED = """
SELECT count(*) AS calls, coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
       coalesce(sum(output_tokens), 0)::bigint AS output_tokens,
       coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
       coalesce(sum(cost_micro_usd), 0)::bigint AS cost_micro_usd,
       count(*) FILTER (WHERE cost_micro_usd IS NULL) AS calls_of_unknown_price,
       coalesce(sum(saved_micro_usd), 0)::bigint AS saved_micro_usd
FROM usage_ledger
"""
START = datetime(2026, 11, 1, tzinfo=UTC)
CHANCE = random.Random(11)


@pytest.fixture
async def control(postgres_admin_url: str) -> AsyncIterator[ControlDatabase]:
    async with control_database(postgres_admin_url) as control:
        yield control


def entry() -> tuple[datetime, str, int, int | None, list[str] | None]:
    cost = CHANCE.choice([None, CHANCE.randrange(10**6)])
    at = START + timedelta(minutes=CHANCE.randrange(60 * 24 * 30))
    return at, CHANCE.choice(["m1", "m2"]), CHANCE.randrange(10**6), cost, CHANCE.choice([None, [], ["a"], ["a", "b"]])


async def write(control: ControlDatabase, count: int = 1) -> None:
    for _ in range(count):
        await control.execute(INSERT, *entry())


async def check(control: ControlDatabase) -> None:
    """The totals are the sums of the rows. Nothing is written meanwhile."""
    found = await totals(control, by="day")
    expected = await control.fetchrow(EXPECTED)
    assert expected is not None
    assert {name: found.total[name] for name in COUNTS} == dict(expected)
    for name in COUNTS:
        assert sum(row[name] for row in found.groups) == found.total[name]


async def summed(control: ControlDatabase) -> int:
    return int(await control.fetchval("SELECT coalesce(sum(calls), 0)::bigint FROM usage_daily"))


async def advanced(control: ControlDatabase, calls: int) -> None:
    """Advance until so many calls are summed: another transaction of the server may be open for a moment."""

    async def reached() -> bool:
        await advance(control)
        return await summed(control) == calls

    await until(reached)


async def test_sums_and_rows_after_them_are_all_rows(control: ControlDatabase) -> None:
    await write(control, 5)
    await advanced(control, 5)
    await write(control, 3)
    await check(control)
    await advanced(control, 8)
    await advanced(control, 8)
    await check(control)


async def test_a_row_whose_transaction_is_open_while_sums_advance_is_counted_once(control: ControlDatabase) -> None:
    slow = await asyncpg.connect(control.dsn)
    async with slow.transaction():
        await slow.execute(INSERT, *entry())
        await write(control, 4)
        await advance(control)
        assert await summed(control) == 0
        await check(control)
    await slow.close()
    await check(control)
    await advanced(control, 5)
    await check(control)


async def test_sums_that_advance_while_rows_are_written_lose_and_double_none(control: ControlDatabase) -> None:
    writing = [asyncio.create_task(write(control, 60)) for _ in range(3)]
    rounds = 0
    while not all(task.done() for task in writing):
        before = int(await control.fetchval("SELECT count(*) FROM usage_ledger"))
        await asyncio.gather(advance(control), advance(control))
        seen = (await totals(control, by="model")).total["calls"]
        assert before <= seen <= int(await control.fetchval("SELECT count(*) FROM usage_ledger"))
        rounds += 1
    assert rounds > 1
    await check(control)
    await advanced(control, 180)
    await check(control)


async def test_an_advance_that_is_killed_changes_nothing(control: ControlDatabase) -> None:
    await write(control, 5)
    dying = await asyncpg.connect(control.dsn)
    await dying.execute("BEGIN")
    await dying.execute("SELECT usage_daily_advance()")
    await control.execute("SELECT pg_terminate_backend($1)", dying.get_server_pid())
    await check(control)
    await advanced(control, 5)
    await check(control)


async def test_on_another_server_sums_are_made_anew(control: ControlDatabase) -> None:
    """A dump's transaction numbers mean nothing there: its rows may carry numbers yet to come."""
    await write(control, 5)
    await advance(control)
    await control.execute("ALTER TABLE usage_ledger ALTER COLUMN entered SET DEFAULT '999999999999'")
    await write(control, 2)
    await control.execute("ALTER TABLE usage_ledger ALTER COLUMN entered SET DEFAULT pg_current_xact_id()")
    await control.execute("UPDATE usage_daily_mark SET system = 1, upto = '999999'")
    await check(control)
    await write(control, 3)
    await check(control)
    await advanced(control, 10)
    await write(control, 1)
    await advanced(control, 11)
    await check(control)


async def test_sums_of_before_tags_were_summed_are_made_anew_and_no_total_changes(postgres_admin_url: str) -> None:
    async with control_database(postgres_admin_url, before=26) as control:
        for number in range(20):
            tags = ["a", "b"] if number % 2 else None
            await control.execute(BEFORE_SAVINGS, START + timedelta(days=number), number, tags)
        await advanced(control, 20)
        await migrate(control, range(26, 27))
        await check(control)
        await advanced(control, 20)
        await check(control)
        by_tag = {row["group"]: row["calls"] for row in (await totals(control, by="tag")).groups}
        assert by_tag == {"": 10, "a": 10, "b": 10}
