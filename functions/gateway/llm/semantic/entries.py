"""The questions that a tenant has asked and that may be answered again, in the tenant's own database."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets

PURPOSE = "semantic-question"
CANDIDATES_MAX = 8
ENTRIES_MAX = 2000
"""Of one scope: the vectors of a scope are compared one by one."""
HITS_KEPT_DAYS = 90


@dataclass(frozen=True)
class Entry:
    """A question of before, with `cosine` to the one that is asked."""

    id: UUID
    question: str = field(repr=False)
    answer: str
    cosine: float


async def any_in(tenant: TenantDatabase, scope: str) -> bool:
    sql = "SELECT true FROM semantic_entries WHERE scope = $1 AND expires_at > now() LIMIT 1"
    return bool(await tenant.fetchval(sql, scope))


async def nearest(tenant: TenantDatabase, sealing: TenantSecrets, scope: str, vector: str) -> list[Entry]:
    """The nearest entries of a scope, the nearest first."""
    rows = await tenant.fetch(
        """
        SELECT id, question, answer, -(embedding <#> $2::halfvec) AS cosine
        FROM semantic_entries WHERE scope = $1 AND expires_at > now() ORDER BY embedding <#> $2::halfvec LIMIT $3
        """,
        scope, vector, CANDIDATES_MAX,
    )  # fmt: skip
    return [
        Entry(row["id"], (await sealing.open(PURPOSE, row["question"])).decode(), row["answer"], row["cosine"])
        for row in rows
    ]


async def keep(
    tenant: TenantDatabase, scope: str, application: str, sealed: bytes, vector: str, answer: str, ttl_s: int
) -> None:
    """Keep a question for as long as its answer is, and let the oldest of a full scope go."""
    async with tenant.transaction() as transaction:
        await transaction.execute(
            """
            INSERT INTO semantic_entries (scope, application, question, embedding, answer, expires_at)
            VALUES ($1, $2, $3, $4::halfvec, $5, now() + make_interval(secs => $6))
            ON CONFLICT (answer) DO UPDATE SET at = now(), expires_at = excluded.expires_at
            """,
            scope, application, sealed, vector, answer, float(ttl_s),
        )  # fmt: skip
        await transaction.execute(
            """
            DELETE FROM semantic_entries WHERE expires_at < now() OR id IN (
                SELECT id FROM semantic_entries WHERE scope = $1 ORDER BY at DESC OFFSET $2
            )
            """,
            scope, ENTRIES_MAX,
        )  # fmt: skip
        await transaction.execute(
            "DELETE FROM semantic_hits WHERE correct IS NULL AND at < now() - make_interval(days => $1)", HITS_KEPT_DAYS
        )


async def forget(tenant: TenantDatabase, entry: UUID) -> None:
    await tenant.execute("DELETE FROM semantic_entries WHERE id = $1", entry)


async def note_hit(
    tenant: TenantDatabase, application: str, entry: UUID, similarity: float, threshold: float
) -> UUID | None:
    """The hit's id. None when the entry was taken away meanwhile."""
    hit: UUID | None = await tenant.fetchval(
        """
        INSERT INTO semantic_hits (application, entry, similarity, threshold)
        SELECT $1, id, $3, $4 FROM semantic_entries WHERE id = $2 RETURNING id
        """,
        application, entry, similarity, threshold,
    )  # fmt: skip
    return hit


def as_text(vector: Sequence[float]) -> str:
    """In pgvector's text form."""
    return "[" + ",".join(f"{value:.5g}" for value in vector) + "]"
