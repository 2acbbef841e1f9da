"""The index on a real database: BM25 as an oracle computes it, swaps that are whole, deletion without trace."""

from __future__ import annotations

import asyncio
import math
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Sequence
from uuid import UUID

import pytest

from shared.analysis import terms
from shared.ids import TenantId
from shared.knowledge import Chunk, indexed, query_of, replace_chunks, search
from shared.knowledge.index import as_text
from shared.postgres import TenantDatabase
from shared.tenancy import TenantRegistry

WORDS = "wing flow lift drag parse_config readFile token budget sealed 4711 Reynolds number boundary layer".split()  # noqa: SIM905


class HashedVectors:
    """Unit vectors that depend on the text alone, and a count of what was embedded."""

    def __init__(self) -> None:
        self.embedded = 0

    async def embed(self, texts: Sequence[str]) -> list[list[float]]:
        self.embedded += len(texts)
        return [vector(text) for text in texts]


def vector(text: str) -> list[float]:
    values = [(zlib.crc32(f"{text}{place}".encode()) % 2000 - 1000) / 1000 for place in range(384)]
    length = math.sqrt(sum(value * value for value in values))
    return [value / length for value in values]


def text_of(number: int) -> str:
    return (
        " ".join(WORDS[(number * step + step) % len(WORDS)] for step in range(3, 3 + 5 + number % 9)) + f" item{number}"
    )


def chunks_of(name: str, texts: Sequence[str]) -> list[Chunk]:
    return [Chunk(f"{name}-{place}", place, 0, len(text), None, "", text) for place, text in enumerate(texts)]


async def add(database: TenantDatabase, embedder: HashedVectors, name: str, texts: Sequence[str]) -> UUID:
    document: UUID = await database.fetchval(
        "INSERT INTO documents (name, etag, bytes, state) VALUES ($1, '', 0, 'searchable')"
        " ON CONFLICT (name) DO UPDATE SET etag = '' RETURNING id",
        name,
    )
    ready = await indexed(database, embedder, chunks_of(name, texts), document)
    async with database.transaction() as transaction:
        await replace_chunks(transaction, document, 1, ready)
    return document


@pytest.fixture
async def database(registry: TenantRegistry) -> AsyncIterator[TenantDatabase]:
    tenant = (await registry.create("searched")).id
    yield await registry.database(tenant)
    await registry.delete(TenantId("searched"))


def oracle(texts: Sequence[str], question: str) -> dict[int, float]:
    """BM25 in Lucene's form, k1 = 1.2, b = 0.75, computed plainly."""
    counts = [Counter(terms(text)) for text in texts]
    average = sum(sum(one.values()) for one in counts) / len(counts)
    scores: dict[int, float] = {}
    for term, weight in Counter(terms(question)).items():
        having = sum(term in one for one in counts)
        idf = math.log(1 + (len(texts) - having + 0.5) / (having + 0.5))
        for place, one in enumerate(counts):
            if term in one:
                norm = 1.2 * (0.25 + 0.75 * sum(one.values()) / average)
                scores[place] = scores.get(place, 0) + weight * idf * one[term] / (one[term] + norm)
    return scores


async def test_lexical_scores_are_bm25(database: TenantDatabase) -> None:
    texts = [text_of(number) for number in range(60)]
    embedder = HashedVectors()
    for number, text in enumerate(texts):
        await add(database, embedder, f"doc-{number:02d}", [text])
    for question in ("wing drag", "how does parse_config read the budget budget", "Reynolds number of item17"):
        found = await search(database, query_of(question, as_text(vector(question))), limit=60)
        expected = oracle(texts, question)
        for passage in found.passages:
            assert passage.lexical_score == pytest.approx(expected.get(int(passage.document[-2:]), 0.0), abs=1e-4)


async def test_the_oracle_agrees_with_a_published_implementation() -> None:
    import bm25s

    texts = [text_of(number) for number in range(60)]
    index = bm25s.BM25(k1=1.2, b=0.75, method="lucene")
    index.index([terms(text) for text in texts], show_progress=False)
    scores = index.get_scores(terms("wing drag parse_config"))
    expected = oracle(texts, "wing drag parse_config")
    assert all(scores[place] == pytest.approx(expected.get(place, 0.0), abs=1e-4) for place in range(60))


