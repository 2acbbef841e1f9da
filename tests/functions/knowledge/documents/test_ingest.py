"""Convergence: whatever is announced, how often and in whichever order, the index ends as what the object is."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from functions.knowledge.documents import rows
from functions.knowledge.documents.reconcile import reconcile_documents
from functions.knowledge.documents.rows import Lease, Standing
from shared.embeddings import Embeddings
from shared.errors import Busy
from tests.functions.knowledge.documents import samples
from tests.functions.knowledge.documents.conftest import Library

if TYPE_CHECKING:
    from shared.embeddings.encoder import Vectors


async def test_a_document_becomes_searchable_with_its_text_stored(library: Library) -> None:
    await library.ingested("a.md", b"# Title\n\nThe answer is forty-two.")
    assert await library.state("a.md") == ("searchable", "")
    row = await library.database.fetchrow(
        "SELECT c.text, substr(t.text, c.start_at + 1, c.end_at - c.start_at) AS cited, d.searchable_at, d.chunks "
        "FROM documents d JOIN chunks c ON c.document_id = d.id JOIN document_texts t ON t.document_id = d.id"
    )
    assert row is not None
    assert row["text"] == row["cited"]
    assert row["searchable_at"] is not None
    assert row["chunks"] == 1


async def test_a_new_content_replaces_the_old_one(library: Library) -> None:
    await library.ingested("a.txt", b"old words")
    await library.ingested("a.txt", b"new words")
    assert await library.texts("a.txt") == ["new words"]


async def test_the_same_content_announced_again_changes_nothing(library: Library) -> None:
    await library.ingested("a.txt", b"words")
    before = await library.database.fetchrow("SELECT * FROM documents")
    await library.ingest.converge("a.txt", "another-event")
    assert await library.database.fetchrow("SELECT * FROM documents") == before


async def test_an_event_delivered_ten_times_at_once_indexes_once(library: Library) -> None:
    await library.put("a.txt", b"words")
    results = await asyncio.gather(
        *(library.ingest.converge("a.txt", "the-event") for _ in range(10)), return_exceptions=True
    )
    assert all(result is None or isinstance(result, Busy) for result in results)
    assert await library.texts("a.txt") == ["words"]
    assert await library.database.fetchval("SELECT attempts FROM documents") == 1


async def test_events_out_of_order_end_at_the_objects_current_state(library: Library) -> None:
    await library.put("a.txt", b"first")
    await library.put("a.txt", b"second")
    await library.ingest.converge("a.txt", "event-of-second")
    await library.ingest.converge("a.txt", "event-of-first")
    assert await library.texts("a.txt") == ["second"]


async def test_an_event_for_a_deleted_object_leaves_nothing_behind(library: Library) -> None:
    await library.ingested("a.txt", b"words")
    await library.objects.delete("documents/a.txt")
    await library.ingest.converge("a.txt", "late-created-event")
    assert await library.state("a.txt") == ("absent", "")
    for table in ("documents", "document_texts", "chunks", "chunk_vectors", "postings"):
        assert await library.database.fetchval(f"SELECT count(*) FROM {table}") == 0, table


async def test_a_poison_file_is_kept_away_and_the_others_go_on(library: Library) -> None:
    await library.put("bomb.docx", samples.bomb_docx())
    await library.put("good.txt", b"good words")
    await asyncio.gather(library.ingest.converge("bomb.docx", "1"), library.ingest.converge("good.txt", "2"))
    assert await library.state("bomb.docx") == ("quarantined", "zip_bomb")
    assert await library.state("good.txt") == ("searchable", "")


async def test_a_bad_content_takes_the_good_one_out_of_the_index(library: Library) -> None:
    await library.ingested("a.pdf", samples.handbook_pdf())
    assert await library.texts("a.pdf")
    await library.ingested("a.pdf", samples.encrypted_pdf())
    assert await library.state("a.pdf") == ("rejected", "encrypted")
    assert await library.texts("a.pdf") == []


async def test_an_object_without_bytes_is_empty(library: Library) -> None:
    await library.ingested("a.txt", b"")
    assert await library.state("a.txt") == ("rejected", "empty")


async def test_a_worker_that_was_overtaken_changes_nothing(library: Library) -> None:
    stale = await claimed(library, "a.txt", b"first", "event-1")
    await library.ingested("a.txt", b"second", "event-2")
    async with library.database.transaction() as tx:
        assert not await rows.held(tx, stale)
    assert not await rows.renew(library.database, stale, "embedding", 0.5)
    assert await library.texts("a.txt") == ["second"]


async def test_the_same_event_waits_for_its_lost_worker_and_another_leaves_it_alone(library: Library) -> None:
    await claimed(library, "a.txt", b"words", "event-1")
    with pytest.raises(Busy):
        await library.ingest.converge("a.txt", "event-1")
    await library.ingest.converge("a.txt", "event-2")
    assert await library.state("a.txt") == ("parsing", "")


async def test_an_event_delivered_again_waits_for_the_worker_that_is_at_it(library: Library) -> None:
    held = HeldEmbeddings()
    ingest = dataclasses.replace(library.ingest, embeddings=held, patience_s=30)
    await library.put("long.txt", b"long words")
    first = asyncio.create_task(ingest.converge("long.txt", "event-1"))
    await asyncio.wait_for(held.waiting.wait(), 30)
    again = asyncio.create_task(ingest.converge("long.txt", "event-1"))
    held.released.set()
    await asyncio.wait_for(asyncio.gather(first, again), 30)
    assert await library.state("long.txt") == ("searchable", "")
    assert await library.database.fetchval("SELECT attempts FROM documents") == 1
    await held.close()


async def test_documents_that_take_long_to_embed_hold_no_small_one_up(library: Library) -> None:
    held = HeldEmbeddings()
    ingest = dataclasses.replace(library.ingest, embeddings=held)
    for name in ("one.txt", "two.txt", "three.txt"):
        await library.put(name, b"long words of " + name.encode())
    long = [asyncio.create_task(ingest.converge(name, name)) for name in ("one.txt", "two.txt", "three.txt")]
    await asyncio.wait_for(held.waiting.wait(), 30)
    await library.put("small.txt", b"few words")
    await asyncio.wait_for(ingest.converge("small.txt", "small"), 30)
    assert await library.state("small.txt") == ("searchable", "")
    held.released.set()
    await asyncio.wait_for(asyncio.gather(*long), 30)
    await held.close()


async def test_a_document_deleted_while_it_is_embedded_leaves_nothing_behind(library: Library) -> None:
    held = HeldEmbeddings()
    await library.put("a.txt", b"long words")
    ingest = dataclasses.replace(library.ingest, embeddings=held)
    working = asyncio.create_task(ingest.converge("a.txt", "created"))
    await asyncio.wait_for(held.waiting.wait(), 30)
    await library.objects.delete("documents/a.txt")
    await library.ingest.converge("a.txt", "removed")
    held.released.set()
    await asyncio.wait_for(working, 30)
    for table in ("documents", "document_texts", "chunks", "chunk_vectors", "postings"):
        assert await library.database.fetchval(f"SELECT count(*) FROM {table}") == 0, table
    await held.close()


class HeldEmbeddings(Embeddings):
    """The real model, which waits to be released before it embeds what has the word "long"."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting = asyncio.Event()
        self.released = asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if any("long" in text for text in texts):
            self.waiting.set()
            await self.released.wait()
        return await super().embed(texts)


