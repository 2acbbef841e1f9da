"""Processes that are killed, and objects that are too large."""

from __future__ import annotations

import asyncio
import os
import resource
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from shared.settings import Settings
from tests.functions.knowledge.documents.conftest import Library

ROOT = Path(__file__).parents[4]
GIB = 1024 * 1024 * 1024


def environment(settings: Settings) -> dict[str, str]:
    return {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "DCODER_POSTGRES_URL": settings.postgres_url,
        "DCODER_REDIS_URL": settings.redis_url,
        "DCODER_NATS_URL": settings.nats_url,
        "DCODER_OBJECTS_URL": settings.objects_url,
        "DCODER_OBJECTS_ACCESS_KEY": settings.objects_access_key,
        "DCODER_OBJECTS_SECRET_KEY": settings.objects_secret_key,
        "DCODER_PLATFORM_URL": settings.platform_url,
        "DCODER_LLM_URL": settings.llm_url,
        "DCODER_SECRETS_DIR": str(settings.secrets_dir),
    }


@asynccontextmanager
async def worker(settings: Settings, *arguments: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.functions.knowledge.documents.worker", *arguments,
        cwd=ROOT, env=environment(settings),
    )  # fmt: skip
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def state_reached(library: Library, name: str, state: str, timeout_s: float = 60) -> None:
    async with asyncio.timeout(timeout_s):
        while (await library.state(name))[0] != state:  # noqa: ASYNC110  another process changes the row
            await asyncio.sleep(0.02)


async def test_a_worker_killed_while_it_embeds_leaves_nothing_half_and_the_next_one_finishes(
    library: Library, settings: Settings
) -> None:
    text = "\n\n".join(f"# Part {number}\n\n{'different words here ' * 60}{number}" for number in range(60))
    await library.put("long.md", text.encode())
    async with worker(settings, library.tenant, "long.md", "event-1") as process:
        await state_reached(library, "long.md", "embedding")
        process.kill()
        await process.wait()
    assert await library.texts("long.md") == []
    await library.database.execute("UPDATE documents SET lease_until = clock_timestamp() - interval '1 second'")
    await library.ingest.converge("long.md", "event-1")
    assert await library.state("long.md") == ("searchable", "")
    texts = await library.texts("long.md")
    assert len(texts) == await library.database.fetchval("SELECT chunks FROM documents")
    assert sum("different words" in one for one in texts) >= 60


async def test_an_object_of_a_gigabyte_is_too_large_and_is_never_held_in_memory(
    library: Library, tmp_path: Path
) -> None:
    sparse = sparse_file(tmp_path / "sparse")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    await library.objects.put("documents/huge.txt", sparse, "text/plain")
    await library.ingest.converge("huge.txt", "event-1")
    assert await library.state("huge.txt") == ("rejected", "too_large")
    grown_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert grown_kib < 200 * 1024


def sparse_file(path: Path) -> Path:
    with path.open("wb") as target:
        target.truncate(GIB)
    return path
