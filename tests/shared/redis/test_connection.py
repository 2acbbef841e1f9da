"""The pipelined connection, on a real server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from secrets import token_hex

import pytest

from shared.redis.connection import Connection, ConnectionLost, connected


@pytest.fixture
async def connection(redis_url: str) -> AsyncIterator[Connection]:
    found = await connected(redis_url)
    yield found
    found.close()


async def test_what_nobody_waits_for_goes_after_what_somebody_does(connection: Connection) -> None:
    key = token_hex(8)
    patient = [connection.command("INCR", key, patient=True) for _ in range(3)]
    urgent = connection.command("INCR", key)
    assert await urgent == 1
    assert await asyncio.gather(*patient) == [2, 3, 4]


async def test_what_nobody_waits_for_is_sent_soon_all_the_same(connection: Connection) -> None:
    key = token_hex(8)
    assert await asyncio.wait_for(connection.command("INCR", key, patient=True), 1) == 1


async def test_any_text_comes_back_as_it_was(connection: Connection) -> None:
    key, text = token_hex(8), "a\r\n$5\r\n\u00e9\u4e2d\U0001f600\0"
    await connection.command("SET", key, text)
    assert await connection.command("GET", key) == text.encode()


async def test_all_commands_are_told_when_the_connection_is_lost(connection: Connection) -> None:
    waiting = [connection.command("PING"), connection.command("PING", patient=True)]
    connection.close()
    for answer in await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), 5):
        assert isinstance(answer, ConnectionLost)
