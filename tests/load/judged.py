"""The judged collections as documents and questions, a tenant's database for them, and the published metrics."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from shared.ids import TenantId
from shared.knowledge import Chunk, indexed, replace_chunks
from shared.knowledge.index import Embedder
from shared.postgres import ControlDatabase, Databases, TenantDatabase, address, open_connection
from shared.tenancy.template import fill
from tests.fixtures.servers import postgres_server


@dataclass(frozen=True)
class Question:
    """`golden`: ids of the chunks or documents that answer it."""

    id: str
    text: str
    golden: frozenset[str]


@dataclass(frozen=True)
class Collection:
    """`documents`: chunks by the document they are part of."""

    name: str
    documents: Mapping[str, Sequence[Chunk]]
    questions: Sequence[Question]

    @property
    def texts(self) -> dict[str, str]:
        return {chunk.id: chunk.text for chunks in self.documents.values() for chunk in chunks}


def rows(path: Path) -> list[dict[str, object]]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def cranfield(folder: Path) -> Collection:
    """Abstracts as documents of one chunk. Relevant: codes 1 to 4; the two empty ones have nothing to index."""
    golden: dict[str, set[str]] = defaultdict(set)
    for line in (folder / "cranfield" / "qrels.tsv").read_text().splitlines()[1:]:
        question, document, code = line.split()
        if int(code) > 0:
            golden[question].add(document)
    documents = {}
    for row in rows(folder / "cranfield" / "corpus.jsonl"):
        text = f"{row['title']}\n{row['text']}"
        if row["text"]:
            documents[str(row["id"])] = [Chunk(str(row["id"]), 0, 0, len(text), None, "", text)]
    questions = rows(folder / "cranfield" / "queries.jsonl")
    return Collection("cranfield", documents, [asked(row, frozenset(golden[str(row["id"])])) for row in questions])


def code(folder: Path) -> Collection:
    """The given chunks, in the file that each is part of."""
    documents: dict[str, list[Chunk]] = defaultdict(list)
    for row in rows(folder / "code" / "chunks.jsonl"):
        chunks, text = documents[str(row["document_id"])], str(row["text"])
        start = chunks[-1].end if chunks else 0
        chunks.append(Chunk(str(row["id"]), len(chunks), start, start + len(text), None, "", text))
    questions = rows(folder / "code" / "queries.jsonl")
    return Collection("code", documents, [asked(row, frozenset(map(str, row["golden"]))) for row in questions])  # type: ignore[call-overload]  # JSON


def asked(row: Mapping[str, object], golden: frozenset[str]) -> Question:
    return Question(str(row["id"]), str(row["text"]), golden)


@asynccontextmanager
async def tenant_database() -> AsyncIterator[TenantDatabase]:
    """A tenant's database with the product's schema, on a server of its own."""
    with postgres_server() as server:
        databases = Databases(connections_max=4)
        await ControlDatabase(server.url, databases).execute("CREATE DATABASE judged")
        dsn = address(server.url, database="judged")
        async with open_connection(dsn) as connection:
            await fill(connection)
        try:
            yield TenantDatabase(TenantId("judged"), dsn, databases)
        finally:
            await databases.close()


async def add_document(database: TenantDatabase, embedder: Embedder, name: str, chunks: Sequence[Chunk]) -> UUID:
    """Index a document the way that ingestion does, after parsing and chunking."""
    document: UUID = await database.fetchval(
        "INSERT INTO documents (name, etag, bytes, state, version) VALUES ($1, '', 0, 'searchable', 1) RETURNING id",
        name,
    )
    ready = await indexed(database, embedder, chunks, document)
    async with database.transaction() as tx:
        text = "".join(chunk.text for chunk in chunks)
        await tx.execute("INSERT INTO document_texts (document_id, version, text) VALUES ($1, 1, $2)", document, text)
        await replace_chunks(tx, document, 1, ready)
    return document


def ndcg(golden: frozenset[str], found: Sequence[str], depth: int = 10) -> float:
    """Binary gain, log2 discount, over the best order possible."""
    gained = sum(1 / math.log2(place + 2) for place, one in enumerate(found[:depth]) if one in golden)
    return gained / sum(1 / math.log2(place + 2) for place in range(min(depth, len(golden))))


def passed(golden: frozenset[str], found: Sequence[str], depth: int, texts: Mapping[str, str]) -> float:
    """The share of golden chunks among the first `depth`, compared by their text as the published notebook does."""
    have = {texts[one].strip() for one in found[:depth]}
    return sum(texts[one].strip() in have for one in golden) / len(golden)
