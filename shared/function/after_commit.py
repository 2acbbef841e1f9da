"""What a commit sets going: its events to the carrier, its audit records to the sealer. Coalesced, never awaited.

A process killed before this ran loses nothing: the rows are in the outboxes, and the schedules sweep them.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence

from shared.errors import Busy
from shared.ids import TenantId
from shared.telemetry import log

COALESCE_S = 0.05
RETRIES_S = (0.5, 1.0, 2.0, 4.0, 8.0, 16.0)
"""Pauses after which work that met `Busy` is tried again; afterwards the sweep has it."""

Work = Callable[[TenantId], Awaitable[None]]


class Coalesced:
    """Runs `work(tenant)` soon after it was asked for: once at a time per tenant, and again if asked meanwhile."""

    def __init__(self, work: Work, *, delay_s: float = COALESCE_S, retries_s: Sequence[float] = RETRIES_S) -> None:
        self._work = work
        self._delay_s = delay_s
        self._retries_s = retries_s
        self._asked: set[TenantId] = set()
        self._running: dict[TenantId, asyncio.Task[None]] = {}
        self._closing = asyncio.Event()

    def ask(self, tenant: TenantId) -> None:
        self._asked.add(tenant)
        if tenant not in self._running:
            task = asyncio.get_running_loop().create_task(self._run(tenant), name=f"after-commit-{tenant}")
            self._running[tenant] = task

    async def close(self) -> None:
        """Wait for what was asked for; what has to be tried again is left to the sweep."""
        self._closing.set()
        while self._running:
            await asyncio.wait(list(self._running.values()))

    async def _run(self, tenant: TenantId) -> None:
        try:
            while tenant in self._asked:
                await asyncio.sleep(self._delay_s)
                self._asked.discard(tenant)
                await self._persevere(tenant)
        except Exception as failure:  # noqa: BLE001  nobody awaits this; the sweep repairs it
            log("after_commit_failed", tenant=tenant, error=repr(failure))
        finally:
            self._running.pop(tenant, None)

    async def _persevere(self, tenant: TenantId) -> None:
        """Do the work, again after each pause while it meets `Busy`. Raises what the last attempt raised."""
        for pause_s in self._retries_s:
            try:
                await self._work(tenant)
            except Busy:
                if await self._closed_within(pause_s):
                    raise
            else:
                return
        await self._work(tenant)

    async def _closed_within(self, pause_s: float) -> bool:
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._closing.wait(), pause_s)
        return self._closing.is_set()
