"""The cache of answers: whether a tenant's are kept, for how long, and forgetting them."""

from __future__ import annotations

from uuid import UUID

from pydantic import BaseModel, Field

from shared.errors import NotFound
from shared.function import Call, Function, Scale
from shared.function.schema import Body
from shared.llm.answers import TTL_S, TTL_S_MAX, WRONG_SHARE_MAX, labelled
from shared.llm.thresholds import learned
from shared.postgres import TenantDatabase, TenantTransaction

cache = Function(scale=Scale(max=5))

APPLICATIONS_MAX = 50


class CacheSetting(Body):
    """`ttl_s`: for how long an answer is given again, in seconds. `semantic`: to the same question in other words too.
    `wrong_share_max`: the share of wrong ones among those, below which thresholds are learned to keep it."""

    enabled: bool
    ttl_s: int = Field(default=TTL_S, ge=1, le=TTL_S_MAX)
    semantic: bool = False
    wrong_share_max: float = Field(default=WRONG_SHARE_MAX, ge=0.001, le=0.1)


class Feedback(Body):
    """`hit`: as the header `x-dcoder-cache` of the answer tells it."""

    hit: UUID
    correct: bool


class FeedbackResult(BaseModel):
    """`threshold`: from which similarity on answers are given in that application from here on."""

    entry: UUID
    similarity: float
    threshold: float


class Application(BaseModel):
    """Requests that are the same but for their conversation: how many answers were given to other words, what was said
    of them, and from which similarity on they are given."""

    application: str
    hits: int
    correct: int
    wrong: int
    threshold: float


class Applications(BaseModel):
    applications: list[Application]


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


@cache.post("/v1/cache/feedback", permission="cache:feedback")
async def judge_hit(body: Feedback, transaction: TenantTransaction, call: Call) -> FeedbackResult:
    """Say whether an answer that was given to the same question in other words was right. A wrong one's entry is
    forgotten, and the threshold moves. In force everywhere within a second."""
    row = await transaction.fetchrow(
        "UPDATE semantic_hits SET correct = $2 WHERE id = $1 RETURNING application, entry, similarity",
        body.hit,
        body.correct,
    )
    if row is None:
        raise NotFound(f"there is no hit {body.hit}; one of whom nothing was said is kept for 90 days")
    if not body.correct:
        await transaction.execute("DELETE FROM semantic_entries WHERE id = $1", row["entry"])
    share_max = await transaction.fetchval("SELECT wrong_share_max FROM answer_cache") or WRONG_SHARE_MAX
    threshold = learned(await labelled(transaction, row["application"]), share_max)
    call.note(
        resource=f"cache/entry/{row['entry']}", hit=str(body.hit), correct=body.correct, threshold=f"{threshold:.4f}"
    )
    return FeedbackResult(entry=row["entry"], similarity=row["similarity"], threshold=threshold)


@cache.get("/v1/cache/applications", permission="cache:read")
async def list_applications(tenant: TenantDatabase) -> Applications:
    """Where answers were given to other words, the busiest first."""
    share_max = await tenant.fetchval("SELECT wrong_share_max FROM answer_cache") or WRONG_SHARE_MAX
    rows = await tenant.fetch(
        """
        SELECT application, count(*) AS hits, count(*) FILTER (WHERE correct) AS correct,
               count(*) FILTER (WHERE NOT correct) AS wrong
        FROM semantic_hits GROUP BY application ORDER BY hits DESC, application LIMIT $1
        """,
        APPLICATIONS_MAX,
    )
    return Applications(
        applications=[
            Application(**row, threshold=learned(await labelled(tenant, row["application"]), share_max)) for row in rows
        ]
    )
