"""Work that breaks off: what was embedded is kept, and no document is worked on for ever."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest

from functions.knowledge.documents.rows import ATTEMPTS_MAX
from shared.embeddings import Embeddings
from tests.functions.knowledge.documents.conftest import Library

if TYPE_CHECKING:
    from shared.embeddings.encoder import Vectors

PARTS = 150
LONG = "\n\n".join(f"# Part {number}\n\nOnly part {number} speaks of matter {number}." for number in range(PARTS))


class Stalling(Embeddings):
    """Embeds `allowance` texts, then stalls as a model does that the time limit will cut short."""

    def __init__(self) -> None:
        super().__init__()
        self.embedded: list[str] = []
        self.allowance = 0
        self.stalled = asyncio.Event()

    async def embed(self, texts: Sequence[str]) -> Vectors:
        if self.allowance <= 0:
            self.stalled.set()
            await asyncio.Event().wait()
        self.allowance -= len(texts)
        self.embedded += texts
        return await super().embed(texts)


class Defective(Embeddings):
    async def embed(self, texts: Sequence[str]) -> Vectors:
        raise ZeroDivisionError("a defect of ours")


async def cut_short(library: Library, embeddings: Stalling, name: str) -> None:
    embeddings.stalled.clear()
    work = asyncio.create_task(replace(library.ingest, embeddings=embeddings).converge(name, "the-event"))
    stalled = asyncio.create_task(embeddings.stalled.wait())
    await asyncio.wait((work, stalled), return_when=asyncio.FIRST_COMPLETED)
    work.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await work


async def test_a_document_that_takes_longer_than_the_time_limit_goes_on_where_it_was_cut_short(
    library: Library,
) -> None:
    await library.put("long.md", LONG.encode())
    embeddings = Stalling()
    for _ in range(ATTEMPTS_MAX + 1):
        embeddings.allowance = 32
        await cut_short(library, embeddings, "long.md")
        assert await library.state("long.md") == ("queued", "")
    embeddings.allowance = PARTS
    await replace(library.ingest, embeddings=embeddings).converge("long.md", "the-event")
    assert await library.state("long.md") == ("searchable", "")
    assert len(embeddings.embedded) == len(set(embeddings.embedded)) == await chunks_of(library)
    assert await kept(library) == 0


async def chunks_of(library: Library) -> int:
    return int(await library.database.fetchval("SELECT count(*) FROM chunks"))


async def test_what_was_kept_of_a_deleted_document_is_gone_with_it(library: Library) -> None:
    await library.put("long.md", LONG.encode())
    embeddings = Stalling()
    embeddings.allowance = 32
    await cut_short(library, embeddings, "long.md")
    assert await kept(library) == 32
    await library.objects.delete("documents/long.md")
    await library.ingest.converge("long.md", "removed")
    assert await kept(library) == 0


async def test_attempts_that_the_time_limit_cuts_short_without_progress_end_in_quarantine(library: Library) -> None:
    await library.put("stuck.md", LONG.encode())
    embeddings = Stalling()
    for _ in range(ATTEMPTS_MAX):
        await cut_short(library, embeddings, "stuck.md")
    await replace(library.ingest, embeddings=embeddings).converge("stuck.md", "the-event")
    assert await library.state("stuck.md") == ("quarantined", "attempts_exhausted")


async def test_a_defect_that_every_attempt_meets_ends_in_quarantine(library: Library) -> None:
    await library.put("odd.md", b"Words.")
    ingest = replace(library.ingest, embeddings=Defective())
    for _ in range(ATTEMPTS_MAX):
        with pytest.raises(ZeroDivisionError):
            await ingest.converge("odd.md", "the-event")
    await ingest.converge("odd.md", "the-event")
    assert await library.state("odd.md") == ("quarantined", "attempts_exhausted")


async def kept(library: Library) -> int:
    return int(await library.database.fetchval("SELECT count(*) FROM kept_vectors"))
