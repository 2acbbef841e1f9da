"""A process that makes a tenant's key of the object store and is killed before it keeps it: `killed_key.py TENANT`.

The settings come from the environment, as a function's do. It prints the key that nobody kept.
"""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys

from shared.function.process import Process
from shared.function.resources import OPENERS
from shared.ids import TenantId
from shared.objects import ObjectKey
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry


async def main(tenant: TenantId) -> None:
    process = Process(Settings.from_environment(), OPENERS)
    registry, control = await process.get(TenantRegistry), await process.get(ControlDatabase)
    make = registry.ground.buckets.make_key

    async def make_and_die(tenant: TenantId) -> ObjectKey | None:
        made = await make(tenant)
        assert made is not None
        print(json.dumps([made.access_key, made.secret_key]), flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
        return made

    registry.ground.buckets.make_key = make_and_die  # type: ignore[method-assign]  # the point of death
    async with control.transaction() as transaction:
        await registry.ensure_object_key(transaction, tenant)


if __name__ == "__main__":
    asyncio.run(main(TenantId(sys.argv[1])))
