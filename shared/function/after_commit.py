"""What a commit sets going: its events to the stream, its audit records to the sealer. Coalesced, never awaited.

A process killed before this ran loses nothing: the rows are in the outboxes, and the schedules sweep them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from shared.ids import TenantId
from shared.telemetry import log

COALESCE_S = 0.05
RESTART_S = 0.5

Work = Callable[[TenantId], Awaitable[None]]


class Coalesced:
    """Runs `work(tenant)` soon after it was asked for: once at a time per tenant, and again if asked meanwhile."""

    def __init__(self, work: Work, *, delay_s: float = COALESCE_S) -> None:
        self._work = work
        self._delay_s = delay_s
        self._asked: set[TenantId] = set()
        self._running: dict[TenantId, asyncio.Task[None]] = {}

    def ask(self, tenant: TenantId) -> None:
        self._asked.add(tenant)
        if tenant not in self._running:
            task = asyncio.get_running_loop().create_task(self._run(tenant), name=f"after-commit-{tenant}")
            self._running[tenant] = task

    async def close(self) -> None:
        """Wait for what was asked for."""
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def _run(self, tenant: TenantId) -> None:
        try:
            while tenant in self._asked:
                await asyncio.sleep(self._delay_s)
                self._asked.discard(tenant)
                await self._work(tenant)
        except Exception as failure:  # noqa: BLE001  nobody awaits this; the sweep repairs it
            log("after_commit_failed", tenant=tenant, error=repr(failure))
        finally:
            self._running.pop(tenant, None)
