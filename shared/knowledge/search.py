"""Reading the index: the one SQL statement, what goes into it and what comes out."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from uuid import UUID

from shared.analysis import terms
from shared.knowledge.index import term_number
from shared.postgres import TenantDatabase

TERMS_MAX = 64
PASSAGES_MAX = 100


@dataclass(frozen=True)
class Query:
    """A question as the index understands it."""

    terms: dict[int, int]
    vector: str = field(repr=False)


@dataclass(frozen=True)
class Passage:
    """A found passage. `coverage` is the share of the question's idf mass that occurs in it, 0 to 1."""

    id: str
    document: str
    document_id: UUID
    version: int
    ordinal: int
    start: int
    end: int
    page: int | None
    heading: str
    text: str
    score: float
    legs: dict[str, float]
    lexical_score: float
    similarity: float
    coverage: float


@dataclass(frozen=True)
class Found:
    """Passages, the best first, and how the vectors were searched."""

    passages: list[Passage]
    path: str = "exact"


def query_of(text: str, vector: str) -> Query:
    """At most `TERMS_MAX` different terms, those that occur first."""
    counts = Counter(terms(text))
    return Query({term_number(term): count for term, count in list(counts.items())[:TERMS_MAX]}, vector)


async def search(database: TenantDatabase, query: Query, *, limit: int, prefix: str = "") -> Found:
    """The passages that best answer the query, at most `limit`, in one ranking over all of the tenant's documents."""
    rows = await database.fetch(
        statement(),
        list(query.terms),
        [float(count) for count in query.terms.values()],
        query.vector,
        min(limit, PASSAGES_MAX),
        prefix,
    )
    return Found(
        [
            Passage(
                id=row["id"],
                document=row["document"],
                document_id=row["document_id"],
                version=row["version"],
                ordinal=row["ordinal"],
                start=row["start_at"],
                end=row["end_at"],
                page=row["page"],
                heading=row["heading"],
                text=row["text"],
                score=row["score"],
                legs={leg: row[leg] for leg in ("lexical", "dense", "document_lexical", "document_dense")},
                lexical_score=row["lexical_score"],
                similarity=row["dense_score"],
                coverage=row["coverage"],
            )
            for row in rows
        ]
    )


@cache
def statement() -> str:
    return Path(__file__).with_suffix(".sql").read_text()
