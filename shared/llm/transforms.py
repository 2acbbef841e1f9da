"""Changes of a JSON body by paths: members set, members taken away.

A path is names with dots between them, `*` for each element of a list: `choices.*.delta.reasoning_content`. What is not
there is passed over. A member is set where what would hold it is an object.
"""

from __future__ import annotations

import json
import re
from collections.abc import AsyncGenerator, Iterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from shared.llm import sse

Json = Any  # Any: JSON
PATH = re.compile(r"[A-Za-z0-9_-]{1,64}(\.([A-Za-z0-9_-]{1,64}|\*)){0,7}")
EACH = "*"


@dataclass(frozen=True)
class Transform:
    """What becomes of a body. Members are taken away first."""

    set: Mapping[str, Json] = field(default_factory=dict)
    without: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.set or self.without)

    def of(self, body: dict[str, Json]) -> dict[str, Json]:
        """The body as it becomes; the one given is changed."""
        for path in self.without:
            for holder, name in places(body, path.split(".")):
                holder.pop(name, None)
        for path, value in self.set.items():
            for holder, name in places(body, path.split(".")):
                holder[name] = value
        return body

    def of_bytes(self, body: bytes) -> bytes:
        """A whole body. One that is no JSON object stays, and so does one that tells an error."""
        try:
            content = json.loads(body)
        except (ValueError, RecursionError):
            return body
        if not isinstance(content, dict) or content.get("error"):
            return body
        return json.dumps(self.of(content)).encode()  # ASCII: half a surrogate pair stays one

    async def of_stream(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """Server-sent events; what `of_bytes` says of each one's data."""
        events = sse.Events()
        async with aclosing(pieces):
            async for piece in pieces:
                changed = b"".join([self._of_event(event) for event in events.feed(piece)])
                if changed:
                    yield changed
            if rest := events.end():
                yield rest

    def _of_event(self, event: sse.Event) -> bytes:
        changed = self.of_bytes(event.data)
        if changed is event.data:
            return event.raw
        lines = [line for line in event.raw.splitlines() if line and not line.startswith(b"data:")]
        return b"\n".join([*lines, b"data: " + changed]) + b"\n\n"


def places(body: Json, path: list[str]) -> Iterator[tuple[dict[str, Json], str]]:
    """The objects that hold what the path names, or would hold it, and its name there."""
    first, *rest = path
    if first == EACH:
        for element in body if isinstance(body, list) else ():
            yield from places(element, rest)
    elif isinstance(body, dict):
        if not rest:
            yield body, first
        elif first in body:
            yield from places(body[first], rest)
