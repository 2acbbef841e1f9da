"""Moves tenants in child processes that kill themselves: a line `TENANT STEP` on stdin kills one after that step.

The answer is a line with the child's exit status. The children are forked, so that a kill costs no start of Python.
The steps are those of a move, and those that drop what it left.
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
from shared.tenancy import TenantRegistry, moving
from shared.tenancy.moving import DropStep, Move, Step
from shared.tenancy.saga import Ground


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def deadly(step: Step) -> Step:
    async def killed(ground: Ground, move: Move) -> None:
        await step(ground, move)
        die()

    return killed


def deadly_drop(step: DropStep) -> DropStep:
    async def killed(ground: Ground, tenant: TenantId, server: str) -> None:
        await step(ground, tenant, server)
        die()

    return killed


async def move(tenant: TenantId, last: str) -> None:
    process = Process(replace(Settings.from_environment(), connections_max=4), OPENERS)
    registry = await process.get(TenantRegistry)
    steps = [(name, deadly(step) if name == last else step) for name, step in moving.STEPS]
    leftover = [(name, deadly_drop(step) if name == last else step) for name, step in moving.LEFTOVER]
    await moving.run(registry.ground, tenant, steps, leftover)


def main() -> None:
    for line in sys.stdin:
        tenant, last = line.split()
        child = os.fork()
        if child == 0:
            asyncio.run(move(TenantId(tenant), last))
            os._exit(0)
        _, status = os.waitpid(child, 0)
        sys.stdout.write(f"{os.waitstatus_to_exitcode(status)}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
