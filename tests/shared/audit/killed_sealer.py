"""A sealer that kills itself with SIGKILL after its nth step: `python -m tests.shared.audit.killed_sealer …`.

A step is a statement that PostgreSQL has answered (BEGIN and COMMIT are two), or one line written by the anchor.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import asyncpg

from functions.governance.audit.anchors import append_line
from shared.audit.checkpoint import AuditSigner
from shared.audit.sealer import seal
from shared.ids import TenantId
from shared.postgres import ControlDatabase, Databases, TenantDatabase
from tests.shared.audit.stores import ACME

STATEMENTS = ("execute", "fetch", "fetchrow", "fetchval", "copy_records_to_table")


class Countdown:
    """Kills the process when it reaches nothing."""

    def __init__(self, steps: int) -> None:
        self._left = steps

    def step(self) -> None:
        if self._left == 0:
            os.kill(os.getpid(), signal.SIGKILL)
        self._left -= 1


def count_statements(countdown: Countdown) -> None:
    for name in STATEMENTS:
        setattr(asyncpg.Connection, name, counted(getattr(asyncpg.Connection, name), countdown))


def counted(method: Callable[..., Any], countdown: Countdown) -> Callable[..., Any]:  # Any: the driver's own
    async def call(*arguments: Any, **named: Any) -> Any:
        countdown.step()
        return await method(*arguments, **named)

    return call


async def main(control_dsn: str, own_dsn: str, seed: bytes, outside: Path, steps: int) -> None:
    countdown = Countdown(steps)
    count_statements(countdown)
    databases = Databases(connections_max=4)

    async def anchor(tenant: TenantId, size: int, note: str) -> None:
        countdown.step()
        append_line(outside, size, note)

    own, control = TenantDatabase(ACME, own_dsn, databases), ControlDatabase(control_dsn, databases)
    await seal(ACME, own, control, signer=AuditSigner(seed), anchor=anchor)


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], Path(sys.argv[3]).read_bytes(), Path(sys.argv[4]), int(sys.argv[5])))