async def test_unchanged_chunks_are_not_embedded_again(database: TenantDatabase) -> None:
    embedder = HashedVectors()
    texts = [text_of(number) for number in range(30)]
    await add(database, embedder, "book", texts)
    texts[7] = "an edited paragraph"
    await add(database, embedder, "book", texts)
    await add(database, embedder, "copy-of-book", texts)
    assert embedder.embedded == 31


async def test_a_deleted_document_leaves_no_trace(database: TenantDatabase) -> None:
    document = await add(database, HashedVectors(), "gone", [text_of(number) for number in range(5)])
    await database.execute("DELETE FROM documents WHERE id = $1", document)
    for table in ("indexed_documents", "chunks", "chunk_vectors", "postings"):
        assert await database.fetchval(f"SELECT count(*) FROM {table}") == 0


async def test_a_reader_sees_the_old_or_the_new_and_never_half(database: TenantDatabase) -> None:
    embedder = HashedVectors()
    old, new = ["flow old"] * 1 + [f"flow old {n}" for n in range(9)], [f"flow new {n}" for n in range(14)]
    await add(database, embedder, "swapped", old)
    query = query_of("flow", as_text(vector("flow")))
    stop = asyncio.Event()
    seen: set[tuple[int, int]] = set()

    async def read() -> None:
        while not stop.is_set():
            found = (await search(database, query, limit=50)).passages
            seen.add((sum("old" in one.text for one in found), sum("new" in one.text for one in found)))

    reader = asyncio.create_task(read())
    for _ in range(5):
        await add(database, embedder, "swapped", new)
        await add(database, embedder, "swapped", old)
    stop.set()
    await reader
    assert seen <= {(10, 0), (0, 14)}


async def test_a_prefix_limits_the_documents_and_still_fills_the_answer(database: TenantDatabase) -> None:
    embedder = HashedVectors()
    for number in range(30):
        await add(database, embedder, f"a/{number}", [f"wing {text_of(number)}"])
    await add(database, embedder, "b/only", ["a wing apart", "another wing", "third wing"])
    found = await search(database, query_of("wing", as_text(vector("wing"))), limit=3, prefix="b/")
    assert {one.document for one in found.passages} == {"b/only"}
    assert len(found.passages) == 3


@pytest.mark.parametrize(
    "question",
    ["the of and", "💥 🚀", "x" * 4000, "'; DROP TABLE chunks; --", "a & !b | (c", "%s $1 \\", "\t\n", "٣٤٥"],
)
async def test_any_question_is_answered_without_failing(database: TenantDatabase, question: str) -> None:
    await add(database, HashedVectors(), "one", ["wing flow"])
    found = await search(database, query_of(question, as_text(vector(question))), limit=5)
    assert len(found.passages) == 1


async def test_an_empty_index_finds_nothing(database: TenantDatabase) -> None:
    assert (await search(database, query_of("wing", as_text(vector("wing"))), limit=5)).passages == []


@pytest.fixture
async def crowded(database: TenantDatabase) -> TenantDatabase:
    """More than 4,000 passages that all hold the words `wing` and `flow`, and one that holds a rare word too."""
    texts = [f"wing flow item{number}" for number in range(4100)]
    texts[1234] += " kestrel"
    await add(database, HashedVectors(), "crowd", texts)
    return database


async def test_a_word_that_nearly_every_passage_holds_is_passed_over_beside_rarer_ones(crowded: TenantDatabase) -> None:
    question = "kestrel falcon flow"
    found = (await search(crowded, query_of(question, as_text(vector(question))), limit=100)).passages
    scored = {one.text for one in found if one.lexical_score > 0}
    assert scored == {"wing flow item1234 kestrel"}


async def test_a_question_of_common_words_alone_is_still_searched_by_its_words(crowded: TenantDatabase) -> None:
    question = "wing flow"
    found = (await search(crowded, query_of(question, as_text(vector(question))), limit=5)).passages
    assert any(one.lexical_score > 0 for one in found)
    assert max(one.coverage for one in found) == pytest.approx(1.0)
