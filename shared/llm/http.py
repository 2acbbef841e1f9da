"""HTTP/1.1 (RFC 9112) towards providers: kept connections, one attempt, pieces of an answer as they come.

Through httpx a call costs four times the processor of the whole rest of the gateway's path, most of it in looking
through the connections of its pool. Here a connection says itself when it ends, so nothing is looked through.
"""

from __future__ import annotations

import asyncio
import os
import ssl
import zlib
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import cast
from urllib.parse import urlsplit

import httptools

CONNECT_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 1000
IDLE_MAX = 100
IDLE_S = 30.0
HEAD_BYTES_MAX = 64 * 1024
BUFFERED_HIGH, BUFFERED_LOW = 256 * 1024, 64 * 1024
UNPACKED_BYTES_MAX = 1024 * 1024
ONE_WRITE_BYTES_MAX = 64 * 1024
UNPACKABLE = frozenset({"gzip", "x-gzip", "deflate"})
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS
FORBIDDEN = (b"\r", b"\n", b"\0")

Addresses = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host that may be connected to, in the order in which they are tried."""


class Failure(Exception):
    """A request got no whole answer. Its text holds nothing of the request."""


class ConnectFailure(Failure):
    """There was no connection: nothing was sent."""


class Full(ConnectFailure):
    """Too many requests are in flight."""


class Silence(Failure):
    """Nothing came for as long as one waits."""


class Broken(Failure):
    """The connection ended, or what came was no HTTP."""


class Unreadable(Failure):
    """The answer is encoded in a way that is not read."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Where connections of one kind go."""

    secure: bool
    host: str
    port: int


@dataclass(frozen=True, slots=True)
class Target:
    """A URL as a request needs it: where to, and the two texts of it that are sent."""

    origin: Origin
    authority: bytes
    path: bytes


@lru_cache(maxsize=4096)
def target_of(url: str) -> Target:
    """Raises `ConnectFailure` for what is no http(s) URL with a host."""
    try:
        parts = urlsplit(url)
        secure = {"https": True, "http": False}[parts.scheme]
        host = (parts.hostname or "").encode("idna" if not (parts.hostname or "").isascii() else "ascii").decode()
        port = parts.port or (443 if secure else 80)
        path = (f"{parts.path or '/'}?{parts.query}" if parts.query else parts.path or "/").encode("ascii")
    except (KeyError, ValueError) as wrong:
        raise ConnectFailure("unusable URL") from wrong
    if not host or any(byte in path or byte in host.encode() for byte in (*FORBIDDEN, b" ")):
        raise ConnectFailure("unusable URL")
    named = f"[{host}]" if ":" in host else host
    usual = port == (443 if secure else 80)
    return Target(Origin(secure, host, port), (named if usual else f"{named}:{port}").encode(), path)


