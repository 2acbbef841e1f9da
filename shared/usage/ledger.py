"""The ledger: a call is a row in `usage_open` while it lasts, and one row of `usage_ledger` once it has ended.

A row's place in the ledger is its id and its beginning, and only the first row at a place is taken. So a call may be
ended by its process, by the sweeper, and once more after an answer that was lost: it is one row. Rows are written in
groups, by one writer for each kind. See decision 17.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal
from uuid import UUID

from shared.ids import TenantId
from shared.postgres import ControlDatabase, quoted
from shared.telemetry import log
from shared.usage.batches import GroupCommit
from shared.usage.prices import Charge, Price, Tokens

Outcome = Literal["done", "client_gone", "provider_error", "cut", "stopped", "unknown"]
DEAD_AFTER_S = 45
LATE_MAX = 10_000
PARTITIONS_AHEAD = 2
CLOSE_TIMEOUT_S = 5.0
REST_S = 0.002
"""Between two groups of open calls, when there are many: a call waits for its own while its provider works."""
GATHER_S = 0.004
"""No answer waits for its last row, so rows are gathered for a moment: fewer commits for the same work."""
NOTHING_RESERVED = Charge()

OPEN_FIELDS = """
id uuid, process text, started_us bigint, tenant text, key_id text, request_id text, model text, provider text,
feature text, reserved_micro_usd bigint, reserved_tokens bigint, tags text[]
"""
CALL = "tenant, key_id, request_id, model, provider, feature, tags"
STARTED = "timestamptz 'epoch' + started_us * interval '1 microsecond'"
ROWS = f"""
WITH told AS (SELECT * FROM json_to_recordset($1::json) AS told (id uuid, started_us bigint)),
     upcoming AS (SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint AS xid)
SELECT l.id, l.tenant, l.key_id, l.tags, l.model, l.charged_micro_usd, l.charged_tokens,
       (extract(epoch FROM l.started_at) * 1000000)::bigint AS started_us,
       upcoming.xid - ((upcoming.xid - l.xmin::text::bigint) & 4294967295) AS xid
  FROM told JOIN usage_ledger l ON l.id = told.id AND l.started_at = {STARTED}, upcoming
"""
"""A row keeps the lower half of the 64-bit number of the transaction that wrote it; the upper half is the next one's,
or one less."""

OPEN = "SELECT open_calls(%s)"
"""Told as soon as PostgreSQL has it, before its disk does: it has to outlive this process. If PostgreSQL dies in that
moment, this process still knows the call, and its last row holds all that this one does."""
EXTEND = """
WITH at_once AS (SELECT set_config('synchronous_commit', 'off', true))
UPDATE usage_open SET reserved_micro_usd = $2, reserved_tokens = $3 FROM at_once WHERE id = $1
"""
CLOSE = "SELECT id, xid FROM end_calls($1::json)"
SEEN = """
UPDATE usage_open SET seen_at = clock_timestamp() FROM (
    SELECT id FROM usage_open WHERE id = ANY($1) FOR UPDATE SKIP LOCKED
) AS living WHERE usage_open.id = living.id
"""
"""A row that is locked is being ended. To wait for it, while that waits for a row that is locked here, would never
end."""
UNKNOWN = "'unknown', false, false, reserved_micro_usd, reserved_tokens"
UNKNOWN_FIELDS = "outcome, usage_known, price_known, charged_micro_usd, charged_tokens"
SWEEP = f"""
WITH dead AS (SELECT id FROM usage_open WHERE seen_at < now() - make_interval(secs => $1)
              AND pg_postmaster_start_time() < now() - make_interval(secs => $1)
              FOR UPDATE SKIP LOCKED),
     ended AS (DELETE FROM usage_open USING dead WHERE usage_open.id = dead.id RETURNING usage_open.*)
INSERT INTO usage_ledger (id, started_at, {CALL}, {UNKNOWN_FIELDS})
SELECT id, started_at, {CALL}, {UNKNOWN} FROM ended
ON CONFLICT DO NOTHING
RETURNING id, tenant, key_id, tags, model, charged_micro_usd, charged_tokens, pg_current_xact_id()::text::bigint AS xid,
          (extract(epoch FROM started_at) * 1000000)::bigint AS started_us
"""
"""While the database itself was away nobody could be seen: after its start the living have the same time to report."""
BURY = f"""
INSERT INTO usage_ledger (id, started_at, {CALL}, {UNKNOWN_FIELDS})
SELECT id, {STARTED}, {CALL}, {UNKNOWN}
  FROM json_to_recordset($1::json) AS told ({OPEN_FIELDS})
 WHERE NOT EXISTS (SELECT FROM usage_open o WHERE o.id = told.id)
ON CONFLICT DO NOTHING
"""


@dataclass(slots=True)
class OpenCall:
    """A call that has begun: what its row says whatever becomes of it. `started_us`: microseconds since 1970. It does
    not change once it is let in; what is reserved later makes another."""

    id: UUID
    started_us: int
    tenant: TenantId
    key_id: str | None
    request_id: str
    model: str
    provider: str
    feature: str
    tags: tuple[str, ...] = ()
    reserved: Charge = NOTHING_RESERVED
    price: Price | None = None
    """What holds for it from its beginning to its end, or None when that is not known. Not in the row: that has the
    cost."""

    def fields(self) -> dict[str, Any]:  # Any: JSON
        """By the columns' names, as JSON takes them."""
        return {
            "id": self.id.hex,
            "started_us": self.started_us,
            "tenant": self.tenant,
            "key_id": self.key_id,
            "request_id": self.request_id,
            "model": self.model,
            "provider": self.provider,
            "feature": self.feature,
            "tags": self.tags,
            "reserved_micro_usd": self.reserved.micro_usd,
            "reserved_tokens": self.reserved.tokens,
        }


