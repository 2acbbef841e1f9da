"""Server-sent events (WHATWG HTML §9.2.6), incrementally: any split of the bytes gives the same events."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from shared.errors import Unavailable

EVENT_BYTES_MAX = 4 * 1024 * 1024
BLANK = re.compile(rb"\r\n\r\n|\n\n|\r\r|\r\n\n|\n\r\n")
LINE = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its bytes as they came, its terminator included, and its `data` lines joined."""

    raw: bytes
    data: bytes


class Events:
    """Collects bytes and gives back whole events."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, chunk: bytes) -> Iterator[Event]:
        """The events that this chunk completes. Raises `Unavailable` when one grows beyond 4 MiB."""
        self._rest += chunk
        while match := BLANK.search(self._rest):
            if match.end() == len(self._rest) and match.group().endswith(b"\r"):
                break  # a line feed may follow and belong to it
            raw, self._rest = self._rest[: match.end()], self._rest[match.end() :]
            yield Event(raw, data_of(raw))
        if len(self._rest) > EVENT_BYTES_MAX:
            raise Unavailable("the provider sent an event of more than 4 MiB")

    def end(self) -> bytes:
        """What is left when the stream has ended: an event without its blank line, or nothing."""
        rest, self._rest = self._rest, b""
        return rest


def data_of(raw: bytes) -> bytes:
    lines = []
    for line in LINE.split(raw):
        if line.startswith(b"data:"):
            value = line[5:]
            lines.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(lines)


def encode(data: str) -> bytes:
    """An event with this data, which holds no line break."""
    return f"data: {data}\n\n".encode()
