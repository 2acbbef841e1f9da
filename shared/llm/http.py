"""HTTP/1.1 (RFC 9112) towards providers: kept connections, one attempt, pieces of an answer as they come.

Through httpx a call costs four times the processor of the whole rest of the gateway's path, most of it in looking
through the connections of its pool. Here a connection says itself when it ends, so nothing is looked through.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from urllib.parse import urlsplit

from shared.llm.connection import (
    Answer,
    Broken,
    ConnectFailure,
    Connection,
    Failure,
    Full,
    Origin,
    Silence,
    Unreadable,
)

__all__ = [
    "Answer",
    "Broken",
    "Client",
    "ConnectFailure",
    "Failure",
    "Full",
    "Silence",
    "Unreadable",
]

CONNECT_TIMEOUT_S = 5.0
CONNECTIONS_MAX = 1000
IDLE_MAX = 100
IDLE_S = 30.0
SWEEP_S = 3.0
"""How often idle connections are looked at: one rests for so much longer at most."""
FORBIDDEN = re.compile(rb"[\r\n\0]")

Addresses = Callable[[str, int], Awaitable[list[str]]]
"""The addresses of a host that may be connected to, in the order in which they are tried."""


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
    if not host or any(FORBIDDEN.search(part) or b" " in part for part in (path, host.encode())):
        raise ConnectFailure("unusable URL")
    named = f"[{host}]" if ":" in host else host
    usual = port == (443 if secure else 80)
    return Target(Origin(secure, host, port), (named if usual else f"{named}:{port}").encode(), path)


class Client:
    """A process's connections to all providers. A connection opened for one tenant serves others: it knows none."""

    def __init__(self, addresses: Addresses, *, read_timeout_s: float) -> None:
        self._addresses = addresses
        self._read_timeout_s = read_timeout_s
        self._idle: dict[Origin, list[Connection]] = {}
        self._resting = 0
        self._sweep: asyncio.TimerHandle | None = None
        self._open: set[Connection] = set()
        self._slots = asyncio.Semaphore(CONNECTIONS_MAX)
        self._tls: ssl.SSLContext | None = None

    async def send(self, method: bytes, url: str, headers: Mapping[bytes, bytes], body: bytes = b"") -> Answer:
        """The answer, its head read. One attempt. Raises `ConnectFailure` when nothing was sent, another `Failure`, or
        what looking up the addresses raises."""
        target = target_of(url)
        lines = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method, target.path, target.authority)]
        for name, value in headers.items():
            if FORBIDDEN.search(value) or FORBIDDEN.search(name):
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
        loop = asyncio.get_running_loop()
        connection.resting_since = loop.time()
        if self._sweep is None:
            self._sweep = loop.call_later(SWEEP_S, self._end_idle)

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

    def _end_idle(self) -> None:
        """End what has rested for long. One timer serves all connections: each call would have to set and clear its
        own."""
        self._sweep = None
        loop = asyncio.get_running_loop()
        oldest = loop.time() - IDLE_S
        for resting in list(self._idle.values()):
            for connection in list(resting):
                if connection.resting_since <= oldest:
                    connection.abort()
        if self._idle:
            self._sweep = loop.call_later(SWEEP_S, self._end_idle)

    async def close(self) -> None:
        """End all connections."""
        if self._sweep is not None:
            self._sweep.cancel()
            self._sweep = None
        for connection in list(self._open):
            connection.abort()
        await asyncio.sleep(0)

    def _rested(self, origin: Origin) -> Connection | None:
        """The connection that rested last: those that are not needed grow old and end."""
        resting = self._idle.get(origin)
        while resting:
            connection = resting.pop()
            self._resting -= 1
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
