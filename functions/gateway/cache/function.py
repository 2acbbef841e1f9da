"""The cache of answers: whether a tenant's are kept, for how long, and forgetting them."""

from __future__ import annotations

from pydantic import BaseModel, Field

from shared.function import Call, Function, Scale
from shared.llm.answers import TTL_S, TTL_S_MAX, WRONG_SHARE_MAX
from shared.postgres import TenantDatabase, TenantTransaction

cache = Function(scale=Scale(max=5))


class CacheSetting(BaseModel):
    """`ttl_s`: for how long an answer is given again, in seconds. `semantic`: to the same question in other words too.
    `wrong_share_max`: the share of wrong ones among those, below which thresholds are learned to keep it."""

    enabled: bool
    ttl_s: int = Field(default=TTL_S, ge=1, le=TTL_S_MAX)
    semantic: bool = False
    wrong_share_max: float = Field(default=WRONG_SHARE_MAX, ge=0.001, le=0.1)


@cache.get("/v1/cache", permission="cache:read")
async def get_cache(tenant: TenantDatabase) -> CacheSetting:
    """Whether answers are kept. They are not, until somebody says so."""
    row = await tenant.fetchrow("SELECT enabled, ttl_s, semantic, wrong_share_max FROM answer_cache")
    return CacheSetting(**row) if row else CacheSetting(enabled=False)


@cache.put("/v1/cache", permission="cache:write")
async def put_cache(body: CacheSetting, transaction: TenantTransaction, call: Call) -> CacheSetting:
    """Have answers kept, or no longer. In force everywhere within a second."""
    await transaction.execute(
        """
        INSERT INTO answer_cache (enabled, ttl_s, semantic, wrong_share_max) VALUES ($1, $2, $3, $4) ON CONFLICT (one)
        DO UPDATE SET enabled = excluded.enabled, ttl_s = excluded.ttl_s, semantic = excluded.semantic,
                      wrong_share_max = excluded.wrong_share_max, updated_at = now()
        """,
        body.enabled, body.ttl_s, body.semantic, body.wrong_share_max,
    )  # fmt: skip
    call.note(resource="cache", **body.model_dump())
    return body


@cache.delete("/v1/cache/answers", permission="cache:write")
async def forget_answers(transaction: TenantTransaction, call: Call) -> None:
    """Forget every answer that was kept. In force everywhere within a second."""
    await transaction.execute("UPDATE answer_cache SET epoch = epoch + 1, updated_at = now()")
    await transaction.execute("DELETE FROM semantic_entries")
    call.note(resource="cache")
