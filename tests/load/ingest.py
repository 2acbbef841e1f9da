"""How fast documents become searchable, on real servers: `python -m tests.load.ingest`.

Prints chunks of 256 tokens per second and core, embedding included, and the time from the object's arrival until a
one-page file is searchable, with the parser warm. Delivery of the event is not part of it, and neither is
the processor time of PostgreSQL and the object store.
"""

from __future__ import annotations

import asyncio
import os
import secrets
import time
from collections.abc import AsyncIterator
from contextlib import ExitStack, asynccontextmanager

from functions.knowledge.documents.ingest import Ingest
from functions.knowledge.documents.parsing import Parsers
from shared.embeddings import Embeddings
from shared.function.resources import TenantBuckets
from shared.host.control import prepare_control_database
from shared.ids import TenantId
from shared.objects import ObjectStore
from shared.postgres import ControlDatabase, Databases
from shared.secrets import read_key
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.servers import postgres_server, scratch_directory, seaweed_server, write_key_files

SENTENCE = "the platform keeps every tenant in its own database and seals each change in an audit log"
PARTS = 100
PAGES = 20
CHUNKS_PER_S_BAR = 10.0
SEARCHABLE_S_BAR = 2.0


@asynccontextmanager
async def ingesting() -> AsyncIterator[Ingest]:
    with ExitStack() as servers:
        postgres = servers.enter_context(postgres_server())
        objects = servers.enter_context(seaweed_server())
        home = servers.enter_context(scratch_directory())
        url = await prepare_control_database(postgres.url, "dcoder", "dcoder-load")
        settings = Settings(
            url, "redis://127.0.0.1:9", "nats://127.0.0.1:9", objects.url, objects.access_key, objects.secret_key,
            "http://127.0.0.1:9", "http://127.0.0.1:9", write_key_files(home / "secrets"),
        )  # fmt: skip
        store, databases = ObjectStore(settings), Databases(connections_max=8)
        registry = TenantRegistry(
            ControlDatabase(url, databases), read_key(settings, "root"), buckets=TenantBuckets(store, settings)
        )
        tenant = TenantId("load")
        await registry.create(tenant)
        yield Ingest(await registry.database(tenant), store.tenant(tenant), Embeddings(), Parsers())
        await databases.close()
        await store.close()


def long_document() -> bytes:
    """Sections of about 250 tokens, no two alike."""
    sections = []
    for part in range(PARTS):
        sentences = [SENTENCE + f" case {part} item {sentence}." for sentence in range(11)]
        sections.append(f"# Part {part}\n\n" + " ".join(sentences))
    return "\n\n".join(sections).encode()


async def timed(ingest: Ingest, name: str, content: bytes) -> float:
    started = time.perf_counter()
    await ingest.objects.put(f"documents/{name}", content, "text/markdown")
    await ingest.converge(name, secrets.token_hex(8))
    return time.perf_counter() - started


async def main() -> None:
    async with ingesting() as ingest:
        first_s = await timed(ingest, "first.md", b"# First\n\nIt loads the model.")
        before = os.times()
        elapsed_s = await timed(ingest, "long.md", long_document())
        after = os.times()
        cores = (sum(after[:4]) - sum(before[:4])) / elapsed_s
        chunks = await ingest.database.fetchval("SELECT chunks FROM documents WHERE name = 'long.md'")
        tokens = await token_mean(ingest)
        page = "\n\n".join(f"Paragraph {number} of a page. " + SENTENCE * 2 for number in range(8))
        pages = sorted([await timed(ingest, f"page-{n}.md", f"{page} {n}".encode()) for n in range(PAGES)])
        rate = chunks / elapsed_s / max(cores, 1.0)
        print(f"{chunks} chunks of {tokens:.0f} tokens on average in {elapsed_s:.2f} s on {cores:.2f} cores")
        print(f"  {rate:.1f} chunks per second and core (bar: at least {CHUNKS_PER_S_BAR:g})")
        print(f"one page: median {pages[PAGES // 2]:.2f} s, slowest {pages[-1]:.2f} s (bar: {SEARCHABLE_S_BAR:g} s)")
        print(f"the very first document of a process, model and parser cold: {first_s:.2f} s")


async def token_mean(ingest: Ingest) -> float:
    rows = await ingest.database.fetch(
        "SELECT text FROM chunks JOIN documents d ON d.id = document_id WHERE d.name = 'long.md'"
    )
    return sum(ingest.embeddings.count_tokens(row["text"]) for row in rows) / len(rows)


if __name__ == "__main__":
    asyncio.run(main())
