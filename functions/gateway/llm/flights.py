"""One call for several who ask the same at the same time. It goes on while one of them is there, whoever began it."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine
from contextlib import aclosing

from starlette.responses import Response

from shared.errors import Unavailable
from shared.llm.presence import Stream
from shared.telemetry import log

HELD_BYTES_MAX = 4 * 1024 * 1024
"""Of a stream's pieces. When there are more nobody joins any more, and it goes on as fast as its slowest reader."""
Landed = Callable[[Response, bytes], Awaitable[None]]
"""What is done with a whole answer, once: the response, and its body."""


class Flight:
    """A call that has begun. Each who wants its answer joins."""

    def __init__(self, work: Coroutine[None, None, Response], landed: Landed) -> None:
        self._landed = landed
        self._response: Response | None = None
        self._failure: Exception | None = None
        self._pieces: deque[bytes] = deque()
        self._held = 0
        self._dropped = 0
        """How many pieces are held no longer: all readers have had them."""
        self._readers: dict[object, int] = {}
        """How many pieces each has had."""
        self._read: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ended = False
        self._aboard = 0
        self._over = False
        self._changed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.task = asyncio.create_task(self._run(work), name="flight")

    @property
    def open(self) -> bool:
        """Whether one can join still."""
        return not self._over and self._failure is None

    async def join(self) -> Response:
        """The answer; a stream from its beginning, as it comes. Raises what the call raised, and `Unavailable` when its
        beginning is held no longer.

        Whoever is cancelled, or ends a stream, has left. The call is cancelled when all have.
        """
        self._aboard += 1
        try:
            while self._response is None and self._failure is None:
                await asyncio.shield(self._changed)
        except BaseException:
            self._leave()
            raise
        if self._failure is not None:
            raise self._failure
        response = self._response
        assert response is not None
        if self._dropped:
            self._leave()
            raise Unavailable("the beginning of the call that was shared is held no longer; ask again")
        headers = {name: value for name, value in response.headers.items() if name != "content-length"}
        if isinstance(response, Stream):
            reader = object()
            self._readers[reader] = 0
            pieces, media_type = self._from_the_beginning(reader), headers.pop("content-type")
            return Stream(pieces, media_type=media_type, headers=headers, relayed=response.relayed)
        return Response(response.body, response.status_code, headers)

    async def _from_the_beginning(self, reader: object) -> AsyncGenerator[bytes, None]:
        try:
            while True:
                while (place := self._readers[reader] - self._dropped) < len(self._pieces):
                    piece = self._pieces[place]
                    self._readers[reader] += 1
                    self._has_read()
                    yield piece
                if self._failure is not None:
                    raise self._failure
                if self._ended:
                    return
                await asyncio.shield(self._changed)
        finally:
            del self._readers[reader]
            self._has_read()
            self._leave()

    def _has_read(self) -> None:
        if not self._read.done():
            self._read.set_result(None)

    async def _hold(self, piece: bytes) -> None:
        """Hold the piece for all readers. Returns when there is room for another one."""
        self._pieces.append(piece)
        self._held += len(piece)
        self._tell()
        while self._held > HELD_BYTES_MAX:
            self._over = True
            had = min(self._readers.values(), default=self._dropped)
            while self._dropped < had and self._held > HELD_BYTES_MAX:
                self._held -= len(self._pieces.popleft())
                self._dropped += 1
            if self._held > HELD_BYTES_MAX:
                self._read = asyncio.get_running_loop().create_future()
                await self._read

    def _leave(self) -> None:
        self._aboard -= 1
        if not self._aboard and not self._ended:
            self._over = True
            self.task.cancel()

    async def _run(self, work: Coroutine[None, None, Response]) -> None:
        try:
            self._response = await work
            self._tell()
            if isinstance(self._response, Stream):
                async with aclosing(self._response.pieces) as pieces:
                    async for piece in pieces:
                        await self._hold(piece)
                body = b"".join(self._pieces) if not self._dropped else None
            else:
                body = bytes(self._response.body)
            self._ended = True
            self._tell()
            if body is not None:
                await self._landed(self._response, body)
        except asyncio.CancelledError:
            if not self._ended:  # a cut answer is no whole one, and nobody waits for one that never comes
                self._failure = Unavailable("the call that was shared was ended before its answer was whole; ask again")
            raise
        except Exception as failure:  # noqa: BLE001  told to those who wait; who has the whole answer needs no word
            if self._ended:
                log("answer_not_kept", error=type(failure).__name__)
            else:
                self._failure = failure
        finally:
            self._ended = self._over = True
            self._tell()

    def _tell(self) -> None:
        changed, self._changed = self._changed, asyncio.get_running_loop().create_future()
        changed.set_result(None)
