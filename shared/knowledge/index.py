"""Writing the index: a document's old chunks go and its new ones come in one transaction.

A vector depends on the embedded text alone, so it is kept under that text's hash: what did not change is not
embedded again, wherever in the tenant's documents it stands.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from shared.analysis import terms
from shared.embeddings import MODEL
from shared.knowledge.chunk import Chunk
from shared.postgres import TenantDatabase, TenantTransaction

EMBED_TEXTS_MAX = 32
"""Texts handed to the model at once; progress is told and the model is free for others in between."""
CHUNK_COLUMNS = (
    "id", "document_id", "ordinal", "start_at", "end_at", "page", "heading", "text", "terms", "content_hash"
)  # fmt: skip
Vector = str
"""pgvector's text form, `[0.1,…]`."""
Progress = Callable[[int, int], object]


class Embedder(Protocol):
    """What turns texts into unit vectors: `shared.embeddings.Embeddings`, or a test's own."""

    async def embed(self, texts: Sequence[str]) -> Iterable[Iterable[float]]: ...


@dataclass(frozen=True, slots=True)
class IndexedChunk:
    """A chunk with its vector and its terms' counts, ready to be written."""

    chunk: Chunk
    vector: Vector
    terms: Mapping[int, int]
    content_hash: bytes

    @property
    def length(self) -> int:
        return sum(self.terms.values())


async def indexed(
    database: TenantDatabase,
    embedder: Embedder,
    chunks: Sequence[Chunk],
    document_id: UUID,
    progress: Progress | None = None,
) -> list[IndexedChunk]:
    """The chunks with vectors: those that the tenant's index holds already, and embedded ones for the rest.

    Each batch is kept for the document as it comes, so that an attempt cut short leaves it to the next one;
    then `progress` is told (done, total).
    """
    hashes = [content_hash(chunk) for chunk in chunks]
    vectors = await known_vectors(database, hashes, document_id)
    missing = {digest: chunk for digest, chunk in zip(hashes, chunks, strict=True) if digest not in vectors}
    waiting = list(missing.items())
    for first in range(0, len(waiting), EMBED_TEXTS_MAX):
        batch = waiting[first : first + EMBED_TEXTS_MAX]
        embedded = await embedder.embed([embedded_text(chunk) for _, chunk in batch])
        fresh = {digest: as_text(vector) for (digest, _), vector in zip(batch, embedded, strict=True)}
        vectors |= fresh
        if first + len(batch) < len(waiting):  # the last batch is about to be committed with everything else
            await keep_vectors(database, document_id, fresh)
        if progress is not None:
            progress(len(chunks) - len(waiting) + first + len(batch), len(chunks))
    return [
        IndexedChunk(chunk, vectors[digest], Counter(map(term_number, terms(embedded_text(chunk)))), digest)
        for digest, chunk in zip(hashes, chunks, strict=True)
    ]


async def known_vectors(database: TenantDatabase, hashes: Sequence[bytes], document_id: UUID) -> dict[bytes, Vector]:
    rows = await database.fetch(
        """
        SELECT DISTINCT ON (content_hash) content_hash, embedding::text AS vector FROM (
            SELECT content_hash, embedding FROM chunks JOIN chunk_vectors USING (n) WHERE content_hash = ANY($1)
            UNION ALL SELECT content_hash, embedding FROM kept_vectors
            WHERE document_id = $2 AND content_hash = ANY($1)
        ) AS found
        """,
        list(hashes), document_id,
    )  # fmt: skip
    return {row["content_hash"]: row["vector"] for row in rows}


async def keep_vectors(database: TenantDatabase, document_id: UUID, vectors: Mapping[bytes, Vector]) -> None:
    """Nothing is kept for a document that was deleted meanwhile."""
    await database.execute(
        """
        INSERT INTO kept_vectors
        SELECT d.id, hash, v::halfvec FROM documents d, unnest($2::bytea[], $3::text[]) AS given (hash, v)
        WHERE d.id = $1 ON CONFLICT DO NOTHING
        """,
        document_id, list(vectors), list(vectors.values()),
    )  # fmt: skip


async def replace_chunks(
    tx: TenantTransaction, document_id: UUID, version: int, chunks: Sequence[IndexedChunk]
) -> None:
    """Swap the document's chunks for these. Readers see the old ones or the new ones, never both and never half."""
    await delete_document_chunks(tx, document_id)
    if not chunks:
        return
    d = await tx.fetchval(
        "INSERT INTO indexed_documents (document_id, version, chunks, terms) VALUES ($1, $2, $3, $4) RETURNING d",
        document_id, version, len(chunks), sum(one.length for one in chunks),
    )  # fmt: skip
    await tx.copy_records("chunks", CHUNK_COLUMNS, [chunk_row(document_id, one) for one in chunks])
    rows = await tx.fetch("SELECT id, n FROM chunks WHERE document_id = $1", document_id)
    numbers = {row["id"]: row["n"] for row in rows}
    await tx.execute(
        "INSERT INTO chunk_vectors SELECT n, $1, v::halfvec FROM unnest($2::integer[], $3::text[]) AS given (n, v)",
        d, [numbers[one.chunk.id] for one in chunks], [one.vector for one in chunks],
    )  # fmt: skip
    postings = [row for one in chunks for row in posting_rows(one, numbers[one.chunk.id], d)]
    await tx.copy_records("postings", ("term", "n", "d", "tf", "length"), postings)


async def delete_document_chunks(tx: TenantTransaction, document_id: UUID) -> None:
    """Take the document out of the index. Unknown ids are no error."""
    await tx.execute("DELETE FROM kept_vectors WHERE document_id = $1", document_id)
    await tx.execute("DELETE FROM indexed_documents WHERE document_id = $1", document_id)


def chunk_row(document_id: UUID, one: IndexedChunk) -> tuple[object, ...]:
    chunk = one.chunk
    place = (chunk.ordinal, chunk.start, chunk.end, chunk.page)
    return (chunk.id, document_id, *place, chunk.heading, chunk.text, one.length, one.content_hash)


def posting_rows(one: IndexedChunk, n: int, d: int) -> Iterator[tuple[int, ...]]:
    length = one.length
    for term, tf in one.terms.items():
        yield term, n, d, tf, length


def term_number(term: str) -> int:
    """A term as the index keeps it: a signed 64-bit hash, so that no dictionary has to be kept."""
    digest = hashlib.blake2b(term.encode("utf-8", "surrogatepass"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)


def content_hash(chunk: Chunk) -> bytes:
    """What the vector depends on: the model and the text it sees."""
    return hashlib.sha256(f"{MODEL}\0{embedded_text(chunk)}".encode()).digest()


def embedded_text(chunk: Chunk) -> str:
    """The chunk under its heading: a passage alone often lacks the word that its title holds."""
    return f"{chunk.heading}\n{chunk.text}" if chunk.heading and chunk.heading not in chunk.text else chunk.text


def as_text(vector: Iterable[float]) -> Vector:
    return "[" + ",".join(f"{value:.5g}" for value in vector) + "]"
