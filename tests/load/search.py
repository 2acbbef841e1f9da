"""How long a search takes on 20,000 chunks, embedding of the question included: python -m tests.load.search [chunks]

Texts are windows over the judged collections. Their vectors are random: the exact scan costs the
same whatever they say. Questions are the judged ones, no vector is cached. Tables are vacuumed first, as autovacuum
leaves them within a minute of an ingestion. Bar: p95 of 60 ms.
"""

from __future__ import annotations

import asyncio
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from shared.embeddings import DIMENSIONS, Embeddings
from shared.knowledge import Chunk, query_of, search
from shared.knowledge.vectors import question_vector
from shared.postgres import TenantDatabase
from tests.load.judged import add_document, code, cranfield, tenant_database

DATA = Path(os.environ.get("DCODER_RETRIEVAL_DATA", Path(__file__).parents[2] / ".." / "shared" / "data" / "retrieval"))
CHUNKS_OF_DOCUMENT = 20


class RandomVectors:
    """Unit vectors without a model."""

    def __init__(self) -> None:
        self._random = np.random.default_rng(7)

    async def embed(self, texts: Sequence[str]) -> Sequence[Sequence[float]]:
        vectors = self._random.normal(size=(len(texts), DIMENSIONS))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).tolist()  # type: ignore[no-any-return]  # numpy


class NoCache:
    async def get(self, key: str) -> bytes | None:
        return None

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        return None


async def filled(database: TenantDatabase, count: int) -> None:
    """Documents of twenty chunks, each chunk a part of a judged text."""
    texts = [text for collection in (cranfield(DATA), code(DATA)) for text in collection.texts.values()]
    words = " ".join(texts).split(" ")
    step = max(1, (len(words) - 130) // count)
    vectors = RandomVectors()
    for number in range(0, count, CHUNKS_OF_DOCUMENT):
        chunks = [
            chunk(number, place, " ".join(words[(number + place) * step :][:130]))
            for place in range(CHUNKS_OF_DOCUMENT)
        ]
        await add_document(database, vectors, f"part-{number}.txt", chunks)


def chunk(number: int, place: int, text: str) -> Chunk:
    return Chunk(f"{number}-{place}", place, 0, len(text), None, "", text)


async def measured(count: int) -> list[float]:
    embeddings = Embeddings()
    async with tenant_database() as database:
        await filled(database, count)
        for table in ("postings", "chunks", "chunk_vectors", "indexed_documents"):
            await database.execute(f"VACUUM ANALYZE {table}")
        questions = [one.text for one in (*code(DATA).questions, *cranfield(DATA).questions)]
        times = []
        await embeddings.embed(["warm"])
        for question in questions:
            started = time.perf_counter()
            vector = await question_vector(question, embeddings, NoCache())
            await search(database, query_of(question, vector), limit=10)
            times.append((time.perf_counter() - started) * 1000)
        return sorted(times)


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 20_000
    times = asyncio.run(measured(count))
    p50, p95, p99 = (times[int(len(times) * share)] for share in (0.50, 0.95, 0.99))
    print(
        f"search on {count} chunks, cold vectors: p50 {p50:.1f} ms, p95 {p95:.1f} ms, p99 {p99:.1f} ms (bar: p95 60 ms)"
    )


if __name__ == "__main__":
    main()
