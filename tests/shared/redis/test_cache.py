"""The cache, on a real server and without one."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from secrets import token_hex

import pytest
from redis.asyncio import Redis

from shared.errors import Unavailable
from shared.ids import TenantId
from shared.redis import CacheServer
from tests.fixtures.waiting import until

ACME, OTHER = TenantId("acme"), TenantId("other")


@pytest.fixture
async def server(redis_url: str) -> AsyncIterator[CacheServer]:
    server = CacheServer(redis_url)
    yield server
    await server.close()


async def test_a_value_is_kept_for_its_tenant_only(server: CacheServer) -> None:
    key = token_hex(8)
    await server.tenant(ACME).set(key, b"\x00value", 60)
    assert await server.tenant(ACME).get(key) == b"\x00value"
    assert await server.tenant(OTHER).get(key) is None


async def test_a_value_is_gone_when_its_time_is_over(server: CacheServer) -> None:
    key = token_hex(8)
    await server.tenant(ACME).set(key, b"1", 0.05)

    async def gone() -> bool:
        return await server.tenant(ACME).get(key) is None

    await until(gone, 5.0)


async def test_a_value_over_the_limit_is_not_kept(server: CacheServer) -> None:
    key = token_hex(8)
    await server.tenant(ACME).set(key, b"x" * (1024 * 1024 + 1), 60)
    assert await server.tenant(ACME).get(key) is None


async def test_without_a_server_everything_is_a_miss_and_quickly_so() -> None:
    server = CacheServer("redis://127.0.0.1:9/0")
    began = time.monotonic()
    for _ in range(50):
        await server.tenant(ACME).set("a", b"1", 60)
        assert await server.tenant(ACME).get("a") is None
    assert time.monotonic() - began < 5
    await server.close()


async def test_a_server_that_accepts_and_says_nothing_is_a_miss_too() -> None:
    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read()
        writer.close()

    listener = await asyncio.start_server(silent, "127.0.0.1", 0)
    server = CacheServer(f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}/0")
    assert await asyncio.wait_for(server.tenant(ACME).get("a"), 3) is None
    await server.close()
    listener.close()


async def test_a_call_that_is_cancelled_leaves_its_answer_to_nobody_else(server: CacheServer, redis_url: str) -> None:
    await server.tenant(ACME).set("mine", b"acme's own", 60)
    await server.tenant(OTHER).set("yours", b"the other's", 60)
    admin = Redis.from_url(redis_url)
    for _ in range(5):
        await admin.client_pause(60)
        cancelled = [asyncio.create_task(server.tenant(ACME).get("mine")) for _ in range(20)]
        await asyncio.sleep(0.02)
        for one in cancelled:
            one.cancel()
        await asyncio.wait(cancelled)
        answers = await asyncio.gather(*(server.tenant(OTHER).get("yours") for _ in range(20)))
        assert set(answers) == {b"the other's"}
    await admin.aclose()


async def test_an_empty_or_endless_key_is_refused(server: CacheServer) -> None:
    for key in ("", "x" * 513):
        with pytest.raises(ValueError, match="cache key"):
            await server.tenant(ACME).get(key)


async def test_a_forgotten_tenant_leaves_nothing_and_takes_nothing_along(server: CacheServer) -> None:
    longer = TenantId("acme-2")
    for tenant in (ACME, OTHER, longer):
        await server.tenant(tenant).set("kept", b"1", 60)
    await server.forget(ACME)
    found = [await server.tenant(tenant).get("kept") for tenant in (ACME, OTHER, longer)]
    assert found == [None, b"1", b"1"]


async def test_a_server_that_is_away_forgets_nobody_silently() -> None:
    server = CacheServer("redis://127.0.0.1:9/0")
    with pytest.raises(Unavailable):
        await server.forget(ACME)
    await server.close()
