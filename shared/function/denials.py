"""Refused calls in the audit log, bounded: a flood of wrong keys must not become a flood of rows.

Equal refusals within half a second become one record with a count.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import TYPE_CHECKING, NamedTuple

from shared.errors import Busy
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase, TenantDatabase
from shared.telemetry import log

if TYPE_CHECKING:
    from shared.function.process import Process

FLUSH_S = 0.5
KINDS_MAX = 500
RESOURCE_CHARS_MAX = 200


class Denial(NamedTuple):
    tenant: TenantId
    actor: str
    action: str
    resource: str
    code: str


class Denials:
    """Collects refusals and writes them to an audit outbox: the platform's, tenant by tenant, or one tenant's own."""

    def __init__(self, database: ControlDatabase | TenantDatabase) -> None:
        self._database = database
        self._pending: Counter[Denial] = Counter()
        self._dropped = 0
        self._flusher: asyncio.Task[None] | None = None

    def record(self, denial: Denial) -> None:
        """Note a refusal. Never waits, never raises."""
        denial = denial._replace(resource=denial.resource[:RESOURCE_CHARS_MAX])
        if denial not in self._pending and len(self._pending) >= KINDS_MAX:
            self._dropped += 1
            return
        self._pending[denial] += 1
        if self._flusher is None or self._flusher.done():
            self._flusher = asyncio.get_running_loop().create_task(self._flush_later(), name="denials")

    async def flush(self) -> None:
        pending, self._pending = self._pending, Counter()
        dropped, self._dropped = self._dropped, 0
        if not pending:
            return
        try:
            await self._write(pending, dropped)
        except Busy:
            self._pending.update(pending)  # the database is away: the next flush has them
            self._dropped += dropped
            raise

    async def _write(self, pending: Counter[Denial], dropped: int) -> None:
        at_home = self._database.tenant
        async with self._database.transaction() as transaction:
            for denial, count in pending.items():
                details = {"code": denial.code, "count": count, "unrecorded_kinds": dropped}
                await transaction.audit(
                    denial.action,
                    denial.resource,
                    actor=denial.actor,
                    tenant=denial.tenant if at_home == PLATFORM else at_home,
                    outcome="denied",
                    details=details,
                )

    async def close(self) -> None:
        if self._flusher is not None:
            await asyncio.wait({self._flusher})

    async def _flush_later(self) -> None:
        while self._pending:
            await asyncio.sleep(FLUSH_S)
            try:
                await self.flush()
            except Exception as failure:  # noqa: BLE001  a background task has no caller
                log("denials_not_recorded", error=repr(failure))


async def deny(process: Process, denial: Denial) -> None:
    """Note a refusal. Never raises: an audit store that is away must not turn a 403 into a 500."""
    if not process.settings.has_database:  # who hands calls on to it refuses, and records, the same before
        log("denied", action=denial.action, code=denial.code)
        return
    try:
        (await process.get(Denials)).record(denial)
    except Exception as failure:  # noqa: BLE001  as the docstring says
        log("denial_not_recorded", action=denial.action, error=repr(failure))