async def test_work_whose_lease_ran_out_is_taken_up_again(library: Library) -> None:
    await claimed(library, "a.txt", b"words", "event-1")
    await expire(library)
    await library.ingest.converge("a.txt", "event-1")
    assert await library.state("a.txt") == ("searchable", "")


async def test_three_attempts_that_broke_off_end_in_quarantine(library: Library) -> None:
    for _ in range(rows.ATTEMPTS_MAX):
        await claimed(library, "a.txt", b"words", "event-1")
        await expire(library)
    await library.ingest.converge("a.txt", "event-1")
    assert await library.state("a.txt") == ("quarantined", "attempts_exhausted")


async def test_a_store_that_is_away_counts_as_no_attempt(library: Library) -> None:
    lease = await claimed(library, "a.txt", b"words", "event-1")
    await rows.give_back(library.database, lease, blameless=True)
    assert await library.state("a.txt") == ("queued", "")
    assert await library.database.fetchval("SELECT attempts FROM documents") == 0


async def test_unchanged_chunks_are_not_embedded_again(library: Library) -> None:
    part = "# Part {0}\n\nSentence {0} about topic {0}. " + "filler " * 60
    text = "\n\n".join(part.format(number) for number in range(6))
    await library.ingested("a.md", text.encode())
    before = {row["id"] for row in await library.database.fetch("SELECT id FROM chunks")}
    await library.ingested("a.md", text.replace("topic 3", "matter 3").encode())
    after = {row["id"] for row in await library.database.fetch("SELECT id FROM chunks")}
    assert len(after - before) == 1


async def test_reconciling_announces_what_was_missed_both_ways(library: Library) -> None:
    await library.ingested("kept.txt", b"kept")
    await library.ingested("gone.txt", b"gone")
    await library.objects.delete("documents/gone.txt")
    await library.put("missed.txt", b"missed")
    await claimed(library, "stuck.txt", b"stuck", "event-1")
    await expire(library)
    lost = await reconcile_documents(library.database, library.objects, datetime.now(UTC))
    assert {head.key for head in lost.created} == {"documents/missed.txt", "documents/stuck.txt"}
    assert lost.removed == ("gone.txt",)


async def claimed(library: Library, name: str, content: bytes, event_id: str) -> Lease:
    """What a worker that dies right after its claim leaves behind."""
    head = await library.put(name, content)
    async with library.database.transaction() as tx:
        lease = await rows.claim(tx, name, head, event_id)
    assert not isinstance(lease, Standing)
    return lease


async def expire(library: Library) -> None:
    await library.database.execute(
        "UPDATE documents SET lease_until = clock_timestamp() - interval '1 second' WHERE lease_until IS NOT NULL"
    )
