"""Whether the caller is still there. Work for a caller who has gone is ended at once, because the provider bills it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, Coroutine, Mapping
from contextlib import aclosing
from typing import TYPE_CHECKING, Protocol

from starlette.requests import Request
from starlette.responses import Response

from shared.function.presence import CallerGone, while_connected

if TYPE_CHECKING:
    from starlette.types import Receive, Scope, Send

CLIENT_GONE_STATUS = 499  # nginx's; nobody is left to read it, the log is


async def answered(request: Request, work: Coroutine[None, None, Response]) -> Response:
    """The answer, unless the caller goes before there is one. The request's body must have been read."""
    try:
        return await while_connected(request.scope, request.receive, work)
    except CallerGone:
        return Response(status_code=CLIENT_GONE_STATUS)


class Relayed(Protocol):
    """What a stream that was relayed tells when it has ended."""

    @property
    def whole(self) -> bool: ...
    @property
    def cost(self) -> int | None: ...


class Stream(Response):
    """Pieces as they come. However the response ends, the generator has been closed when it has ended."""

    def __init__(
        self,
        pieces: AsyncGenerator[bytes, None],
        *,
        media_type: str,
        headers: Mapping[str, str] | None = None,
        relayed: Relayed | None = None,
    ) -> None:
        super().__init__(
            media_type=None,
            headers={
                "content-type": media_type,
                "cache-control": "no-cache",
                "x-accel-buffering": "no",
                **(headers or {}),
            },
        )
        del self.headers["content-length"]
        self.pieces = pieces
        self.relayed = relayed

    def whole(self) -> bool:
        """Whether it has ended as a provider ends a complete answer."""
        return self.relayed is not None and self.relayed.whole

    def cost(self) -> int | None:
        """What it cost, in micro-USD, once it has ended. None when that is not known."""
        return self.relayed.cost if self.relayed is not None else None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await while_connected(scope, receive, self._sent(send))
        except CallerGone:
            return

    async def _sent(self, send: Send) -> None:
        async with aclosing(self.pieces) as pieces:
            await send({"type": "http.response.start", "status": 200, "headers": self.raw_headers})
            async for piece in pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
