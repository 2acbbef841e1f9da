"""What arrives on the wire, byte by byte, through both HTTP parsers that serve functions."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from secrets import token_hex
from typing import Any, Protocol

import httpx
import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import JSONResponse, Response, StreamingResponse

from shared.function import Function, Scale
from shared.function.app import Application
from shared.identity import Caller, Tokens
from shared.ids import TenantId
from shared.postgres import TenantDatabase, TenantTransaction
from shared.tenancy import TenantRegistry
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import until
from tests.shared.function.conftest import Serve

LIMIT = 1000


class Exchange(Protocol):
    """Sends bytes, in which `TOKEN` stands for a good one, and gives back all that was answered until the close."""

    async def __call__(self, sent: bytes, *, then_leave: bool = False) -> bytes: ...


def storing() -> Function:
    """A function that reads a body and records how long it was."""
    function = Function(body_bytes_max=LIMIT)

    @function.route("/read", permission="documents:read")
    async def read(request: Request) -> Response:
        """Read all."""
        return JSONResponse({"bytes": len(await request.body())})

    @function.put("/things/{name}", permission="documents:write")
    async def store(name: str, request: Request, transaction: TenantTransaction) -> dict[str, int]:
        """Record the body's length under a name."""
        content = await request.body()
        await transaction.execute("INSERT INTO processed_events VALUES ($1, $2)", f"wire-{name}", str(len(content)))
        return {"bytes": len(content)}

    return function


@asynccontextmanager
async def listening(application: Application, tenant: TenantId, parser: Any) -> AsyncIterator[tuple[int, bytes]]:
    """The application behind uvicorn with that parser: the port, and a token for it."""
    tokens = await application.process.get(Tokens)
    token = tokens.mint(Caller(tenant, "key:wire", "admin", "key"), audience="test-made-up").encode()
    port = free_port()
    server = uvicorn.Server(uvicorn.Config(application, port=port, log_level="critical", lifespan="off", http=parser))
    running = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    try:
        yield port, token
    finally:
        server.should_exit = True
        await running
        await application.process.close()


@pytest.fixture(params=["h11", "httptools"])
async def wire(request: pytest.FixtureRequest, serve: Serve, tenant: TenantId) -> AsyncIterator[Exchange]:
    """An exchange with a server that has that parser."""

    async def exchange(sent: bytes, *, then_leave: bool = False) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(sent.replace(b"TOKEN", token))
        if then_leave:
            writer.write_eof()
        try:
            return await asyncio.wait_for(reader.read(), 10)
        except ConnectionError:
            return b""
        finally:
            writer.close()

    async with listening(serve(storing()).application, tenant, request.param) as (port, token):
        yield exchange


def call(*headers: bytes, body: bytes = b"", line: bytes = b"POST /read HTTP/1.1") -> bytes:
    head = [line, b"Host: x", b"Authorization: Bearer TOKEN", b"Connection: close", *headers]
    return b"\r\n".join(head) + b"\r\n\r\n" + body


def chunked(body: bytes) -> bytes:
    return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1]) if answer else 0


async def test_a_body_within_the_limit_is_read_with_a_length_and_without(wire: Exchange) -> None:
    for sent in (call(b"Content-Length: 3", body=b"abc"), call(b"Transfer-Encoding: chunked", body=chunked(b"abc"))):
        answer = await wire(sent)
        assert answer.endswith(b'{"bytes":3}'), answer


@pytest.mark.parametrize("declared", [(), (b"Content-Length: 3",)], ids=["alone", "beside a length"])
async def test_chunks_over_the_limit_are_refused_whatever_length_is_declared(
    wire: Exchange, declared: tuple[bytes, ...]
) -> None:
    answer = await wire(call(*declared, b"Transfer-Encoding: chunked", body=chunked(b"x" * (LIMIT + 1))))
    assert status(answer) in ({413, 400} if declared else {413})


@pytest.mark.parametrize(
    "lengths",
    [
        (b"Content-Length: 3", b"Content-Length: 4"),
        (b"Content-Length: -3",),
        (b"Content-Length: +3",),
        (b"Content-Length: 0x3",),
        (b"Content-Length: 3, 4",),
        (b"Content-Length: " + b"9" * 5000,),
    ],
    ids=lambda lengths: lengths[0][16:24].decode() + str(len(lengths)),
)
async def test_a_length_that_is_none_or_two_is_a_bad_request(wire: Exchange, lengths: tuple[bytes, ...]) -> None:
    assert status(await wire(call(*lengths, body=b"abc"))) in (400, 413)


