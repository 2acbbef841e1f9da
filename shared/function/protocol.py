"""HTTP/1.1 as our processes speak it: uvicorn's protocol over httptools, with the limit that it lacks."""

from __future__ import annotations

from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

HEAD_BYTES_MAX = 64 * 1024  # h11's default


class BoundedProtocol(HttpToolsProtocol):
    """Refuses a request whose head is not complete after 64 KiB: nobody knows yet whose memory it takes."""

    _in_head = False
    _head_bytes = 0

    def on_message_begin(self) -> None:
        super().on_message_begin()
        self._in_head, self._head_bytes = True, 0

    def on_headers_complete(self) -> None:
        self._in_head = False
        super().on_headers_complete()

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if not self._in_head or self.transport.is_closing():
            return
        self._head_bytes += len(data)
        if self._head_bytes > HEAD_BYTES_MAX:
            self.send_400_response(f"The request's line and headers have more than {HEAD_BYTES_MAX} bytes.")
