"""Retrieval on the two judged collections, through the product's own path, beside plain BM25 and plain vectors.

Run it as `python -m tests.load.retrieval [folder]`. Cranfield: nDCG@10, binary gain, codes 1 to 4 relevant. Code:
Pass@5/10/20 over the given chunks. The weights were chosen on the odd queries; even ones are shown beside the whole.
Both collections are too small for common terms to be passed over. `ours, as large` searches as a large one is searched:
terms find passages while they stand in a fifth of all together, however few that are.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from unittest.mock import patch

import numpy as np

from shared.embeddings import Embeddings
from shared.knowledge import query_of, search
from shared.knowledge.index import as_text
from shared.postgres import TenantDatabase
from tests.load.judged import Collection, add_document, code, cranfield, ndcg, passed, tenant_database

DATA = Path(__file__).parents[2] / ".." / "shared" / "data" / "retrieval"
DEPTH = 20
Rankings = list[list[str]]


async def ours(database: TenantDatabase, embeddings: Embeddings, collection: Collection) -> Rankings:
    """What the search function returns, in its order."""
    vectors = await embeddings.embed([question.text for question in collection.questions])
    found = [
        await search(database, query_of(question.text, as_text(vector.tolist())), limit=DEPTH)
        for question, vector in zip(collection.questions, vectors, strict=True)
    ]
    return [[passage.id for passage in one.passages] for one in found]


async def ours_as_large(database: TenantDatabase, embeddings: Embeddings, collection: Collection) -> Rankings:
    reading = import_module("shared.knowledge.search")  # the package's attribute of that name is the function
    statement = reading.statement().replace("greatest(4000, ", "greatest(0, ")
    assert statement != reading.statement()
    with patch.object(reading, "statement", lambda: statement):
        return await ours(database, embeddings, collection)


def plain_bm25(collection: Collection) -> Rankings:
    """bm25s with Snowball stems and its English stop words, k1 = 1.2, b = 0.75."""
    import bm25s
    from Stemmer import Stemmer

    texts = collection.texts
    stemmer = Stemmer("english")
    index = bm25s.BM25(k1=1.2, b=0.75)
    index.index(
        bm25s.tokenize(list(texts.values()), stopwords="en", stemmer=stemmer, show_progress=False), show_progress=False
    )
    asked = [question.text for question in collection.questions]
    tokens = bm25s.tokenize(asked, stopwords="en", stemmer=stemmer, show_progress=False)
    places, _ = index.retrieve(tokens, k=DEPTH, show_progress=False)
    ids = list(texts)
    return [[ids[place] for place in row] for row in places]


async def plain_vectors(embeddings: Embeddings, collection: Collection) -> Rankings:
    texts = collection.texts
    ids = list(texts)
    chunks = await embeddings.embed(list(texts.values()))
    questions = await embeddings.embed([question.text for question in collection.questions])
    order = np.argsort(-(questions @ chunks.T), axis=1)[:, :DEPTH]
    return [[ids[place] for place in row] for row in order]


def figures(collection: Collection, rankings: Rankings) -> list[list[float]]:
    """A row of figures for each question."""
    pairs = list(zip(collection.questions, rankings, strict=True))
    if collection.name == "cranfield":
        return [[ndcg(question.golden, found)] for question, found in pairs]
    texts = collection.texts
    return [[passed(question.golden, found, depth, texts) for depth in (5, 10, 20)] for question, found in pairs]


def line(name: str, rows: Sequence[Sequence[float]]) -> str:
    whole, even = np.mean(rows, axis=0), np.mean(rows[1::2], axis=0)
    shown = [" / ".join(f"{one:.3f}" for one in means) for means in (whole, even)]
    return f"  {name:16s} whole {shown[0]:24s} even {shown[1]}"


async def compare(folder: Path) -> None:
    embeddings = Embeddings(threads=2)
    bars = {"cranfield": "nDCG@10 (binary), bar 0.42", "code": "Pass@5/10/20, bar 0.80 / 0.86 / 0.90"}
    for collection in (cranfield(folder), code(folder)):
        print(f"{collection.name}: {bars[collection.name]}, {len(collection.questions)} questions")
        async with tenant_database() as database:
            for name, chunks in collection.documents.items():
                await add_document(database, embeddings, name, chunks)
            print(line("ours", figures(collection, await ours(database, embeddings, collection))))
            print(line("ours, as large", figures(collection, await ours_as_large(database, embeddings, collection))))
        print(line("plain BM25", figures(collection, plain_bm25(collection))))
        print(line("plain vectors", figures(collection, await plain_vectors(embeddings, collection))))


def main() -> None:
    folder = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("DCODER_RETRIEVAL_DATA", str(DATA))
    asyncio.run(compare(Path(folder)))


if __name__ == "__main__":
    main()