async def test_a_length_over_the_limit_is_refused_before_the_body_comes(wire: Exchange) -> None:
    assert status(await wire(call(b"Content-Length: 1001"))) == 413


@pytest.mark.parametrize("header", [b"Authorization : Bearer TOKEN", b"X: y\r\n Authorization: Bearer TOKEN"])
async def test_a_credential_in_a_broken_header_lets_nobody_in(wire: Exchange, header: bytes) -> None:
    sent = b"POST /read HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 0\r\n" + header + b"\r\n\r\n"
    assert status(await wire(sent)) in (400, 401)


async def test_two_calls_in_one_packet_are_two_answers(wire: Exchange) -> None:
    first = call(b"Content-Length: 1", body=b"a").replace(b"Connection: close\r\n", b"")
    answer = await wire(first + call(b"Content-Length: 2", body=b"bb"))
    assert answer.count(b"HTTP/1.1 200") == 2
    assert answer.index(b'{"bytes":1}') < answer.index(b'{"bytes":2}')


@pytest.mark.parametrize("key", [(), (b"Idempotency-Key: cut",)], ids=["without", "with an idempotency key"])
async def test_a_body_that_is_cut_off_has_no_effect(
    wire: Exchange, key: tuple[bytes, ...], registry: TenantRegistry, tenant: TenantId
) -> None:
    line = b"PUT /things/cut HTTP/1.1"
    await wire(call(*key, b"Content-Length: 900", body=b"only the beginning", line=line), then_leave=True)
    assert await lengths_of(await registry.database(tenant), "cut") == []
    answer = await wire(call(*key, b"Content-Length: 5", body=b"whole", line=line))
    assert status(answer) == 200
    assert await lengths_of(await registry.database(tenant), "cut") == ["5"]
    await (await registry.database(tenant)).execute("DELETE FROM processed_events WHERE consumer = 'wire-cut'")
    await (await registry.database(tenant)).execute("DELETE FROM idempotency_keys WHERE key = 'cut'")


async def lengths_of(database: TenantDatabase, name: str) -> list[str]:
    rows = await database.fetch("SELECT event_id FROM processed_events WHERE consumer = $1", f"wire-{name}")
    return [row["event_id"] for row in rows]


def endless(timeout_s: int) -> Function:
    """A function with one slot and a stream that never ends by itself."""
    function = Function(timeout_s=timeout_s, scale=Scale(concurrency=1))

    @function.route("/stream", method="GET", permission="documents:read")
    async def stream() -> Response:
        """Go on for ever."""

        async def pieces() -> AsyncIterator[bytes]:
            while True:
                yield b"x"
                await asyncio.sleep(0.01)

        return StreamingResponse(pieces())

    @function.get("/short", permission="documents:read")
    async def short() -> None:
        """Do nothing."""

    return function


@pytest.mark.parametrize("parser", ["h11", "httptools"])
async def test_a_stream_over_its_time_is_cut_so_that_it_shows_and_its_slot_is_free(
    serve: Serve, tenant: TenantId, parser: str
) -> None:
    async with listening(serve(endless(1)).application, tenant, parser) as (port, token):
        headers = {"authorization": f"Bearer {token.decode()}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=10) as client:
            with pytest.raises(httpx.RemoteProtocolError):
                await client.get("/stream")
            assert (await client.get("/short")).status_code == 200


@pytest.mark.parametrize("parser", ["h11", "httptools"])
async def test_a_caller_who_leaves_a_stream_leaves_its_slot(serve: Serve, tenant: TenantId, parser: str) -> None:
    async with listening(serve(endless(60)).application, tenant, parser) as (port, token):
        headers = {"authorization": f"Bearer {token.decode()}"}
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=10) as client:
            async with client.stream("GET", "/stream") as answer:
                await anext(answer.aiter_raw())
            assert (await client.get("/short")).status_code == 200


async def test_a_large_body_is_kept_and_given_whole_to_its_handler(serve: Serve) -> None:
    function = Function(body_bytes_max=8 * 1024 * 1024)

    @function.put("/digest", permission="documents:write")
    async def digest(request: Request) -> dict[str, str]:
        """Digest the body."""
        return {"sha256": hashlib.sha256(await request.body()).hexdigest()}

    content = random.Random(5).randbytes(3_000_001)
    async with serve(function).client() as client:
        answers = [
            await client.put("/digest", content=content, headers={"idempotency-key": token_hex(8)} if key else {})
            for key in (False, True)
        ]
    assert [answer.json()["sha256"] for answer in answers] == [hashlib.sha256(content).hexdigest()] * 2
