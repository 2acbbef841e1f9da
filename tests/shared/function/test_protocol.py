"""What a process of the host takes from a connection before it knows who is there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import PlainTextResponse
from starlette.types import Receive, Scope, Send

from shared.function.presence import EXTENSION, CallerGone, Departure, while_connected
from shared.function.protocol import HEAD_BYTES_MAX, BoundedProtocol
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import until

SENT_MAX = 64 * 1024 * 1024


LEFT: list[str] = []
WRITES: list[bytes] = []
GO_ON = asyncio.Event()


async def echo(scope: Scope, receive: Receive, send: Send) -> None:
    if scope["path"] == "/pieces":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await GO_ON.wait()
        await send({"type": "http.response.body", "body": b"piece", "more_body": True})
        await send({"type": "http.response.body", "body": b""})
        return
    if scope["path"].startswith("/forever"):
        try:
            told = scope["path"] == "/forever"
            assert not told or EXTENSION in scope["extensions"]
            await while_connected(scope if told else {}, receive, asyncio.sleep(3600))
        except CallerGone:
            LEFT.append(scope["path"])
        return
    request = Request(scope, receive)
    await PlainTextResponse(str(len(await request.body())))(scope, receive, send)


class Counting:
    """A transport that notes each write."""

    def __init__(self, transport: Any) -> None:  # Any: uvloop's or asyncio's
        self._transport = transport

    def __getattr__(self, name: str) -> Any:  # Any: as above
        return getattr(self._transport, name)

    def write(self, data: bytes) -> None:
        WRITES.append(data)
        self._transport.write(data)


class CountingProtocol(BoundedProtocol):
    def connection_made(self, transport: Any) -> None:  # Any: as above
        super().connection_made(Counting(transport))  # type: ignore[arg-type]  # it is one in all that is used


@pytest.fixture
async def port() -> AsyncIterator[int]:
    number = free_port()
    server = uvicorn.Server(
        uvicorn.Config(echo, port=number, log_level="critical", lifespan="off", http=CountingProtocol)
    )
    running = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    yield number
    server.should_exit = True
    await running


async def sent_before_the_close(port: int, head: bytes, filler: bytes) -> tuple[int, bytes]:
    """How much of an endless head was taken, and what was answered."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(head)
    sent = 0
    try:
        while sent < SENT_MAX and not reader.at_eof():
            writer.write(filler)
            await asyncio.wait_for(writer.drain(), 10)
            sent += len(filler)
            await asyncio.sleep(0)
    except ConnectionError:
        pass
    try:
        answered = await asyncio.wait_for(reader.read(), 10)
    except ConnectionError:
        answered = b""
    writer.transport.abort()
    return sent, answered


@pytest.mark.parametrize(
    ("head", "filler"),
    [
        (b"GET / HTTP/1.1\r\nhost: here\r\nx-endless: ", b"x" * 65536),
        (b"GET / HTTP/1.1\r\nhost: here\r\n", b"x-one: 1\r\n" * 4096),
        (b"GET /", b"x" * 65536),
    ],
    ids=["one header", "many headers", "the line"],
)
async def test_a_head_without_an_end_is_refused(port: int, head: bytes, filler: bytes) -> None:
    sent, answered = await sent_before_the_close(port, head, filler)
    assert sent < SENT_MAX // 4
    assert answered == b"" or answered.startswith(b"HTTP/1.1 400")


async def test_a_large_body_and_the_next_request_are_no_part_of_the_head(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    body = b"x" * (8 * HEAD_BYTES_MAX)
    for _ in range(2):
        writer.write(b"POST / HTTP/1.1\r\nhost: here\r\ncontent-length: %d\r\n\r\n" % len(body) + body)
        await writer.drain()
        answer = await asyncio.wait_for(reader.readuntil(b"%d" % len(body)), 10)
        assert answer.startswith(b"HTTP/1.1 200")
    writer.close()


async def test_a_whole_answer_is_one_write(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    for _ in range(3):
        WRITES.clear()
        writer.write(b"GET / HTTP/1.1\r\nhost: here\r\n\r\n")
        whole = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n0"), 10)
        assert [whole] == WRITES
    writer.close()


async def test_the_head_of_a_stream_does_not_wait_for_its_first_piece(port: int) -> None:
    GO_ON.clear()
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /pieces HTTP/1.1\r\nhost: here\r\n\r\n")
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10)
    assert head.startswith(b"HTTP/1.1 200")
    GO_ON.set()
    assert await asyncio.wait_for(reader.readuntil(b"0\r\n\r\n"), 10) == b"5\r\npiece\r\n0\r\n\r\n"
    writer.close()


async def test_who_waits_for_a_go_on_gets_it_before_the_answer(port: int) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"POST / HTTP/1.1\r\nhost: here\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n")
    assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 10) == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"hi")
    assert (await asyncio.wait_for(reader.readuntil(b"2"), 10)).startswith(b"HTTP/1.1 2")
    writer.close()


@pytest.mark.parametrize("path", ["/forever", "/forever/asked"], ids=["told by the server", "asked by receiving"])
async def test_work_for_a_caller_who_has_gone_is_ended(port: int, path: str) -> None:
    LEFT.clear()
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nhost: here\r\n\r\n".encode())
    await asyncio.sleep(0.1)
    assert LEFT == []
    writer.close()
    await until(lambda: [path] == LEFT)


async def test_work_is_not_begun_for_who_has_gone_already() -> None:
    departure, begun = Departure(), []
    departure.happen()

    async def work() -> None:
        begun.append(True)

    async def receive() -> dict[str, str]:
        raise AssertionError("nobody is asked")

    with pytest.raises(CallerGone):
        await while_connected({"extensions": {EXTENSION: departure}}, receive, work())
    assert begun == []
