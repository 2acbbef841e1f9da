"""Compression of prompts: which keys want it and how, and what it has saved."""

from __future__ import annotations

from datetime import date, datetime
from typing import Literal

from pydantic import BaseModel, Field

from shared.compression.modes import Mode
from shared.errors import Invalid, NotFound
from shared.function import Call, Function, Scale, Tick
from shared.function.schema import Body
from shared.postgres import TenantDatabase, TenantTransaction
from shared.virtual_keys import KEY_ID

compression = Function(scale=Scale(max=5))

KEYS_MAX = 1000
GROUPS_MAX = 1000
SAVINGS_KEPT_DAYS = 400
GROUPS = {"day": "(at AT TIME ZONE 'UTC')::date::text", "key": "coalesce(key_id, '')", "model": "model"}
SAVED = """
SELECT grouping({by}) AS whole, {by} AS "group", count(*) AS calls,
       coalesce(sum(original_bytes), 0)::bigint AS original_bytes,
       coalesce(sum(sent_bytes), 0)::bigint AS sent_bytes, coalesce(sum(saved_tokens), 0)::bigint AS saved_tokens,
       coalesce(sum(saved_micro_usd), 0)::bigint AS saved_micro_usd,
       count(*) FILTER (WHERE saved_micro_usd IS NULL) AS calls_of_unknown_price
  FROM compression_savings
 WHERE ($1::date IS NULL OR at >= $1::timestamp AT TIME ZONE 'UTC')
   AND ($2::date IS NULL OR at < ($2 + 1)::timestamp AT TIME ZONE 'UTC')
 GROUP BY GROUPING SETS (({by}), ()) ORDER BY 1 DESC, 2 LIMIT $3
"""


class KeySetting(Body):
    """How a key's prompts are compressed, unless a request says otherwise."""

    modes: list[Mode] = Field(min_length=1, max_length=3)


class KeyView(KeySetting):
    key: str
    updated_at: datetime


class KeyList(BaseModel):
    keys: list[KeyView]


class Savings(BaseModel):
    """What the calls of one group saved: bytes of text, tokens as estimated, and what those would have cost as input
    that is in no provider's cache. Calls whose price is not known are counted apart."""

    group: str
    calls: int
    original_bytes: int
    sent_bytes: int
    saved_tokens: int
    saved_micro_usd: int
    calls_of_unknown_price: int


class SavingsReport(BaseModel):
    by: str
    rows: list[Savings]
    total: Savings


@compression.get("/v1/compression/keys", permission="compression:read")
async def list_compressed_keys(tenant: TenantDatabase) -> KeyList:
    """The keys whose prompts are compressed. No key's are, until somebody says so."""
    rows = await tenant.fetch("SELECT key, modes, updated_at FROM compression_keys ORDER BY key LIMIT $1", KEYS_MAX)
    return KeyList(keys=[KeyView(**row) for row in rows])


@compression.put("/v1/compression/keys/{key}", permission="compression:write")
async def put_compressed_key(key: str, body: KeySetting, transaction: TenantTransaction, call: Call) -> KeyView:
    """Have a key's prompts compressed, and those of the keys that it is rotated to. In force within a second."""
    if not KEY_ID.fullmatch(key):
        raise Invalid(f"{key[:40]!r} is not the id of a key; `dcoder key list` shows them")
    if await transaction.fetchval("SELECT count(*) FROM compression_keys WHERE key <> $1", key) >= KEYS_MAX:
        raise Invalid(f"a tenant can have {KEYS_MAX} keys with compression")
    row = await transaction.fetchrow(
        "INSERT INTO compression_keys (key, modes) VALUES ($1, $2) ON CONFLICT (key)"
        " DO UPDATE SET modes = excluded.modes, updated_at = now() RETURNING key, modes, updated_at",
        key,
        sorted(set(body.modes)),
    )
    assert row is not None
    call.note(resource=f"compression/{key}", modes=sorted(set(body.modes)))
    return KeyView(**row)


@compression.delete("/v1/compression/keys/{key}", permission="compression:write")
async def delete_compressed_key(key: str, transaction: TenantTransaction, call: Call) -> None:
    """Have a key's prompts sent as they are. In force within a second."""
    if not await transaction.fetchval("DELETE FROM compression_keys WHERE key = $1 RETURNING true", key):
        raise NotFound(f"the prompts of key {key[:40]!r} are not compressed")
    call.note(resource=f"compression/{key}")


@compression.get("/v1/compression/savings", permission="usage:read")
async def savings(
    tenant: TenantDatabase,
    by: Literal["day", "key", "model"] = "day",
    since: date | None = None,
    until: date | None = None,
) -> SavingsReport:
    """What compression has saved, by day (UTC), key or model. Each call's row is kept for 400 days."""
    if since and until and since > until:
        raise Invalid("since is after until")
    rows = [dict(row) for row in await tenant.fetch(SAVED.format(by=GROUPS[by]), since, until, GROUPS_MAX + 1)]
    total, *groups = [Savings(**{**row, "group": "total" if row["whole"] else row["group"]}) for row in rows]
    return SavingsReport(by=by, rows=groups, total=total)


@compression.every("47 3 * * *", per="tenant")
async def forget_originals(tick: Tick, tenant: TenantTransaction) -> None:
    """Forget what was put aside and whose time is over, and savings that are old."""
    await tenant.execute("DELETE FROM compression_originals WHERE expires_at < now()")
    await tenant.execute(
        "DELETE FROM compression_savings WHERE at < now() - make_interval(days => $1)", SAVINGS_KEPT_DAYS
    )
