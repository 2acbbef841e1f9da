"""The ledger: a call is written down before its model is asked, and moved to the ledger, once, when it ends.

Both are one statement, so a process killed anywhere leaves either an open call, which the sweeper closes as `unknown`,
or a finished row; never two, never none.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal
from uuid import UUID, uuid4

from shared.identity import Caller
from shared.postgres import ControlDatabase
from shared.telemetry import log
from shared.usage.prices import cost_micro_usd, price_of

Outcome = Literal["done", "client_gone", "provider_error", "cut", "unknown"]
SEEN_EVERY_S = 10.0
DEAD_AFTER_S = 45

CLOSE = """
WITH ended AS (DELETE FROM usage_open WHERE id = $1
               RETURNING id, started_at, tenant, key_id, request_id, model, provider, feature)
INSERT INTO usage_ledger (id, started_at, tenant, key_id, request_id, model, provider, feature, outcome,
                          input_tokens, output_tokens, cached_tokens, cost_micro_usd, price_known)
SELECT id, started_at, tenant, key_id, request_id, model, provider, feature, $2, $3, $4, $5, $6, $7 FROM ended
"""
SWEEP = """
WITH ended AS (DELETE FROM usage_open WHERE seen_at < now() - make_interval(secs => $1)
               RETURNING id, started_at, tenant, key_id, request_id, model, provider, feature)
INSERT INTO usage_ledger (id, started_at, tenant, key_id, request_id, model, provider, feature, outcome, price_known)
SELECT id, started_at, tenant, key_id, request_id, model, provider, feature, 'unknown', false FROM ended
"""


@dataclass(frozen=True)
class Tokens:
    """What a call used. `cached` is the part of `input` that the provider had cached."""

    input: int = 0
    output: int = 0
    cached: int = 0


@dataclass(frozen=True)
class OpenCall:
    """A call that was written down and has not ended."""

    id: UUID
    model: str
    started_at: datetime


class Ledger:
    """This process's writer. While calls are open it says every ten seconds that it lives."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._process = uuid4().hex
        self._open: set[UUID] = set()
        self._beating: asyncio.Task[None] | None = None

    async def begin(
        self, caller: Caller, *, request_id: str, model: str, provider: str, feature: str = "chat"
    ) -> OpenCall:
        """Write the call down. Its model may be asked only after this."""
        call = OpenCall(uuid4(), model, datetime.now(UTC))
        await self._control.execute(
            "INSERT INTO usage_open (id, process, started_at, tenant, key_id, request_id, model, provider, feature)"
            " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)",
            call.id,
            self._process,
            call.started_at,
            caller.tenant,
            caller.key_id,
            request_id,
            model,
            provider,
            feature,
        )
        self._open.add(call.id)
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat(), name="ledger-heartbeat")
        return call

    async def end(self, call: OpenCall, outcome: Outcome, tokens: Tokens) -> int | None:
        """Move the call to the ledger. Returns its cost in micro-USD, or None when the price is not known."""
        cost = self.cost(call.model, tokens)
        try:
            await asyncio.shield(
                self._control.execute(
                    CLOSE, call.id, outcome, tokens.input, tokens.output, tokens.cached, cost, cost is not None
                )
            )
        finally:
            self._open.discard(call.id)
        return cost

    def cost(self, model: str, tokens: Tokens) -> int | None:
        price = price_of(
            model.rpartition("/")[2] if not model.startswith("doc-chat") else "doc-chat", datetime.now(UTC).date()
        )
        if price is None:
            return None
        return cost_micro_usd(
            price, input_tokens=tokens.input, cached_tokens=tokens.cached, output_tokens=tokens.output
        )

    async def sweep(self, *, dead_after_s: int = DEAD_AFTER_S) -> None:
        """Close the calls of processes that have not been heard of, and make the coming months' partitions."""
        await self._control.execute(SWEEP, dead_after_s)
        await self._control.fetch(
            "SELECT ledger_partition((date_trunc('month', now()) + make_interval(months => ahead))::date)"
            " FROM generate_series(0, 2) AS ahead"
        )

    async def close(self) -> None:
        if self._beating is not None:
            self._beating.cancel()

    async def _beat(self) -> None:
        while self._open:
            await asyncio.sleep(SEEN_EVERY_S)
            try:
                await self._control.execute(
                    "UPDATE usage_open SET seen_at = clock_timestamp() WHERE process = $1", self._process
                )
            except Exception as failure:  # noqa: BLE001  the next beat may succeed; the sweeper waits for several
                log("ledger_heartbeat_failed", error=repr(failure))
