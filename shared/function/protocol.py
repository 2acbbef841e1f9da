"""HTTP/1.1 as our processes speak it: uvicorn's protocol over httptools, with the limit that it lacks."""

from __future__ import annotations

import asyncio
from typing import cast

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from shared.function.presence import EXTENSION, Departure

HEAD_BYTES_MAX = 64 * 1024  # h11's default
ONE_WRITE_BYTES_MAX = 64 * 1024


class HeadFirst:
    """The transport of one answer: the head leaves together with what follows at once, or a moment later alone. So a
    whole answer is one write, and one packet, instead of two."""

    __slots__ = ("_head", "_transport")

    def __init__(self, transport: asyncio.Transport) -> None:
        self._transport = transport
        self._head: bytes | None = b""

    def write(self, data: bytes) -> None:
        head = self._head
        if head is None:
            self._transport.write(data)
        elif not head:
            self._head = data
            asyncio.get_running_loop().call_soon(self._flush)
        else:
            self._head = None
            if len(data) <= ONE_WRITE_BYTES_MAX:
                self._transport.write(head + data)
            else:
                self._transport.writelines((head, data))

    def is_closing(self) -> bool:
        return self._transport.is_closing()

    def close(self) -> None:
        self._flush()
        self._transport.close()

    def _flush(self) -> None:
        head, self._head = self._head, None
        if head:
            self._transport.write(head)


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a request whose head is not complete after 64 KiB: nobody knows yet whose memory it takes."""

    _in_head = False
    _head_bytes = 0
    _departure: Departure | None = None

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        self._departure = Departure()
        self.scope["extensions"] = {EXTENSION: cast("dict[object, object]", self._departure)}
        super().on_headers_complete()
        if self.cycle is not None and self.cycle.transport is self.transport:
            self.cycle.transport = cast("asyncio.Transport", HeadFirst(self.transport))

    def connection_lost(self, exc: Exception | None) -> None:
        super().connection_lost(exc)
        if self._departure is not None and self.cycle is not None and not self.cycle.response_complete:
            self._departure.happen()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self.send_400_response(f"The request's line and headers have more than {HEAD_BYTES_MAX} bytes.")
