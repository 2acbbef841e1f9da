"""Four processes with two hundred calls each spend one budget, and are killed at any moment: it is never overspent."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from shared.postgres import ControlDatabase
from shared.quotas import SCRIPT, Counters, Meter
from shared.quotas.counters import State
from shared.quotas.stored import StoredQuotas
from shared.redis import Script
from shared.redis.connection import connected
from tests.fixtures.control import add_tenant, control_database
from tests.fixtures.waiting import until
from tests.shared.quotas.spender import OUTPUT_MOST, TENANT

ROOT = Path(__file__).resolve().parents[3]
PROCESSES, AT_ONCE = 4, 200
LEASE_MS = 4000
BUDGET = 2_500_000
DEAREST = OUTPUT_MOST * 6 // 10
LIMITS = [
    *(("tenant", "", "micro_usd", "calendar:month", BUDGET), ("key", "spender", "micro_usd", "ever", 10**12)),
    *(("tag", "lab", "tokens", "calendar:week", 10**12), ("model", "gpt-4o-mini", "tokens", "rolling:3600", 10**12)),
    *(("tenant", "", "requests", "rolling:60", 10**9), ("key", "spender", "requests", "calendar:day", 10**9)),
    *(("tenant", "", "parallel", "ever", PROCESSES * AT_ONCE), ("tag", "lab", "micro_usd", "rolling:86400", 10**12)),
]


@dataclass
class Bench:
    """The stores, and the processes that spend."""

    control: ControlDatabase
    redis_url: str
    journal: Path
    meter: Meter
    running: list[asyncio.subprocess.Process]

    async def start(self, seed: int) -> None:
        arguments = [self.control.dsn, self.redis_url, str(self.journal), str(AT_ONCE), str(seed), str(LEASE_MS)]
        program = [sys.executable, "-m", "tests.shared.quotas.spender", *arguments]
        self.running.append(await asyncio.create_subprocess_exec(*program, cwd=ROOT))

    async def kill(self, process: asyncio.subprocess.Process) -> None:
        self.running.remove(process)
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(signal.SIGKILL)
        await process.wait()

    async def states(self) -> list[State]:
        return await self.meter.building.states(TENANT, (await StoredQuotas(self.control).of(TENANT)).quotas)

    def told(self, what: str) -> list[Any]:  # Any: JSON
        lines = [json.loads(line) for line in self.journal.read_text().splitlines()]
        return [line[what] for line in lines if what in line]


@pytest.fixture
async def bench(postgres_admin_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Bench]:
    async with control_database(postgres_admin_url) as control, emptied(redis_url):
        await add_tenant(control, TENANT)
        for limit in LIMITS:
            await control.execute(
                "INSERT INTO quotas (tenant, scope, name, metric, span, amount, by_operator, created_by, created_at)"
                " VALUES ('spender', $1, $2, $3, $4, $5, true, 'test', now() - interval '1 minute')",
                *limit,
            )
        meter = Meter(control, Counters(Script(redis_url, SCRIPT), lease_ms=LEASE_MS))
        bench = Bench(control, redis_url, tmp_path / "journal", meter, [])
        try:
            yield bench
        finally:
            for process in list(bench.running):
                await bench.kill(process)
            await meter.close()


@asynccontextmanager
async def emptied(redis_url: str) -> AsyncIterator[None]:
    connection = await connected(redis_url)
    await connection.command("FLUSHALL")
    yield
    connection.close()


async def spent(bench: Bench) -> bool:
    """Whether there may be no room for the dearest call."""
    budget = (await bench.states())[0]
    return budget.used + budget.reserved > BUDGET - 4 * DEAREST


async def test_no_budget_is_overspent_whoever_is_killed_and_no_call_is_lost_or_counted_twice(bench: Bench) -> None:
    chance = random.Random(3)
    seeds = iter(range(1000))
    for _ in range(PROCESSES):
        await bench.start(next(seeds))
    kills = 0
    while kills < 8 and not await spent(bench):
        await asyncio.sleep(0.5 + chance.random())
        await bench.kill(chance.choice(bench.running))
        await bench.start(next(seeds))
        kills += 1
    await until(lambda: spent(bench), 90)
    await asyncio.sleep(1)
    for process in list(bench.running):
        await bench.kill(process)
    await asyncio.sleep(LEASE_MS / 1000)

    async def nothing_reserved() -> bool:  # each look sweeps twenty, as every reservation does
        return [state.reserved for state in await bench.states()] == [0] * len(LIMITS)

    await until(nothing_reserved, 5)

    async def swept() -> bool:
        await bench.meter.sweep(dead_after_s=LEASE_MS / 1000)
        return not await bench.meter._counters.dead(TENANT)

    await until(swept)
    ledger = await bench.control.fetch("SELECT id, outcome, charged_micro_usd FROM usage_ledger")
    rows = Counter(row["id"].hex for row in ledger)
    charged = sum(row["charged_micro_usd"] for row in ledger)
    budget = (await bench.states())[0]
    assert kills >= 3
    assert charged <= BUDGET, f"overspent by {charged - BUDGET} micro-USD"
    assert charged >= 0.95 * BUDGET
    assert budget == State(charged, 0, budget.ends_ms)
    assert set(rows.values()) == {1}
    assert set(bench.told("asked")) <= set(rows), "a call was made that the ledger does not have"
    assert await bench.control.fetchval("SELECT count(*) FROM usage_open") == 0
    assert any(row["outcome"] == "unknown" for row in ledger)
    for refused in bench.told("refused"):
        assert refused["used"] + refused["reserved"] + refused["wanted"] > refused["limit"]
