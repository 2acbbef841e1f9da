"""An answer that is written as it comes to be."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from starlette.responses import StreamingResponse
from starlette.types import Send

Write = Callable[[bytes], Coroutine[Any, Any, None]]  # Any: what a coroutine sends and takes, which is nothing
Writing = Callable[[Write], Coroutine[Any, Any, None]]


class ArchiveResponse(StreamingResponse):
    """Sends what `writing` writes, and waits when the client is slow. Nothing is sent before the first bytes are
    there, so that what fails until then is a problem document. A client that leaves ends the writing."""

    def __init__(self, writing: Writing, *, filename: str) -> None:
        headers = {"content-disposition": f'attachment; filename="{filename}"'}
        super().__init__(iter(()), media_type="application/x-tar", headers=headers)
        self._writing = writing

    async def stream_response(self, send: Send) -> None:
        started = False

        async def write(data: bytes) -> None:
            nonlocal started
            if not started:
                await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
                started = True
            await send({"type": "http.response.body", "body": data, "more_body": True})

        await self._writing(write)
        await send({"type": "http.response.body", "body": b"", "more_body": False})
