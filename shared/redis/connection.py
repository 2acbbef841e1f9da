"""One pipelined connection that speaks RESP2: commands of many calls go out as they come, answers are matched in order.

redis-py lends each command a connection of its own and spends 0.1 ms of processor on one; this costs a third, and calls
in flight share round trips. It is for scripts only: no subscriptions, no transactions, no cluster redirects.
Source of the protocol: https://redis.io/docs/latest/develop/reference/protocol-spec/
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from typing import cast
from urllib.parse import unquote, urlsplit

Value = str | int
Answer = int | bytes | None | list["Answer"]
IN_FLIGHT_MAX = 10_000
TIMEOUT_S = 2.0
PATIENCE_S = 0.002


class ServerRefused(Exception):
    """The server's own error, by its text."""


class ConnectionLost(Exception):
    """The connection ended before the answer came: whether the command was carried out is not known."""


class Incomplete(Exception):
    """The answer's rest has not come yet."""


def encoded(command: Sequence[Value]) -> bytes:
    parts = [f"*{len(command)}\r\n"]
    for value in command:
        text = value if type(value) is str else str(value)
        size = len(text) if text.isascii() else len(text.encode())
        parts.append(f"${size}\r\n{text}\r\n")
    return "".join(parts).encode()


def parsed(data: bytearray, at: int) -> tuple[Answer | ServerRefused, int]:
    """The answer that begins at `at`, and where the next one does. Raises `Incomplete`."""
    end = data.find(b"\r\n", at)
    if end < 0:
        raise Incomplete
    kind, line, after = data[at], bytes(data[at + 1 : end]), end + 2
    if kind == ord(":"):
        return int(line), after
    if kind == ord("$"):
        return bulk(data, int(line), after)
    if kind == ord("*"):
        return array(data, int(line), after)
    return (ServerRefused(line.decode("utf-8", "replace")) if kind == ord("-") else line), after


def bulk(data: bytearray, length: int, after: int) -> tuple[Answer, int]:
    if length < 0:
        return None, after
    if len(data) < after + length + 2:
        raise Incomplete
    return bytes(data[after : after + length]), after + length + 2


def array(data: bytearray, length: int, after: int) -> tuple[Answer | ServerRefused, int]:
    members: list[Answer] = []
    for _ in range(length):
        member, after = parsed(data, after)
        if isinstance(member, ServerRefused):
            return member, after
        members.append(member)
    return members, after


class Connection(asyncio.Protocol):
    """A connection to one server. Once lost it stays so; every command in flight then raises `ConnectionLost`."""

    def __init__(self) -> None:
        self._transport: asyncio.Transport | None = None
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._waiting: deque[asyncio.Future[Answer]] = deque()
        self._unsent: list[bytes] = []
        self._patient: list[tuple[bytes, asyncio.Future[Answer]]] = []
        self._sending = False
        self._later: asyncio.TimerHandle | None = None
        self._answered = 0
        self._watch: asyncio.TimerHandle | None = None

    @property
    def usable(self) -> bool:
        return self._transport is not None and not self._transport.is_closing()

    def command(self, *command: Value, patient: bool = False) -> asyncio.Future[Answer]:
        """Send it, with others of this moment; if it is patient, after the next one that is not, or soon.

        The future has its answer, or raises `ServerRefused` or `ConnectionLost`, at the latest when there was no answer
        for `TIMEOUT_S`.
        """
        answer: asyncio.Future[Answer] = self._loop.create_future()
        in_flight = len(self._waiting) + len(self._patient)
        if self._transport is None or self._transport.is_closing() or in_flight >= IN_FLIGHT_MAX:
            answer.set_exception(ConnectionLost("not connected, or too much in flight"))
            return answer
        if patient:
            self._patient.append((encoded(command), answer))
            if self._later is None:
                self._later = self._loop.call_later(PATIENCE_S, self._send)
        else:
            self._waiting.append(answer)
            self._unsent.append(encoded(command))
            if not self._sending:
                self._sending = True
                self._loop.call_soon(self._send)
        if self._watch is None:
            self._watch_over()
        return answer

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def _send(self) -> None:
        self._sending = False
        if self._later is not None:
            self._later.cancel()
            self._later = None
        for command, answer in self._patient:
            self._unsent.append(command)
            self._waiting.append(answer)
        self._patient.clear()
        if self._unsent and self.usable:
            assert self._transport is not None
            self._transport.write(b"".join(self._unsent))
        self._unsent.clear()

    def _watch_over(self) -> None:
        """One timer for all commands: it ends a connection on which commands wait and no answer comes."""
        self._watch = self._loop.call_later(TIMEOUT_S, self._look, self._answered)

    def _look(self, answered: int) -> None:
        self._watch = None
        if not self._waiting:
            return
        if answered == self._answered:
            self.close()
        else:
            self._watch_over()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its class

    def data_received(self, data: bytes) -> None:
        self._received += data
        at = 0
        while self._waiting and at < len(self._received):
            try:
                answer, at = parsed(self._received, at)
            except Incomplete:
                break
            self._deliver(answer)
        del self._received[:at]

    def _deliver(self, answer: Answer | ServerRefused) -> None:
        self._answered += 1
        waiting = self._waiting.popleft()
        if waiting.done():  # who waited was cancelled
            return
        if isinstance(answer, ServerRefused):
            waiting.set_exception(answer)
        else:
            waiting.set_result(answer)

    def connection_lost(self, failure: Exception | None) -> None:
        if self._watch is not None:
            self._watch.cancel()
        self._transport = None
        for waiting in (*self._waiting, *(answer for _, answer in self._patient)):
            if not waiting.done():
                waiting.set_exception(ConnectionLost(repr(failure)))
        self._waiting.clear()
        self._patient.clear()


async def connected(url: str) -> Connection:
    """A connection to `redis://[user]:password@host:port/number`, or `rediss://` for TLS. Raises `OSError`,
    `ServerRefused` or `ConnectionLost`."""
    parts = urlsplit(url)
    _, connection = await asyncio.get_running_loop().create_connection(
        Connection, parts.hostname or "127.0.0.1", parts.port or 6379, ssl=True if parts.scheme == "rediss" else None
    )
    try:
        if parts.password:
            user = [unquote(parts.username)] if parts.username else []
            await connection.command("AUTH", *user, unquote(parts.password))
        if number := parts.path.strip("/"):
            await connection.command("SELECT", number)
    except BaseException:
        connection.close()
        raise
    return connection
