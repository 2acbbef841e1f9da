"""Many paced streams at once: whether each frame arrives, in order, and how late."""

from __future__ import annotations

import asyncio
import re
import time
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from tests.load.gateway.upstream import FRAMES
from tests.load.http_load import request_bytes

FRAME = re.compile(rb'"content": ?"n=(\d+) (?:came=([\d.]+) )?sent=([\d.]+) "')


@dataclass
class Streams:
    """What a round of streams showed. Delays in milliseconds."""

    asked: int
    whole: int = 0
    frames_ms: list[float] = field(default_factory=list)
    """From a frame's sending to its arrival."""
    first_ms: list[float] = field(default_factory=list)
    """Of the first frame, with the request's way to the provider."""


async def run(url: str, *, streams: int, over_s: float, body: bytes, headers: dict[str, str]) -> Streams:
    """Open so many streams, evenly over that time, and read all of them."""
    found = Streams(streams)
    request = request_bytes(url, method="POST", body=body, headers=headers)
    parts = urlsplit(url)
    assert parts.hostname is not None
    reading = (
        read(found, parts.hostname, parts.port or 80, request, number * over_s / streams) for number in range(streams)
    )
    await asyncio.gather(*reading)
    return found


async def read(found: Streams, host: str, port: int, request: bytes, after_s: float) -> None:
    await asyncio.sleep(after_s)
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(request)
    sent, seen, done = time.monotonic(), 0, False
    while line := await reader.readline():
        now = time.monotonic()
        if match := FRAME.search(line):
            if int(match[1]) != seen:
                break
            seen += 1
            late = now - float(match[3])
            found.frames_ms.append(late * 1000)
            if match[2]:
                found.first_ms.append((float(match[2]) - sent + late) * 1000)
        elif line.startswith(b"data: [DONE]"):
            done = True
            break
    found.whole += done and seen == FRAMES
    writer.close()
