"""HTTP/1.1 towards providers: what a server may send, and what becomes of the connection."""

from __future__ import annotations

import asyncio
import gzip
import zlib
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import pytest

from shared.llm import http
from shared.llm.connection import BUFFERED_HIGH, HEAD_BYTES_MAX, UNPACKED_BYTES_MAX
from shared.llm.http import Client, ConnectFailure, target_of
from tests.fixtures.waiting import until

OK = b"HTTP/1.1 200 OK\r\n"
SHORT = OK + b"content-length: 2\r\n\r\nok"


def encoded(encoding: bytes, body: bytes) -> bytes:
    return OK + b"content-encoding: %b\r\ncontent-length: %d\r\n\r\n" % (encoding, len(body)) + body


class Server:
    """Sends for each request what it is told to, and counts its connections."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0
        self.requests: list[bytes] = []
        self.answers: list[bytes] = []
        self.then: Callable[[asyncio.StreamWriter], None] = lambda writer: None
        self.writers: list[asyncio.StreamWriter] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        self.writers.append(writer)
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
                self.requests.append(head + await reader.readexactly(length))
                writer.write(self.answers.pop(0))
                self.then(writer)
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()


@asynccontextmanager
async def served(*answers: bytes, read_timeout_s: float = 5) -> AsyncIterator[tuple[Server, Client]]:
    server = Server()
    server.answers = list(answers)
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    server.port = listening.sockets[0].getsockname()[1]

    async def addresses(host: str, port: int) -> list[str]:
        return ["127.0.0.1"]

    client = Client(addresses, read_timeout_s=read_timeout_s)
    try:
        yield server, client
    finally:
        await client.close()
        listening.close()
        for writer in server.writers:
            writer.transport.abort()


async def ask(server: Server, client: Client, *, body: bytes = b"x") -> tuple[int, bytes]:
    answer = await client.send(b"POST", f"http://provider.example:{server.port}/v1/x?y=1", {b"a": b"b"}, body)
    return answer.status, await rest(answer)


async def rest(answer: http.Answer) -> bytes:
    pieces = []
    while (piece := await answer.read()) is not None:
        pieces.append(piece)
    return b"".join(pieces)


async def test_a_request_is_sent_as_the_protocol_has_it() -> None:
    async with served(SHORT) as (server, client):
        assert await ask(server, client, body=b"body") == (200, b"ok")
        lines = server.requests[0].split(b"\r\n")
    assert lines[:2] == [b"POST /v1/x?y=1 HTTP/1.1", f"host: provider.example:{server.port}".encode()]
    assert lines[2:] == [b"a: b", b"content-length: 4", b"", b"body"]


async def test_a_connection_is_kept_for_the_next_request() -> None:
    async with served(SHORT, SHORT, SHORT) as (server, client):
        for _ in range(3):
            assert await ask(server, client) == (200, b"ok")
        assert server.connections == 1


@pytest.mark.parametrize(
    "first",
    [
        OK + b"connection: close\r\ncontent-length: 2\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok",
        SHORT + b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil",
        SHORT + b"rubbish",
    ],
    ids=["close", "HTTP/1.0", "an answer nobody asked for", "rubbish behind it"],
)
async def test_a_connection_that_cannot_be_trusted_is_not_asked_again(first: bytes) -> None:
    async with served(first, SHORT) as (server, client):
        assert await ask(server, client) == (200, b"ok")
        await asyncio.sleep(0.05)
        assert await ask(server, client) == (200, b"ok")
        assert server.connections == 2


async def test_what_comes_while_nothing_is_asked_ends_the_connection() -> None:
    async with served(SHORT, SHORT) as (server, client):
        await ask(server, client)
        server.writers[0].write(b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil")
        await asyncio.sleep(0.05)
        assert await ask(server, client) == (200, b"ok")
        assert server.connections == 2


@pytest.mark.parametrize(
    ("sent", "body"),
    [
        (OK + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n3\r\nay!\r\n0\r\n\r\n", b"okay!"),
        (b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n" + SHORT, b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (encoded(b"gzip", gzip.compress(b"zip")), b"zip"),
        (encoded(b"deflate", zlib.compress(b"zip")), b"zip"),
    ],
    ids=["chunked", "interim", "none", "gzip", "deflate"],
)
async def test_a_body_is_read_however_it_comes(sent: bytes, body: bytes) -> None:
    async with served(sent, SHORT) as (server, client):
        assert (await ask(server, client))[1] == body
        assert await ask(server, client) == (200, b"ok")
        assert server.connections == 1


async def test_a_body_without_a_length_ends_with_the_connection() -> None:
    async with served(OK + b"\r\nall of it") as (server, client):
        server.then = lambda writer: writer.close()
        assert await ask(server, client) == (200, b"all of it")


@pytest.mark.parametrize(
    ("sent", "failure"),
    [
        (OK + b"content-length: 10\r\n\r\nhalf", http.Broken),
        (OK + b"transfer-encoding: chunked\r\n\r\n5\r\nha", http.Broken),
        (b"SSH-2.0-OpenSSH\r\n\r\n", http.Broken),
        (b"", http.Broken),
        (OK + b"x: " + b"y" * HEAD_BYTES_MAX, http.Broken),
        (OK + b"content-length: 1\r\ncontent-length: 2\r\n\r\nok", http.Broken),
        (OK + b"content-encoding: br\r\ncontent-length: 2\r\n\r\nok", http.Unreadable),
        (OK + b"connection: close\r\ncontent-encoding: gzip\r\ncontent-length: 2\r\n\r\nok", http.Unreadable),
        (b"HTTP/1.1 101 Switching\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n", http.Failure),
    ],
    ids=["cut", "cut chunk", "no HTTP", "nothing", "endless head", "two lengths", "br", "no gzip", "upgrade"],
)
async def test_an_answer_that_is_none_is_told_and_its_connection_ended(
    sent: bytes, failure: type[http.Failure]
) -> None:
    async with served(sent, SHORT) as (server, client):
        server.then = lambda writer: writer.close()
        with pytest.raises(failure):
            await ask(server, client)
        assert await ask(server, client) == (200, b"ok")
        assert server.connections == 2


async def test_silence_is_told_before_and_in_the_body() -> None:
    async with served(b"", OK + b"content-length: 9\r\n\r\nhalf", read_timeout_s=0.2) as (server, client):
        with pytest.raises(http.Silence):
            await ask(server, client)
        with pytest.raises(http.Silence):
            await ask(server, client)


async def test_waiting_ends_at_the_time_that_is_asked_for() -> None:
    async with served(OK + b"content-length: 9\r\n\r\nhalf") as (server, client):
        answer = await client.send(b"POST", f"http://x:{server.port}/", {})
        assert await answer.read() == b"half"
        loop = asyncio.get_running_loop()
        began = loop.time()
        with pytest.raises(http.Silence):
            await answer.read(until=began + 0.1)
        assert loop.time() - began < 2
        answer.close()


async def test_who_reads_slowly_holds_little_in_memory() -> None:
    size = 32 * 1024 * 1024
    async with served(OK + b"content-length: %d\r\n\r\n" % size + b"x" * size) as (server, client):
        answer = await client.send(b"POST", f"http://x:{server.port}/", {})
        await asyncio.sleep(0.3)
        assert answer._size < 2 * BUFFERED_HIGH + 1024 * 1024
        assert len(await rest(answer)) == size


async def test_a_small_body_that_unpacks_to_a_large_one_comes_in_pieces() -> None:
    packed = gzip.compress(b"0" * 50 * UNPACKED_BYTES_MAX)
    async with served(OK + b"content-encoding: gzip\r\ncontent-length: %d\r\n\r\n" % len(packed) + packed) as (
        server,
        client,
    ):
        answer = await client.send(b"POST", f"http://x:{server.port}/", {})
        piece = await answer.read()
        assert piece is not None
        assert len(piece) <= UNPACKED_BYTES_MAX
        answer.close()


async def test_who_leaves_early_ends_the_connection() -> None:
    async with served(OK + b"content-length: 9\r\n\r\nhalf", SHORT) as (server, client):
        answer = await client.send(b"POST", f"http://x:{server.port}/", {})
        answer.close()
        assert (await client.send(b"POST", f"http://x:{server.port}/", {})).status == 200
        assert server.connections == 2


@pytest.mark.parametrize("header", [b"x\r\ny: z", b"x\n", b"\0"])
async def test_a_header_that_would_be_two_is_not_sent(header: bytes) -> None:
    async with served(SHORT) as (server, client):
        with pytest.raises(ConnectFailure):
            await client.send(b"POST", f"http://x:{server.port}/", {b"authorization": header})
        assert server.connections == 0


async def test_connections_are_counted_down_when_they_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "CONNECTIONS_MAX", 2)
    closing = OK + b"connection: close\r\ncontent-length: 2\r\n\r\nok"
    async with served(*[closing] * 20) as (server, client):
        for _ in range(20):
            assert await ask(server, client) == (200, b"ok")
        assert server.connections == 20


async def test_a_connection_that_rests_too_long_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(http, "IDLE_S", 0.2)
    monkeypatch.setattr(http, "SWEEP_S", 0.05)
    async with served(SHORT, SHORT, SHORT) as (server, client):
        for _ in range(2):
            await ask(server, client)
            await asyncio.sleep(0.05)
        assert server.connections == 1
        await until(lambda: not client._open)
        await ask(server, client)
        assert server.connections == 2


@pytest.mark.parametrize(
    ("url", "authority", "path"),
    [
        ("https://api.example/v1", b"api.example", b"/v1"),
        ("https://api.example:443", b"api.example", b"/"),
        ("http://api.example:443/", b"api.example:443", b"/"),
        ("http://[::1]:8/x?y=z", b"[::1]:8", b"/x?y=z"),
        ("https://b\u00fccher.example/", b"xn--bcher-kva.example", b"/"),
    ],
)
def test_a_url_says_where_to(url: str, authority: bytes, path: bytes) -> None:
    target = target_of(url)
    assert (target.authority, target.path) == (authority, path)


@pytest.mark.parametrize("url", ["ftp://x/", "http://", "http://x:99999/", "http://x/\u00fc", "http://x/a b", "x"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConnectFailure):
        target_of(url)
