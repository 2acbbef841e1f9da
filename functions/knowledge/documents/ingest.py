"""Bringing a document's index to what its object is right now, whatever was announced and in whichever order.

An event is a hint. The object's current state is read, the document is claimed under a new generation, parsed in a
child process, chunked, embedded, and swapped in by one transaction, which commits only if the claim still counts.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator, Awaitable, Coroutine
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from functions.knowledge.documents import rows
from functions.knowledge.documents.chunks import chunk_document
from functions.knowledge.documents.names import object_key
from functions.knowledge.documents.parsing import LIMITS, Limits, ParsedDocument, Parsers
from functions.knowledge.documents.refusal import Refused, refused
from functions.knowledge.documents.rows import LEASE_S, Lease, Standing
from shared.embeddings import Embeddings
from shared.errors import Busy, NotFound, TooLarge
from shared.knowledge import delete_document_chunks, indexed, replace_chunks
from shared.objects import ObjectHead, TenantObjects
from shared.postgres import TenantDatabase, TenantTransaction

T = TypeVar("T")
DOCUMENT_BYTES_MAX = 100_000_000
CHUNKS_MAX = 50_000
RACES_MAX = 3
PATIENCE_S = 240.0  # less than a call may take
POLL_S = 1.0
PARSED_SHARE = 0.3


class Overtaken(Exception):
    """A newer content, another worker or a deletion has come in between: this work is void, and nothing is wrong."""


@dataclass
class Stage:
    """What the heartbeat tells of the work."""

    state: str = "parsing"
    progress: float = 0.05
    advanced: bool = False

    def embedded(self, done: int, total: int) -> None:
        """Embedding is what takes long: it has the upper seven tenths. What is embedded is kept, however this ends."""
        self.advanced = True
        self.progress = PARSED_SHARE + (0.99 - PARSED_SHARE) * done / max(total, 1)


@dataclass(frozen=True)
class Ingest:
    """What bringing a tenant's documents up to date takes."""

    database: TenantDatabase
    objects: TenantObjects
    embeddings: Embeddings
    parsers: Parsers
    limits: Limits = LIMITS
    patience_s: float = PATIENCE_S

    async def converge(self, name: str, event_id: str) -> None:
        """Make row and index say what the object says.

        Waits while an earlier delivery of the event is at it: its worker may be gone, or a large file takes longer
        than a delivery waits for its answer. Raises `Busy` to be called again.
        """
        races, waited_s = 0, 0.0
        while races < RACES_MAX:
            try:
                head = await self.objects.head(object_key(name))
            except NotFound:
                await forget(self.database, name)
                return
            try:
                if await self._bring_up(name, head, event_id) is not Standing.INTERRUPTED:
                    return
            except Overtaken:
                races += 1  # what overtook us may be the very object that is there now: look again
                continue
            if waited_s >= self.patience_s:
                raise Busy(f"document {name!r} is leased by an earlier delivery of this event", retry_after_s=LEASE_S)
            await asyncio.sleep(POLL_S)
            waited_s += POLL_S

    async def _bring_up(self, name: str, head: ObjectHead, event_id: str) -> Standing:
        async with self.parsers.place(), AsyncExitStack() as turn:
            await turn.enter_async_context(self.parsers.turn())
            async with self.database.transaction() as tx:
                claimed = await rows.claim(tx, name, head, event_id)
            if isinstance(claimed, Standing):
                return claimed
            await self._work(claimed, head, turn)
        return Standing.DONE

    async def _work(self, lease: Lease, head: ObjectHead, turn: AsyncExitStack) -> None:
        stage = Stage()
        try:
            await while_held(self.database, lease, stage, self._index(lease, head, stage, turn))
        except Refused as refusal:
            await self._refuse(lease, refusal)
        except NotFound as gone:
            raise Overtaken from gone
        except Overtaken:
            raise
        except BaseException as broken:
            blameless = isinstance(broken, Busy) or stage.advanced
            await asyncio.shield(rows.give_back(self.database, lease, blameless=blameless))
            raise

    async def _index(self, lease: Lease, head: ObjectHead, stage: Stage, turn: AsyncExitStack) -> None:
        """The turn ends with the chunks: embedding takes turns by itself, a batch of each document after the other."""
        parsed = await self._parsed(lease, head)
        await self._show(lease, stage, "embedding", PARSED_SHARE)
        chunks = await asyncio.to_thread(
            chunk_document, lease.name, parsed.text, parsed.blocks, self.embeddings.count_tokens
        )
        if len(chunks) > CHUNKS_MAX:
            raise refused("too_large", f"the document makes {len(chunks)} chunks; at most {CHUNKS_MAX} are indexed")
        await turn.aclose()
        ready = await indexed(self.database, self.embeddings, chunks, lease.document_id, stage.embedded)
        async with self.database.transaction() as tx:
            if not await rows.held(tx, lease):
                raise Overtaken
            await replace_chunks(tx, lease.document_id, lease.generation, ready)
            await rows.finish(tx, lease, text=parsed.text, note=parsed.note, chunks=len(chunks))
            await audited(tx, "documents.index", lease.name, etag=lease.etag, chunks=len(chunks))

    async def _parsed(self, lease: Lease, head: ObjectHead) -> ParsedDocument:
        if lease.exhausted:
            raise refused("attempts_exhausted", f"{rows.ATTEMPTS_MAX} attempts at it broke off without an answer")
        if head.size == 0:
            raise refused("empty", "the file has no bytes")
        if head.size > DOCUMENT_BYTES_MAX:
            raise refused("too_large", f"{head.size} bytes; at most {DOCUMENT_BYTES_MAX} are ingested")
        async with self._downloaded(lease, head) as path:
            return await self.parsers.parse(path, lease.name, self.limits)

    @asynccontextmanager
    async def _downloaded(self, lease: Lease, head: ObjectHead) -> AsyncIterator[Path]:
        """The object as a file, gone afterwards. Raises `Overtaken` when it is no longer what was claimed."""
        with tempfile.TemporaryDirectory(prefix="dcoder-ingest-") as folder:
            path = Path(folder) / "object"
            try:
                found = await self.objects.get_to_file(head.key, path, DOCUMENT_BYTES_MAX)
            except TooLarge as flaw:
                raise refused("too_large", f"{head.size} bytes; at most {DOCUMENT_BYTES_MAX} are ingested") from flaw
            if found.etag != lease.etag:
                raise Overtaken
            yield path

    async def _show(self, lease: Lease, stage: Stage, state: str, progress: float) -> None:
        stage.state, stage.progress = state, progress
        if not await rows.renew(self.database, lease, state, progress):
            raise Overtaken

    async def _refuse(self, lease: Lease, refusal: Refused) -> None:
        async with self.database.transaction() as tx:
            if not await rows.held(tx, lease):
                raise Overtaken
            await delete_document_chunks(tx, lease.document_id)
            await rows.refuse(tx, lease, refusal)
            await audited(tx, "documents.refuse", lease.name, etag=lease.etag, reason=refusal.reason)


