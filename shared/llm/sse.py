"""Server-sent events (WHATWG HTML §9.2.6), incrementally: any split of the bytes gives the same events."""

from __future__ import annotations

import re
from dataclasses import dataclass

from shared.errors import Unavailable

EVENT_BYTES_MAX = 4 * 1024 * 1024
BLANK = re.compile(rb"(?:\r\n|\n|\r(?!\n))(?:\r\n|\n|\r)")
LINE = re.compile(rb"\r\n|\n|\r")
LONGEST_BLANK = 4
USUAL = re.compile(rb"data: [^\r\n]*\n\n")
"""A chunk that is one event of one line: nearly all that providers send."""


@dataclass(frozen=True, slots=True)
class Event:
    """One event: its bytes as they came, the blank line included, and its `data` lines joined."""

    raw: bytes
    data: bytes


class Events:
    """Collects bytes and gives back whole events."""

    def __init__(self, *, bytes_max: int = EVENT_BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._rest = bytearray()
        self._searched = 0

    def feed(self, chunk: bytes) -> list[Event]:
        """The events that this chunk completes. Raises `Unavailable` when one grows beyond the limit, after which
        nothing is to be fed any more."""
        if not self._rest and USUAL.fullmatch(chunk):
            return [Event(chunk, chunk[len(b"data: ") : -len(b"\n\n")])]
        found = []
        self._rest += chunk
        while (end := self._end_of_event()) is not None:
            raw = bytes(self._rest[:end])
            del self._rest[:end]
            self._searched = 0
            found.append(Event(raw, data_of(raw)))
        if len(self._rest) > self._bytes_max:
            raise Unavailable(f"the provider sent an event of more than {self._bytes_max} bytes")
        return found

    def end(self) -> bytes:
        """What is left when the stream has ended: an event without its blank line, or nothing."""
        rest, self._rest = bytes(self._rest), bytearray()
        return rest

    def _end_of_event(self) -> int | None:
        match = BLANK.search(self._rest, self._searched)
        if match is None:
            self._searched = max(0, len(self._rest) - LONGEST_BLANK + 1)
            return None
        if match.end() == len(self._rest) and match.group().endswith(b"\r"):
            return None  # a line feed may follow and belong to it
        return match.end()


def is_whole(raw: bytes) -> bool:
    """Whether the event has its blank line. At a stream's end no line feed follows a carriage return any more."""
    return raw.endswith((b"\r\r", b"\n\n", b"\n\r", b"\r\n\r"))


def data_of(raw: bytes) -> bytes:
    """The event's `data` lines, joined with line feeds."""
    lines = []
    for line in LINE.split(raw.removeprefix(b"\xef\xbb\xbf")):
        name, _, value = line.partition(b":")
        if name == b"data":
            lines.append(value[1:] if value.startswith(b" ") else value)
    return b"\n".join(lines)


def encode(data: str) -> bytes:
    """An event with this data, which holds no line break."""
    return f"data: {data}\n\n".encode()
