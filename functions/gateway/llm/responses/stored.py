"""Which responses there are, and whose: a key finds its own, made with models that it may use still, and no other.

Keys that are rotated from one another are one owner. What is not found, was deleted, has expired, or is another's looks
alike.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from shared.errors import Malformed, NotFound, Problem, Refusal
from shared.identity import Caller
from shared.postgres import TenantDatabase, TenantTransaction
from shared.secrets import TenantSecrets
from shared.telemetry import log

PURPOSE = "responses"
CHAIN_MAX = 1000
CHAIN_BYTES_MAX = 16 * 1024 * 1024
COLUMNS = "id, provider, model, models, previous, items, tokens, sealed"
LIVE = "owner = $1 AND expires_at > now() AND ($2::text[] IS NULL OR models && $2)"
FIND = f"SELECT {COLUMNS} FROM responses WHERE {LIVE} AND id = $3"
CHAIN = f"""
WITH RECURSIVE chain AS (
    SELECT id, previous, sealed IS NOT NULL AS here, 1 AS depth, coalesce(octet_length(sealed), 0)::bigint AS bytes
    FROM responses
    WHERE {LIVE} AND id = $3
    UNION ALL
    SELECT r.id, r.previous, r.sealed IS NOT NULL, depth + 1, bytes + coalesce(octet_length(r.sealed), 0)
    FROM chain JOIN responses r ON r.id = chain.previous
    WHERE r.owner = $1 AND r.expires_at > now() AND ($2::text[] IS NULL OR r.models && $2)
      AND here AND depth < $4 AND bytes <= $5
)
SELECT id, previous, bytes FROM chain ORDER BY depth DESC
"""
TURNS = f"SELECT {COLUMNS} FROM responses WHERE {LIVE} AND id = ANY($3) ORDER BY array_position($3, id)"
HOLDING = f"""
SELECT {COLUMNS} FROM (
    SELECT *, sum(coalesce(octet_length(sealed), 0)) OVER (ORDER BY created_at DESC, id) AS together
    FROM responses WHERE {LIVE} AND items && $3
) AS held WHERE together <= $4
"""
KEEP = """
INSERT INTO responses (id, owner, provider, model, models, previous, items, tokens, sealed, expires_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, now() + make_interval(days => $10))
ON CONFLICT (id) DO UPDATE SET items = excluded.items, tokens = excluded.tokens
WHERE responses.owner = excluded.owner AND responses.provider = excluded.provider
"""
Json = dict[str, Any]  # Any: JSON


class PreviousNotFound(Refusal):
    """There is no response of this key's to go on from under that id."""

    status, code, title = 404, "previous_response_not_found", "Previous response not found"


@dataclass(frozen=True)
class Turn:
    """One response. `sealed`: None where its provider keeps what it holds."""

    id: str
    provider: str
    model: str
    models: Sequence[str]
    previous: str | None = None
    items: Sequence[str] = ()
    tokens: int = 0
    sealed: bytes | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Stored:
    """One caller's responses."""

    tenant: TenantDatabase
    sealing: TenantSecrets
    caller: Caller
    scope: frozenset[str] | None
    """The names of models that the caller may use; None for all."""
    days: int

    async def find(self, response_id: str) -> Turn:
        """Raises `NotFound`."""
        row = await self.tenant.fetchrow(FIND, self.owner, self._scope, response_id)
        if row is None:
            raise NotFound(f"there is no response {response_id[:100]!r}", param="response_id")
        return Turn(**row)

    async def chain(self, response_id: str) -> list[Turn]:
        """The response and all before it, oldest first, but none before the last one that its provider keeps.

        Raises `PreviousNotFound` when one of them is gone, and `Malformed` when together they are too large: that is
        known before they are read.
        """
        asked = (self.owner, self._scope)
        links = await self.tenant.fetch(CHAIN, *asked, response_id, CHAIN_MAX, CHAIN_BYTES_MAX)
        if links and links[0]["bytes"] > CHAIN_BYTES_MAX:
            raise Malformed(f"what came before has more than {CHAIN_BYTES_MAX} bytes", param="previous_response_id")
        found = [Turn(**row) for row in await self.tenant.fetch(TURNS, *asked, [one["id"] for one in links])]
        if not found or (found[0].previous and found[0].sealed) or len(found) < len(links):
            raise PreviousNotFound(
                f"there is no response {response_id[:100]!r} to go on from, or one before it is gone",
                param="previous_response_id",
            )
        return found

    async def holding(self, items: Sequence[str]) -> list[Turn]:
        """The responses that hold these items, each in one at least, of not more bytes together than a chain has.
        Raises `NotFound`."""
        if not items:
            return []
        rows = await self.tenant.fetch(HOLDING, self.owner, self._scope, list(items), CHAIN_BYTES_MAX)
        found = [Turn(**row) for row in rows]
        if missing := set(items) - {item for turn in found for item in turn.items}:
            raise NotFound(f"there is no item {min(missing)[:100]!r} of a response", param="input")
        return found

    async def keep(self, turn: Turn) -> bool:
        """Whether it could be kept. The answer is paid for, so a store that is away must not lose it for the caller."""
        try:
            await self.tenant.execute(
                KEEP, turn.id, self.owner, turn.provider, turn.model, list(turn.models), turn.previous,
                list(turn.items), turn.tokens, turn.sealed, self.days,
            )  # fmt: skip
        except Problem as failure:
            log("response_not_kept", error=failure.code)
            return False
        return True

    async def forget(self, transaction: TenantTransaction, response_id: str) -> None:
        await transaction.execute("DELETE FROM responses WHERE id = $1 AND owner = $2", response_id, self.owner)

    async def seal(self, response_id: str, content: Json) -> bytes:
        return await self.sealing.seal(f"{PURPOSE}:{response_id}", json.dumps(content).encode())

    async def content(self, turn: Turn) -> Json:
        """What was asked, `input`, and answered, `response`. Only of one that no provider keeps."""
        assert turn.sealed is not None
        content: Json = json.loads(await self.sealing.open(f"{PURPOSE}:{turn.id}", turn.sealed))
        return content

    @property
    def owner(self) -> str:
        return self.caller.owner

    @property
    def _scope(self) -> list[str] | None:
        return None if self.scope is None else sorted(self.scope)
