"""A closed-loop HTTP/1.1 load over loopback: N connections, each sends its next request when the answer is whole."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit


@dataclass
class Load:
    """What a round measured."""

    seconds: float
    latencies_ms: list[float] = field(default_factory=list)
    failures: int = 0
    first_failure: str = ""
    """The head and the beginning of the first answer that was not 2xx."""

    @property
    def per_second(self) -> float:
        return len(self.latencies_ms) / self.seconds

    def percentile_ms(self, share: float) -> float:
        ordered = sorted(self.latencies_ms)
        return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else 0.0


def request_bytes(url: str, *, method: str, body: bytes, headers: dict[str, str]) -> bytes:
    parts = urlsplit(url)
    lines = [f"{method} {parts.path or '/'} HTTP/1.1", f"host: {parts.netloc}", f"content-length: {len(body)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Client(asyncio.Protocol):
    """One connection. Answers must carry a content length."""

    def __init__(self, request: bytes, load: Load, until: float) -> None:
        self._request, self._load, self._until = request, load, until
        self._received = b""
        self._sent = 0.0
        self.done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.WriteTransport)
        self._transport = transport
        self._next()

    def data_received(self, data: bytes) -> None:
        self._received += data
        head, separator, rest = self._received.partition(b"\r\n\r\n")
        if not separator or len(rest) < content_length(head):
            return
        self._load.latencies_ms.append((time.perf_counter() - self._sent) * 1000)
        if not head.startswith(b"HTTP/1.1 2"):
            self._load.failures += 1
            self._load.first_failure = self._load.first_failure or self._received[:1000].decode(errors="replace")
        self._received = b""
        self._next()

    def connection_lost(self, failure: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(None)

    def _next(self) -> None:
        if time.perf_counter() >= self._until:
            self._transport.close()
            return
        self._sent = time.perf_counter()
        self._transport.write(self._request)


def content_length(head: bytes) -> int:
    place = head.lower().find(b"content-length:")
    return int(head[place + 15 :].split(b"\r\n", 1)[0]) if place >= 0 else 0


async def run(
    url: str, *, seconds: float, connections: int = 16, method: str = "POST", body: bytes = b"", headers: dict[str, str]
) -> Load:
    """Load `url`, which must be on loopback, for that many seconds."""
    parts = urlsplit(url)
    if parts.hostname not in {"127.0.0.1", "::1", "localhost"} or parts.port is None:
        raise ValueError(f"{url} is not on loopback")
    load = Load(seconds)
    request = request_bytes(url, method=method, body=body, headers=headers)
    until = time.perf_counter() + seconds
    loop = asyncio.get_running_loop()
    clients = [
        (await loop.create_connection(lambda: Client(request, load, until), parts.hostname, parts.port))[1]
        for _ in range(connections)
    ]
    await asyncio.gather(*(client.done for client in clients))
    return load
