"""A process that creates or deletes a tenant and is killed at a given point: `killed_saga.py WHAT STEP before|after`.

The settings come from the environment, as a function's do.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace

from shared.function.process import Process
from shared.function.resources import OPENERS
from shared.ids import TenantId
from shared.settings import Settings
from shared.tenancy import TenantRegistry, saga
from shared.tenancy.saga import Ground, Step


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(step: Step, when: str) -> Step:
    async def killed(ground: Ground, tenant: TenantId) -> None:
        if when == "before":
            die()
        await step(ground, tenant)
        die()

    return killed


async def main(what: str, step_name: str, when: str) -> None:
    process = Process(replace(Settings.from_environment(), connections_max=4), OPENERS)
    registry = await process.get(TenantRegistry)
    chosen = saga.CREATION if what == "create" else saga.DELETION
    steps = tuple((name, deadly(step, when) if name == step_name else step) for name, step in chosen.steps)
    await saga.run(registry.ground, TenantId(sys.argv[4]), replace(chosen, steps=steps))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], sys.argv[3]))
