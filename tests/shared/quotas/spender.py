"""A process that spends a budget with many calls at once, until it is killed: `python -m tests.shared.quotas.spender`.

Each call is let in, told to the journal before its model would be asked, takes a few milliseconds, and ends as calls
end. Arguments: PostgreSQL's and Redis's address, journal, calls at once, seed, lease in milliseconds.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys

from shared.errors import Busy, TooManyRequests
from shared.identity import Caller
from shared.ids import KeyId, TenantId
from shared.postgres import ControlDatabase, Databases
from shared.quotas import SCRIPT, Counters, Meter
from shared.redis import Script
from shared.usage import Tokens

TENANT = TenantId("spender")
CALLER = Caller(TENANT, "key:spender", "member", "key", key_id=KeyId("spender"), tags=frozenset({"lab"}))
MODEL = "gpt-4o-mini"
OUTPUT_MOST = 1600  # 960 micro-USD


async def spend(meter: Meter, journal: int, chance: random.Random) -> None:
    """One call after the other."""
    number = 0
    while True:
        most = Tokens(input=0, output=chance.randrange(1, OUTPUT_MOST))
        number += 1
        try:
            call = await meter.begin(CALLER, request_id=f"r{number}", model=MODEL, provider="p", most=most)
        except Busy as refused:
            what = "refused" if isinstance(refused, TooManyRequests) else "unavailable"
            os.write(journal, f"{json.dumps({what: refused.members})}\n".encode())
            await asyncio.sleep(0.02)
            continue
        os.write(journal, f"{json.dumps({'asked': call.call.id.hex})}\n".encode())
        await asyncio.sleep(chance.random() * 0.01)
        await call.durable()
        kind = chance.random()
        used = None if kind < 0.05 else Tokens(output=0 if kind < 0.1 else chance.randrange(most.output + 1))
        meter.end(call, "cut" if used is None else "done", used)


async def main() -> None:
    postgres, redis, journal, at_once, seed, lease_ms = sys.argv[1:]
    control = ControlDatabase(postgres, Databases(connections_max=4))
    meter = Meter(control, Counters(Script(redis, SCRIPT), lease_ms=int(lease_ms)), seen_every_s=int(lease_ms) / 4000)
    told = os.open(journal, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    chance = random.Random(int(seed))
    async with asyncio.TaskGroup() as group:
        for _ in range(int(at_once)):
            group.create_task(spend(meter, told, random.Random(chance.random())))


if __name__ == "__main__":
    asyncio.run(main())
