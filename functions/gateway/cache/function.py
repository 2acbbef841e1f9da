"""The cache of answers: whether a tenant's are kept, for how long, and forgetting them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from shared.function import Call, Function, Scale
from shared.llm.answers import TTL_S, TTL_S_MAX
from shared.postgres import TenantDatabase, TenantTransaction

cache = Function(scale=Scale(max=5))


class CacheSetting(BaseModel):
    """`ttl_s`: for how long an answer is given again, in seconds."""

    enabled: bool
    ttl_s: int = Field(default=TTL_S, ge=1, le=TTL_S_MAX)


@cache.get("/v1/cache", permission="cache:read")
async def get_cache(tenant: TenantDatabase) -> CacheSetting:
    """Whether answers are kept. They are not, until somebody says so."""
    row = await tenant.fetchrow("SELECT enabled, ttl_s FROM answer_cache")
    return CacheSetting(**row) if row else CacheSetting(enabled=False)


@cache.put("/v1/cache", permission="cache:write")
async def put_cache(body: CacheSetting, transaction: TenantTransaction, call: Call) -> CacheSetting:
    """Have answers kept, or no longer. In force everywhere within a second."""
    await transaction.execute(
        "INSERT INTO answer_cache (enabled, ttl_s) VALUES ($1, $2) ON CONFLICT (one)"
        " DO UPDATE SET enabled = excluded.enabled, ttl_s = excluded.ttl_s, updated_at = now()",
        body.enabled,
        body.ttl_s,
    )
    call.note(resource="cache", enabled=body.enabled, ttl_s=body.ttl_s)
    return body


@cache.delete("/v1/cache/answers", permission="cache:write")
async def forget_answers(transaction: TenantTransaction, call: Call) -> None:
    """Forget every answer that was kept. In force everywhere within a second."""
    await transaction.execute("UPDATE answer_cache SET epoch = epoch + 1, updated_at = now()")
    call.note(resource="cache")
