"""OTLP over HTTP (opentelemetry.io/docs/specs/otlp): one connection, kept; a few attempts, seconds apart."""

from __future__ import annotations

import http.client
import ssl
from collections.abc import Callable, Mapping
from urllib.parse import urlsplit

TIMEOUT_S = 5.0
WAITS_S = (0.0, 0.5, 2.0)
"""Before each attempt. What the collector asks for by `Retry-After` is waited too, up to the last of these."""
AGAIN = frozenset({429, 502, 503, 504})
ANSWER_BYTES_MAX = 64 * 1024


class Post:
    """The way to one collector, for one thread."""

    def __init__(self, url: str, headers: Mapping[str, str], wait: Callable[[float], object]) -> None:
        self._parts = urlsplit(url)
        self._headers = {"content-type": "application/x-protobuf", "user-agent": "dcoder", **headers}
        self._wait = wait
        self._connection: http.client.HTTPConnection | None = None

    def send(self, path: str, body: bytes) -> str:
        """Hand it over. Why the collector did not take it, or an empty text."""
        flaw, asked_s = "", 0.0
        for wait_s in WAITS_S:
            if pause_s := max(wait_s, min(asked_s, WAITS_S[-1])):
                self._wait(pause_s)
            try:
                status, asked_s = self._attempt(path, body)
            except (OSError, http.client.HTTPException) as failure:
                flaw = type(failure).__name__
                self.close()
                continue
            if 200 <= status < 300:
                return ""
            flaw = f"status {status}"
            if status not in AGAIN:
                break
        return flaw

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def _attempt(self, path: str, body: bytes) -> tuple[int, float]:
        """The status, and for how many seconds the collector wants to be left alone. Raises `OSError` or
        `HTTPException`."""
        if self._connection is None:
            self._connection = self._connected()
        self._connection.request("POST", self._parts.path + path, body, self._headers)
        answer = self._connection.getresponse()
        if len(answer.read(ANSWER_BYTES_MAX)) == ANSWER_BYTES_MAX:
            self.close()  # the rest of it would be taken for the next answer
        told = answer.headers.get("retry-after", "")
        return answer.status, float(told) if told.isdigit() else 0.0

    def _connected(self) -> http.client.HTTPConnection:
        host, port = self._parts.hostname or "", self._parts.port
        if self._parts.scheme == "https":
            return http.client.HTTPSConnection(host, port, timeout=TIMEOUT_S, context=ssl.create_default_context())
        return http.client.HTTPConnection(host, port, timeout=TIMEOUT_S)
