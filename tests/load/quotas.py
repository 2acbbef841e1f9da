"""What admission costs: one reservation on eight counters in Redis, and its settlement.

    python -m tests.load.quotas [--calls 20000]

Of the counters three are rolling and five by the calendar or without end. One call at a time, then 64 at once.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from uuid import uuid4

import uvloop

from shared.ids import TenantId
from shared.quotas import SCRIPT, Counters
from shared.quotas.counters import Reserved, Row, Sums, Wanted
from shared.quotas.limits import AMOUNT_MAX, Quota
from shared.redis import Script
from shared.usage import Charge
from tests.fixtures.servers import redis_server

TENANT = TenantId("bench")
CALL = "x" * 300  # as long as what a real call has kept beside its reservation
LIMITS = (
    *(("tenant", "micro_usd", "calendar:month"), ("key", "micro_usd", "calendar:day"), ("tag", "micro_usd", "ever")),
    *(("model", "micro_usd", "calendar:week"), ("key", "requests", "rolling:60"), ("key", "tokens", "rolling:60")),
    *(("tenant", "tokens", "rolling:3600"), ("key", "parallel", "ever")),
)
QUOTAS = [
    Quota(number, scope, "", metric, window, AMOUNT_MAX, True)  # type: ignore[arg-type]  # literals of the table above
    for number, (scope, metric, window) in enumerate(LIMITS)
]


async def built(counters: Counters) -> None:
    for quota in QUOTAS:
        builder = uuid4().hex
        await counters.build(TENANT, quota, builder)
        await counters.install(TENANT, quota, builder, Sums("1:1:", []))


async def admission(counters: Counters) -> tuple[float, float]:
    """Milliseconds to reserve and to settle one call."""
    wanted = [Wanted(quota, Charge(500, 1000).of(quota.metric)) for quota in QUOTAS]
    name = uuid4().hex
    began = time.perf_counter()
    told = await counters.reserve(TENANT, name, wanted, CALL)
    reserved = time.perf_counter()
    assert isinstance(told, Reserved), told
    await counters.settle(TENANT, Row(name, 2, told.at_us, Charge(300, 600)), QUOTAS)
    return (reserved - began) * 1000, (time.perf_counter() - reserved) * 1000


async def measured(counters: Counters, *, calls: int, at_once: int) -> None:
    async def some() -> list[tuple[float, float]]:
        return [await admission(counters) for _ in range(calls // at_once)]

    began = time.perf_counter()
    found = [pair for part in await asyncio.gather(*(some() for _ in range(at_once))) for pair in part]
    rate = len(found) / (time.perf_counter() - began)
    print(f"{at_once} at once: {rate:,.0f} calls reserved and settled a second")
    for name, column in zip(("reserve", "settle"), zip(*found, strict=True), strict=True):
        ordered = sorted(column)
        p50, p99 = (ordered[int(len(ordered) * share)] for share in (0.5, 0.99))
        print(f"  {name:<8} p50 {p50:.3f} ms   p99 {p99:.3f} ms")


async def run(url: str, calls: int) -> None:
    counters = Counters(Script(url, SCRIPT))
    await built(counters)
    await measured(counters, calls=2000, at_once=1)  # warms up
    print(f"{os.cpu_count()} cores; {calls} calls, {len(QUOTAS)} counters each")
    for at_once in (1, 64):
        await measured(counters, calls=calls, at_once=at_once)
    await counters.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=20_000)
    options = parser.parse_args()
    with redis_server() as server:
        uvloop.run(run(server.url, options.calls))


if __name__ == "__main__":
    main()
