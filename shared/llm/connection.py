"""One HTTP/1.1 connection (RFC 9112) towards a provider, and the answer that comes over it, in pieces."""

from __future__ import annotations

import asyncio
import zlib
from collections import deque
from dataclasses import dataclass
from typing import Protocol, cast

import httptools

HEAD_BYTES_MAX = 64 * 1024
BUFFERED_HIGH, BUFFERED_LOW = 256 * 1024, 64 * 1024
UNPACKED_BYTES_MAX = 1024 * 1024
ONE_WRITE_BYTES_MAX = 64 * 1024
UNPACKABLE = frozenset({"gzip", "x-gzip", "deflate"})
GZIP_OR_ZLIB = 32 + zlib.MAX_WBITS


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


class Owner(Protocol):
    """Who keeps connections."""

    def give_back(self, connection: Connection) -> None:
        """It has answered and can be asked again."""

    def lost(self, connection: Connection) -> None:
        """It has ended."""


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

    def __init__(self, owner: Owner, origin: Origin) -> None:
        self.origin = origin
        self._owner = owner
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._answer: Answer | None = None
        self._framed = False
        self._head_bytes = -1
        self._paused = False
        self.resting_since = 0.0
        """The loop's time at which it became idle."""

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
        answer, self._answer = self._answer, None
        if answer is not None:
            whole = (
                answer.status and not self._framed and failure is None
            )  # RFC 9112 §6.3, 8: until the connection ends
            answer.end(None if whole else Broken("cut"))
        self._owner.lost(self)

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
            self._owner.give_back(self)
        else:
            self.abort()

    def _fail(self, failure: Failure) -> None:
        answer, self._answer = self._answer, None
        if answer is not None:
            answer.end(failure)
        self.abort()