async def forget(database: TenantDatabase, name: str) -> None:
    """Erase a document whose object is gone. A worker that is still at it finds its lease gone."""
    async with database.transaction() as tx:
        if await erase(tx, name):
            await audited(tx, "documents.forget", name)


async def audited(tx: TenantTransaction, action: str, name: str, **details: object) -> None:
    """Record what came of an object, by whichever way it came or went."""
    await tx.audit(action, f"document/{name}", actor="function:knowledge-documents", details=details)


async def erase(tx: TenantTransaction, name: str) -> bool:
    """Remove the row, the text and every trace in the index with the transaction. False when there was none."""
    document_id = await tx.fetchval("SELECT id FROM documents WHERE name = $1 FOR UPDATE", name)
    if document_id is None:
        return False
    await delete_document_chunks(tx, document_id)
    await tx.execute("DELETE FROM documents WHERE id = $1", document_id)
    return True


async def while_held(database: TenantDatabase, lease: Lease, stage: Stage, work: Coroutine[object, object, T]) -> T:
    """Do the work while the lease is renewed. Raises `Overtaken`, the work cancelled, as soon as it is lost."""
    working = asyncio.create_task(work)
    beating = asyncio.create_task(beat(database, lease, stage))
    try:
        await asyncio.wait((working, beating), return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise Overtaken
    finally:
        await ended(working, beating)


async def beat(database: TenantDatabase, lease: Lease, stage: Stage) -> None:
    """Return when the lease is lost. A database that is away is not a lost lease: the commit decides."""
    while True:
        await asyncio.sleep(LEASE_S / 3)
        try:
            if not await rows.renew(database, lease, stage.state, stage.progress):
                return
        except Busy:
            continue


async def ended(*tasks: asyncio.Task[T] | asyncio.Task[None]) -> None:
    for task in tasks:
        task.cancel()
    waiting: list[Awaitable[object]] = list(tasks)
    await asyncio.gather(*waiting, return_exceptions=True)