@dataclass(frozen=True)
class Ended:
    """How a call ended. `used` is None when nobody said what it used; its cost is then unknown, not zero.

    `charge` is what budgets count: of what is not known, the reservation.
    """

    outcome: Outcome
    used: Tokens | None
    price_known: bool
    cost_micro_usd: int | None
    charge: Charge
    saved_micro_usd: int | None = None
    """The cost of the answer that was given again in this call's place; None when none was, or nobody knows."""

    def fields(self) -> dict[str, Any]:  # Any: JSON
        used = self.used or Tokens()
        return {
            "outcome": self.outcome,
            "input_tokens": used.input,
            "output_tokens": used.output,
            "cached_tokens": used.cached,
            "usage_known": self.used is not None,
            "cost_micro_usd": self.cost_micro_usd,
            "price_known": self.price_known,
            "charged_micro_usd": self.charge.micro_usd,
            "charged_tokens": self.charge.tokens,
            "saved_micro_usd": self.saved_micro_usd,
        }


@dataclass(frozen=True)
class Written:
    """A row as it stands in the ledger, and the transaction that wrote it."""

    id: UUID
    started_us: int
    tenant: TenantId
    key_id: str | None
    tags: tuple[str, ...]
    model: str
    charge: Charge
    xid: int


class Ledger:
    """This process's writer of the ledger."""

    def __init__(self, control: ControlDatabase, process: str) -> None:
        self._control = control
        self._process = process
        self._opening = GroupCommit(self._write_open, name="open calls", rest_s=REST_S)
        self._closing = GroupCommit(self._write_closed, name="ledger rows", gather_s=GATHER_S)

    @property
    def doubtful(self) -> bool:
        """Whether the last rows could not be written: no call may then begin before its own is."""
        return self._opening.failing or self._closing.failing

    def open(self, call: OpenCall) -> asyncio.Future[None]:
        """Write the call down. Done when PostgreSQL has it."""
        return self._opening.put(call)

    def close(self, call: OpenCall, ended: Ended) -> asyncio.Future[int | None]:
        """Write the call's row. Its transaction, or None when the row was there already, as the sweeper wrote it."""
        return self._closing.put((call, ended))

    async def extend(self, call: OpenCall) -> None:
        """Write down that the call, which is open, has reserved more. Raises `Problem`."""
        await self._control.execute(EXTEND, call.id, call.reserved.micro_usd, call.reserved.tokens)

    async def withdraw(self, call: OpenCall) -> None:
        """Forget that a call was open: it was not made. Raises `Problem`."""
        await self._control.execute("DELETE FROM usage_open WHERE id = $1", call.id)

    async def seen(self, calls: Iterable[UUID]) -> None:
        """Say that these calls' process lives. Raises `Problem`."""
        await self._control.execute(SEEN, list(calls))

    async def sweep(self, *, dead_after_s: float = DEAD_AFTER_S) -> list[Written]:
        """End the calls of processes that have not been heard of, charged as reserved, and make the coming months'
        partitions. Returns the rows."""
        rows = await self._control.fetch(SWEEP, dead_after_s)
        await self._control.execute("SELECT ledger_partitions($1)", PARTITIONS_AHEAD)
        return [written(dict(row)) for row in rows]

    async def bury(self, dead: Mapping[UUID, tuple[int, str]]) -> list[Written]:
        """The rows of calls whose process is dead: by id, when each began and its fields as JSON, if they are known.

        One that has no row and is not open gets one, charged as reserved. One that is still open is left to `sweep`.
        """
        known = [json.loads(fields) | {"started_us": started_us} for started_us, fields in dead.values() if fields]
        if known:
            await self._control.execute(BURY, json.dumps(known))
        told = json.dumps([{"id": one.hex, "started_us": started_us} for one, (started_us, _) in dead.items()])
        return [written(dict(row)) for row in await self._control.fetch(ROWS, told)]

    async def flush(self) -> None:
        """Wait, for seconds, until what was handed in is written."""
        await self._opening.close(CLOSE_TIMEOUT_S)
        await self._closing.close(CLOSE_TIMEOUT_S)

    async def _write_open(self, calls: Sequence[OpenCall]) -> Sequence[None]:
        told = json.dumps([call.fields() | {"process": self._process} for call in calls])
        await self._control.execute(OPEN % quoted(told))
        return [None] * len(calls)

    async def _write_closed(self, batch: Sequence[tuple[OpenCall, Ended]]) -> Sequence[int | None]:
        told = {call.id: call.fields() | ended.fields() for call, ended in batch}  # twice the same is one row
        rows = await self._control.fetch(CLOSE, json.dumps(list(told.values())))
        written: dict[UUID, int] = {row["id"]: row["xid"] for row in rows}
        log_swept(len(told) - len(written))
        return [written.get(call.id) for call, _ in batch]


def log_swept(count: int) -> None:
    if count:
        log("ledger_rows_there_already", count=count)


def written(row: Mapping[str, Any]) -> Written:  # Any: a database row
    charge = Charge(row["charged_micro_usd"] or 0, row["charged_tokens"] or 0)
    tenant, tags = TenantId(row["tenant"]), tuple(row["tags"] or ())
    return Written(row["id"], row["started_us"], tenant, row["key_id"], tags, row["model"], charge, row["xid"])
