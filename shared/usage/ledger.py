"""The ledger: a call is written down before its model is asked, and moved to the ledger, once, when it ends.

Each is one statement, so a process killed anywhere leaves either an open call, which the sweeper closes as `unknown`,
or a finished row; never two, never none. A row that could not be written at its time (the database was away) is
written by a later heartbeat.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

from shared.clock import Clock
from shared.errors import Unavailable
from shared.identity import Caller
from shared.postgres import ControlDatabase
from shared.telemetry import log
from shared.usage.prices import Tokens, cost_micro_usd, price_of

Outcome = Literal["done", "client_gone", "provider_error", "cut", "unknown"]
SEEN_EVERY_S = 10.0
DEAD_AFTER_S = 45
LATE_MAX = 10_000
PARTITIONS_AHEAD = 2
CLOSE_TIMEOUT_S = 5.0

OPEN = """
INSERT INTO usage_open (id, process, started_at, tenant, key_id, request_id, model, provider, feature)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)
"""
CLOSE = """
WITH ended AS (DELETE FROM usage_open WHERE id = $1
               RETURNING id, started_at, tenant, key_id, request_id, model, provider, feature)
INSERT INTO usage_ledger (id, started_at, tenant, key_id, request_id, model, provider, feature, outcome,
                          input_tokens, output_tokens, cached_tokens, usage_known, cost_micro_usd, price_known)
SELECT id, started_at, tenant, key_id, request_id, model, provider, feature, $2, $3, $4, $5, $6, $7, $8 FROM ended
"""
SWEEP = """
WITH ended AS (DELETE FROM usage_open WHERE seen_at < now() - make_interval(secs => $1)
               AND pg_postmaster_start_time() < now() - make_interval(secs => $1)
               RETURNING id, started_at, tenant, key_id, request_id, model, provider, feature)
INSERT INTO usage_ledger (id, started_at, tenant, key_id, request_id, model, provider, feature, outcome,
                          usage_known, price_known)
SELECT id, started_at, tenant, key_id, request_id, model, provider, feature, 'unknown', false, false FROM ended
"""
"""While the database itself was away nobody could be seen: after its start the living have the same time to report."""


@dataclass(frozen=True)
class OpenCall:
    """A call that was written down and has not ended."""

    id: UUID
    model: str
    started_at: datetime


@dataclass(frozen=True)
class Ended:
    """How a call ended. `used` is None when nobody said what it used; its cost is then unknown, not zero."""

    outcome: Outcome
    used: Tokens | None
    price_known: bool
    cost_micro_usd: int | None

    def row(self) -> tuple[object, ...]:
        used = self.used or Tokens()
        counted = (used.input, used.output, used.cached, self.used is not None)
        return (self.outcome, *counted, self.cost_micro_usd, self.price_known)


class Ledger:
    """This process's writer. While calls are open it says every ten seconds that it lives."""

    def __init__(
        self, control: ControlDatabase, clock: Clock | None = None, *, seen_every_s: float = SEEN_EVERY_S
    ) -> None:
        self._control = control
        self._clock = clock or Clock()
        self._seen_every_s = seen_every_s
        self._process = uuid4().hex
        self._open: set[UUID] = set()
        self._late: dict[UUID, Ended] = {}
        self._writing: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None

    async def begin(
        self, caller: Caller, *, request_id: str, model: str, provider: str, feature: str = "chat"
    ) -> OpenCall:
        """Write the call down. Its model may be asked only after this. Raises `Problem` when that is not possible."""
        if len(self._late) >= LATE_MAX:
            raise Unavailable("the usage ledger cannot be written; no further calls are taken", retry_after_s=10)
        call = OpenCall(uuid4(), model, self._clock.now().astimezone(UTC))
        self._open.add(call.id)
        self._keep_beating()
        of_caller = (caller.tenant, caller.key_id, request_id)
        try:
            await self._control.execute(
                OPEN, call.id, self._process, call.started_at, *of_caller, model, provider, feature
            )
        except BaseException:  # it may have been written all the same: a later beat closes what is there
            self._late[call.id] = self.ended(call, "client_gone", Tokens())
            raise
        return call

    async def end(self, call: OpenCall, outcome: Outcome, used: Tokens | None) -> int | None:
        """Move the call to the ledger. Returns its cost in micro-USD, or None when that is not known.

        Never raises for a database that is away or takes no writes, and is done even if the task that awaits it is
        cancelled.
        """
        ended = self.ended(call, outcome, used)
        writing = asyncio.create_task(self._write(call.id, ended), name=f"ledger-{call.id}")
        self._writing.add(writing)
        writing.add_done_callback(self._writing.discard)
        await asyncio.shield(writing)
        return ended.cost_micro_usd

    @staticmethod
    def ended(call: OpenCall, outcome: Outcome, used: Tokens | None) -> Ended:
        price = price_of(call.model, call.started_at.date())
        cost = cost_micro_usd(price, used)
        return Ended(outcome, used, price is not None and (used is None or cost is not None), cost)

    async def sweep(self, *, dead_after_s: float = DEAD_AFTER_S) -> None:
        """Close the calls of processes that have not been heard of, and make the coming months' partitions."""
        await self._control.execute(SWEEP, dead_after_s)
        await self._control.execute("SELECT ledger_partitions($1)", PARTITIONS_AHEAD)

    async def close(self) -> None:
        """Wait, for seconds, until what has ended is written."""
        if self._writing:
            await asyncio.wait(set(self._writing), timeout=CLOSE_TIMEOUT_S)
        if self._beating is not None:
            self._beating.cancel()
        await self._write_late()

    async def _write(self, call_id: UUID, ended: Ended) -> None:
        try:
            await self._control.execute(CLOSE, call_id, *ended.row())
        except Exception as failure:  # noqa: BLE001  away, read-only after a failover: the row must not be lost
            self._late[call_id] = ended
            log("ledger_row_late", call_id=str(call_id), error=repr(failure))
            return
        self._open.discard(call_id)

    async def _write_late(self) -> None:
        for call_id, ended in list(self._late.items()):
            try:
                await self._control.execute(CLOSE, call_id, *ended.row())
            except Exception as failure:  # noqa: BLE001  as above
                log("ledger_rows_late", count=len(self._late), error=repr(failure))
                return
            del self._late[call_id]
            self._open.discard(call_id)

    def _keep_beating(self) -> None:
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat(), name="ledger-heartbeat")

    async def _beat(self) -> None:
        while self._open:
            await asyncio.sleep(self._seen_every_s)
            await self._write_late()
            try:
                await self._control.execute(
                    "UPDATE usage_open SET seen_at = clock_timestamp() WHERE id = ANY($1)", list(self._open)
                )
            except Exception as failure:  # noqa: BLE001  the next beat may succeed; without beats the sweeper comes
                log("ledger_heartbeat_failed", error=repr(failure))
