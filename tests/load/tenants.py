"""Creating tenants, and the connections that many of them take.

    python -m tests.load.tenants [--tenants 200]

A tenant counts as created when its saga has ended and a first statement on its own database was answered.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from dataclasses import replace

from shared.function.process import Process
from shared.function.resources import OPENERS
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.platform import scratch_platform

CONNECTIONS_MAX = 40
AT_ONCE = 100


async def create(registry: TenantRegistry, count: int) -> list[float]:
    """Seconds from the order to the first answered statement, one tenant after the other."""
    seconds = []
    for number in range(count):
        began = time.perf_counter()
        tenant = await registry.create(f"tenant-{number:04d}")
        await (await registry.database(tenant.id)).execute("SELECT 1")
        seconds.append(time.perf_counter() - began)
    return sorted(seconds)


async def use_all(registry: TenantRegistry, control: ControlDatabase, count: int) -> tuple[int, float]:
    """Every tenant's database asked five times, many at once. Returns the most connections seen, and statements/s."""
    peak = 0
    slots = asyncio.Semaphore(AT_ONCE)
    began = time.perf_counter()

    async def use(number: int) -> None:
        nonlocal peak
        database = await registry.database(TenantId(f"tenant-{number:04d}"))
        for _ in range(5):
            async with slots:
                await database.fetchval("SELECT count(*) FROM documents")
        peak = max(peak, int(await control.fetchval("SELECT count(*) FROM pg_stat_activity WHERE datname IS NOT NULL")))

    await asyncio.gather(*(use(number) for number in range(count)))
    return peak, count * 5 / (time.perf_counter() - began)


async def measure(settings: Settings, count: int) -> None:
    process = Process(replace(settings, connections_max=CONNECTIONS_MAX - 4), OPENERS)
    registry = await process.get(TenantRegistry)
    seconds = await create(registry, count)
    peak, rate = await use_all(registry, await process.get(ControlDatabase), count)
    await process.close()
    middle, tail = seconds[len(seconds) // 2], seconds[int(len(seconds) * 0.95)]
    print(f"{os.cpu_count()} cores; PostgreSQL with fsync")
    print(f"{count} tenants created   p50 {middle * 1000:.0f} ms   p95 {tail * 1000:.0f} ms   bar p95 250 ms")
    print(f"{count} tenants in use    at most {peak} connections, {rate:,.0f} statements/s   bar 40 connections")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tenants", type=int, default=200)
    options = parser.parse_args()
    with scratch_platform(durable=True) as platform:
        asyncio.run(measure(platform.settings, options.tenants))


if __name__ == "__main__":
    main()
