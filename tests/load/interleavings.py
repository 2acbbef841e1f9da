"""Random orders of everything that happens to quotas' counters, each step compared with a plain model.

    python -m tests.load.interleavings [--steps 1000000] [--processes 2] [--seed 1]

Steps reserve, extend, settle (twice, as after a lost answer), release, let calls die (time passes and nobody settles),
lose one counter or all of Redis, or have one forgotten as reconciliation does, and build them again from the ledger, on
eight quotas of every window and metric. After each step every counter must say what the model says: so no limit refuses
what fits and none lets in what does not, no charge is lost or counted twice, and what is reserved returns to nothing
when leases end. Nobody uses more than he reserved here, so a hard budget that is exceeded is an overshoot.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import os
import random
import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import uvloop

from shared.ids import TenantId
from shared.quotas.counters import Counters, Reserved, Sums, Wanted
from shared.redis import Script
from shared.redis.connection import connected
from tests.fixtures.servers import redis_server
from tests.shared.quotas.model import LEASE_S, Model
from tests.shared.quotas.test_counters import BEGIN_S, CLOCKED, QUOTAS, Clocked, take

WORLDS = 8
"""At once in a process, each in a numbered database of its own: a world has its own clock."""
STEPS_OF_A_WORLD = 60
NAMES = "abcdefghijkl"
BUDGETS = [quota for quota in QUOTAS if quota.hard and quota.metric == "micro_usd"]


@dataclass
class Tally:
    """What was done, and what was found. Amounts in micro-USD."""

    steps: int = 0
    admitted: int = 0
    refused: int = 0
    overshoot: int = 0
    left_reserved: int = 0


def steps(chance: random.Random, model: Model) -> Iterator[tuple[Any, ...]]:  # Any: steps differ
    for _ in range(STEPS_OF_A_WORLD):
        name, money, tokens = chance.choice(NAMES), chance.randint(0, 150), chance.randint(0, 150)
        kind = chance.choices(
            ("reserve", "extend", "settle", "release", "wait", "lose one", "rebuild", "lose all"),
            (30, 8, 30, 6, 15, 5, 3, 3),
        )[0]
        call = model.calls.get(name)
        if call is not None:
            money, tokens = min(money, call.amounts.get(1, 0)), min(tokens, call.amounts.get(3, 0))
        match kind:
            case "wait":
                yield "wait", chance.choice([1, 2, 10, 30, 46, 61, 200, 3700, 86_400])
            case "release":
                yield "release", name
            case "lose one" | "rebuild":
                yield kind, chance.choice(QUOTAS), name, min(money, tokens) if call is not None else 0
            case "lose all":
                yield ("lose all",)
            case "reserve":
                yield "reserve", name, chance.randint(0, 150), chance.randint(0, 150)
            case "extend":
                yield "extend", name, chance.randint(0, 150), chance.randint(0, 150)
            case _:
                yield "settle", name, money, tokens


async def world(one: Clocked, chance: random.Random, tally: Tally) -> None:
    """One life of one tenant's counters. Raises `AssertionError` where they differ from the model."""
    model = Model(QUOTAS, BEGIN_S + chance.randrange(40 * 86_400))
    await one.at(model.now_s)
    for quota in QUOTAS:
        await one.build(quota, Sums("1:1:", []))
    for step in steps(chance, model):
        before = len(model.calls)
        await take(step, one, model)
        model.sweep()
        figures = await one.figures()
        assert figures == [model.figures(quota) for quota in QUOTAS], step
        tally.steps += 1
        if step[0] == "reserve":
            tally.admitted += len(model.calls) > before
            tally.refused += len(model.calls) == before
        for quota, (used, reserved) in zip(QUOTAS, figures, strict=True):
            if quota in BUDGETS:
                tally.overshoot = max(tally.overshoot, used + reserved - quota.amount)
    model.now_s += LEASE_S
    await one.at(model.now_s)
    told = await one.counters.reserve(one.tenant, "end", [Wanted(quota, 0) for quota in QUOTAS])
    assert isinstance(told, Reserved)
    tally.left_reserved += sum(state.reserved for state in told.states)


async def worlds(url: str, number: int, seed: int, wanted: int, tally: Tally) -> None:
    script, connection = Script(f"{url}/{number}", CLOCKED), await connected(f"{url}/{number}")
    counters, chance = Counters(script, lease_ms=LEASE_S * 1000), random.Random(seed * 1000 + number)
    while tally.steps < wanted:
        await world(Clocked(counters, connection, TenantId(f"t-{secrets.token_hex(6)}")), chance, tally)
        await connection.command("FLUSHDB")
    await script.close()
    connection.close()


def process(seed: int, wanted: int) -> Tally:
    tally = Tally()

    async def run() -> None:
        with redis_server() as server:
            url = server.url.rstrip("/").removesuffix("/0")
            await asyncio.gather(*(worlds(url, number, seed, wanted, tally) for number in range(WORLDS)))

    uvloop.run(run())
    return tally


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=1_000_000)
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began, each = time.monotonic(), -(-options.steps // options.processes)
    with multiprocessing.get_context("spawn").Pool(options.processes) as pool:
        found = pool.starmap(process, [(options.seed + number, each) for number in range(options.processes)])
    of = {name: [getattr(tally, name) for tally in found] for name in Tally.__dataclass_fields__}
    total = {name: sum(values) for name, values in of.items()}
    print(
        f"{total['steps']:,} steps in {time.monotonic() - began:.0f} s; after each, every counter as the model has it"
    )
    print(f"reservations admitted: {total['admitted']:,}, refused: {total['refused']:,}, none of which fitted")
    print(f"overshoot of a hard budget: {max(of['overshoot']):,} micro-USD")
    print(f"reserved after every lease has ended: {total['left_reserved']:,}")


if __name__ == "__main__":
    main()