class Answer:
    """An answer whose head has been read. `headers`: by lower-case name, several of one name joined by a comma."""

    __slots__ = (
        "_connection",
        "_ended",
        "_failure",
        "_loop",
        "_pieces",
        "_read_timeout_s",
        "_size",
        "_timer",
        "_unpacker",
        "_until",
        "_waiter",
        "headers",
        "status",
    )  # fmt: skip

    def __init__(self, connection: Connection, read_timeout_s: float) -> None:
        self.status = 0
        self.headers: dict[str, str] = {}
        self._connection = connection
        self._loop = asyncio.get_running_loop()
        self._read_timeout_s = read_timeout_s
        self._pieces: deque[bytes] = deque()
        self._size = 0
        self._ended = False
        self._failure: Failure | None = None
        self._waiter: asyncio.Future[None] | None = None
        self._until = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._unpacker: zlib._Decompress | None = None

    async def read(self, *, until: float | None = None) -> bytes | None:
        """The next bytes of the body, None when it has ended. `until`: the loop's time at which waiting ends, if that
        is sooner than usual. Raises `Silence`, `Broken` or `Unreadable`."""
        while True:
            while not self._pieces:
                if self._failure is not None:
                    raise self._failure
                if self._ended:
                    return None
                await self._wait(until)
            piece = self._pieces.popleft()
            self._size -= len(piece)
            if self._size <= BUFFERED_LOW:
                self._connection.go_on()
            if self._unpacker is None:
                return piece
            if unpacked := self._unpacked(piece):
                return unpacked

    def close(self) -> None:
        """No more of it is wanted. Whoever has not read it whole ends its connection."""
        if not self._ended and self._failure is None:
            self._connection.abort()
        self._disarm()

    async def head(self) -> None:
        """Return once status and headers are there. Raises as `read` does."""
        while not self.status:
            if self._failure is not None:
                raise self._failure
            await self._wait(None)

    def arrived(self, piece: bytes) -> int:
        """How many bytes wait to be read."""
        self._pieces.append(piece)
        self._size += len(piece)
        self.wake()
        return self._size

    def end(self, failure: Failure | None = None) -> None:
        self._ended = failure is None
        self._failure = failure
        self._disarm()
        self.wake()

    def wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def unpack(self) -> None:
        """Take the body for what its encoding says. Raises `Unreadable`."""
        encoding = self.headers.get("content-encoding", "identity").strip().lower()
        if encoding in UNPACKABLE:
            self._unpacker = zlib.decompressobj(GZIP_OR_ZLIB)
        elif encoding not in ("identity", ""):
            raise Unreadable("unknown content-encoding")

    async def _wait(self, until: float | None) -> None:
        """One timer serves many waits: it looks, when it rings, whether the wait of that moment has lasted too long."""
        usual = self._loop.time() + self._read_timeout_s
        self._until = usual if until is None else min(usual, until)
        if self._timer is None or self._timer.when() > self._until:
            self._arm()
        self._waiter = self._loop.create_future()
        try:
            await self._waiter
        finally:
            self._waiter = None

    def _arm(self) -> None:
        self._disarm()
        self._timer = self._loop.call_at(self._until, self._rang)

    def _disarm(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _rang(self) -> None:
        self._timer = None
        if self._waiter is None or self._waiter.done():
            return
        if self._loop.time() >= self._until:
            self._waiter.set_exception(Silence("silent"))
        else:
            self._arm()

    def _unpacked(self, piece: bytes) -> bytes:
        assert self._unpacker is not None
        try:
            unpacked = self._unpacker.decompress(piece, UNPACKED_BYTES_MAX)
        except zlib.error as odd:
            raise Unreadable("broken content-encoding") from odd
        if rest := self._unpacker.unconsumed_tail:
            self._pieces.appendleft(rest)
            self._size += len(rest)
        return unpacked


class Connection(asyncio.Protocol):
    """A connection that carries one request after the other."""

    def __init__(self, client: Client, origin: Origin) -> None:
        self.origin = origin
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._framed = False
        self._head_bytes = -1
        self._paused = False
        self._expiry: asyncio.TimerHandle | None = None

    def ask(self, head: bytes, body: bytes, read_timeout_s: float) -> Answer:
        """Send a request. Raises nothing: what fails is told by the answer."""
        assert self._transport is not None
        answer = self._answer = Answer(self, read_timeout_s)
        self._framed, self._head_bytes = False, 0
        if len(body) <= ONE_WRITE_BYTES_MAX:
            self._transport.write(head + body)
        else:
            self._transport.writelines([head, body])
        return answer

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def abort(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def go_on(self) -> None:
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()

    def rest(self, seconds: float) -> None:
        """Be idle for so long at most."""
        self._expiry = asyncio.get_running_loop().call_later(seconds, self.abort)

    def rise(self) -> None:
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None

    # asyncio's

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        if self._answer is None:  # nobody asked: what comes could be taken for the next request's answer
            self.abort()
            return
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserUpgrade:
            self._fail(Broken("upgraded"))
        except httptools.HttpParserError:
            self._fail(Broken("no HTTP"))
        else:
            if self._head_bytes >= 0:
                self._head_bytes += len(data)
                if self._head_bytes > HEAD_BYTES_MAX:
                    self._fail(Broken("endless headers"))

    def connection_lost(self, failure: Exception | None) -> None:
        self._transport = None
        self.rise()
        answer, self._answer = self._answer, None
        if answer is not None:
            whole = (
                answer.status and not self._framed and failure is None
            )  # RFC 9112 §6.3, 8: until the connection ends
            answer.end(None if whole else Broken("cut"))
        self._client.lost(self)

    # the parser's

    def on_message_begin(self) -> None:
        if self._answer is None:
            self.abort()

    def on_header(self, name: bytes, value: bytes) -> None:
        answer = self._answer
        if answer is None:
            return
        lower, text = name.decode("latin-1").lower(), value.decode("latin-1")
        answer.headers[lower] = f"{answer.headers[lower]}, {text}" if lower in answer.headers else text

    def on_headers_complete(self) -> None:
        answer = self._answer
        if answer is None:
            return
        status = self._parser.get_status_code()
        if status < 200:  # an interim answer, RFC 9110 §15.2: the one that counts follows
            answer.headers.clear()
            return
        self._head_bytes = -1
        chunked = "chunked" in answer.headers.get("transfer-encoding", "").lower()
        self._framed = chunked or "content-length" in answer.headers or status in (204, 304)
        try:
            answer.unpack()
        except Unreadable as odd:
            self._fail(odd)
            return
        answer.status = status
        answer.wake()

    def on_body(self, piece: bytes) -> None:
        if self._answer is not None and self._answer.arrived(piece) > BUFFERED_HIGH and not self._paused:
            assert self._transport is not None
            self._paused = True
            self._transport.pause_reading()

    def on_message_complete(self) -> None:
        answer = self._answer
        if answer is None or not answer.status:
            return
        self._answer = None
        self.go_on()
        answer.end()
        assert self._transport is not None
        if self._parser.should_keep_alive() and not self._transport.get_write_buffer_size():
            self._client.give_back(self)
        else:
            self.abort()

    def _fail(self, failure: Failure) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end(failure)
        self.abort()


class Client:
    """A process's connections to all providers. A connection opened for one tenant serves others: it knows none."""

    def __init__(self, addresses: Addresses, *, read_timeout_s: float) -> None:
        self._addresses = addresses
        self._read_timeout_s = read_timeout_s
        self._idle: dict[Origin, list[Connection]] = {}
        self._resting = 0
        self._open: set[Connection] = set()
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self._tls: ssl.SSLContext | None = None

    async def send(self, method: bytes, url: str, headers: Mapping[bytes, bytes], body: bytes = b"") -> Answer:
        """The answer, its head read. One attempt. Raises `ConnectFailure` when nothing was sent, another `Failure`, or
        what looking up the addresses raises."""
        target = target_of(url)
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, target.path, target.authority)]
        for name, value in headers.items():
            if any(byte in value or byte in name for byte in FORBIDDEN):
                raise ConnectFailure("a header holds a line break")
            lines.append(b"%b: %b\r\n" % (name, value))
        lines.append(b"content-length: %d\r\n\r\n" % len(body))
        connection = self._rested(target.origin) or await self._connected(target.origin)
        answer = connection.ask(b"".join(lines), body, self._read_timeout_s)
        try:
            await answer.head()
        except BaseException:
            answer.close()
            raise
        return answer

    def give_back(self, connection: Connection) -> None:
        """The connection has answered and can be asked again."""
        if self._resting >= IDLE_MAX:
            connection.abort()
            return
        self._resting += 1
        self._idle.setdefault(connection.origin, []).append(connection)
        connection.rest(IDLE_S)

    def lost(self, connection: Connection) -> None:
        """The connection has ended."""
        resting = self._idle.get(connection.origin, [])
        if connection in resting:
            resting.remove(connection)
            self._resting -= 1
            if not resting:
                del self._idle[connection.origin]
        if connection in self._open:
            self._open.discard(connection)
            self._slots.release()

    async def close(self) -> None:
        """End all connections."""
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)

    def _rested(self, origin: Origin) -> Connection | None:
        """The connection that rested last: those that are not needed grow old and end."""
        resting = self._idle.get(origin)
        while resting:
            connection = resting.pop()
            self._resting -= 1
            connection.rise()
            if not resting:
                del self._idle[origin]
            if connection.usable:
                return connection
        return None

    async def _connected(self, origin: Origin) -> Connection:
        try:
            async with asyncio.timeout(CONNECT_TIMEOUT_S):
                await self._slots.acquire()
        except TimeoutError:
            raise Full("too many requests are in flight") from None
        try:
            connection = await self._dialled(origin)
        except BaseException:
            self._slots.release()
            raise
        self._open.add(connection)
        if not connection.usable:  # it ended while it was opened
            self.lost(connection)
            raise ConnectFailure("no connection")
        return connection

    async def _dialled(self, origin: Origin) -> Connection:
        last: Exception | None = None
        for address in await self._addresses(origin.host, origin.port):
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT_S):
                    return await self._dial(origin, address)
            except (OSError, TimeoutError) as failure:  # ssl.SSLError is an OSError
                last = failure
        raise ConnectFailure("no connection") from last

    async def _dial(self, origin: Origin, address: str) -> Connection:
        _, connection = await asyncio.get_running_loop().create_connection(
            lambda: Connection(self, origin),
            address,
            origin.port,
            ssl=self._context() if origin.secure else None,
            server_hostname=origin.host if origin.secure else None,
        )
        return connection

    def _context(self) -> ssl.SSLContext:
        """Verifies names against the usual authorities, or those of SSL_CERT_FILE: a company's own."""
        if self._tls is None:
            import certifi

            self._tls = ssl.create_default_context(cafile=os.environ.get("SSL_CERT_FILE") or certifi.where())
            self._tls.set_alpn_protocols(["http/1.1"])
        return self._tls
