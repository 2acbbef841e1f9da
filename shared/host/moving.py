"""A tenant's move in this process, for as long as it takes: `python -m shared.host.moving TENANT SERVER`.

The function that moves tenants has ten minutes for one attempt. This has no limit. It needs a function's settings.
"""

from __future__ import annotations

import asyncio
import sys

from shared.errors import Problem
from shared.ids import PLATFORM, TenantId
from shared.settings import Settings

ACTOR = "host:moving"


async def move_here(settings: Settings, tenant: TenantId, server: str) -> None:
    """Move the tenant, or finish its move. Raises what `TenantRegistry.begin_move` and `move` raise."""
    from shared.function.process import Process
    from shared.function.resources import OPENERS
    from shared.tenancy import TenantRegistry, moving

    process = Process(settings, OPENERS)
    try:
        registry = await process.get(TenantRegistry)
        async with registry.ground.control.transaction() as transaction:
            if await moving.note(registry.ground, transaction, tenant, server):
                details = {"to": server}
                await transaction.audit(
                    "tenancy.move_asked", f"tenant/{tenant}", actor=ACTOR, tenant=PLATFORM, details=details
                )
        await registry.move(tenant)
    finally:
        await process.close()


def main(arguments: list[str]) -> int:
    if len(arguments) != 2:
        sys.stderr.write("usage: python -m shared.host.moving TENANT SERVER\n")
        return 2
    tenant, server = arguments
    try:
        asyncio.run(move_here(Settings.from_environment(), TenantId(tenant), server))
    except Problem as problem:
        sys.stderr.write(f"{problem.detail}\n")
        return 1
    sys.stdout.write(f"tenant {tenant} is on server {server}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
