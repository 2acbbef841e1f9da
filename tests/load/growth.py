"""Whether the gateway's memory stays where it is: requests, then streams whose caller leaves after the first frame.

    python -m tests.load.growth [--requests 200000] [--aborted 20000]

Resident memory of the one gateway process is read after each tenth of the work. The slope is that of a least-squares
line through the readings, without the first two tenths, in which pools and caches fill.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from urllib.parse import urlsplit

from tests.fixtures.platform import scratch_platform
from tests.load import http_load
from tests.load.beside import beside
from tests.load.gateway import contenders
from tests.load.gateway.__main__ import TYPE, asked
from tests.load.gateway.contenders import Contender

CONNECTIONS = 32
PARTS = 10
FILLING = 2
SEGMENT_S = 2.0


class Failed(Exception):
    """A call was not answered well."""


async def requests(one: Contender, count: int) -> None:
    done = 0
    while done < count:
        headers = {**TYPE, **one.headers}
        load = await http_load.run(
            one.url, seconds=SEGMENT_S, connections=CONNECTIONS, body=asked("instant"), headers=headers
        )
        if load.failures:
            raise Failed(f"{load.failures} of {len(load.latencies_ms)} answers were not 2xx: {load.first_failure}")
        done += len(load.latencies_ms)


async def aborted(one: Contender, count: int) -> None:
    """Streams of which only the first frame is read."""
    parts = urlsplit(one.url)
    request = http_load.request_bytes(
        one.url, method="POST", body=asked("instant", stream=True), headers={**TYPE, **one.headers}
    )
    left = iter(range(count))

    async def leave() -> None:
        for _ in left:
            reader, writer = await asyncio.open_connection(parts.hostname, parts.port)
            writer.write(request)
            await reader.readuntil(b"n=0")
            writer.transport.abort()

    await asyncio.gather(*(leave() for _ in range(CONNECTIONS)))


def slope(readings: Sequence[float], each: int) -> float:
    """MiB per 10,000 pieces of work."""
    kept = list(enumerate(readings))[FILLING:]
    middle = sum(at for at, _ in kept) / len(kept)
    mean = sum(value for _, value in kept) / len(kept)
    of_part = sum((at - middle) * (value - mean) for at, value in kept) / sum((at - middle) ** 2 for at, _ in kept)
    return of_part / each * 10_000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--requests", type=int, default=200_000)
    parser.add_argument("--aborted", type=int, default=20_000)
    options = parser.parse_args()
    contenders.pin()
    with (
        tempfile.TemporaryDirectory(prefix="dcoder-growth-") as folder,
        scratch_platform() as platform,
        beside("tests.load.gateway.upstream") as base_url,
        contenders.ours(platform, base_url, Path(folder)) as one,
    ):
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; before: {one.resident_mib:.1f} MiB", flush=True)
        for what, work, count in (
            ("requests", requests, options.requests),
            ("aborted streams", aborted, options.aborted),
        ):
            readings = []
            for _ in range(PARTS):
                try:
                    asyncio.run(work(one, count // PARTS))
                except Failed as failed:
                    raise SystemExit(f"{failed}\n{(Path(folder) / 'ours.log').read_text()[-4000:]}") from None
                readings.append(one.resident_mib)
            told = " ".join(f"{value:.1f}" for value in readings)
            print(f"{count:,} {what}: {told} MiB; {slope(readings, count // PARTS):+.2f} MiB per 10,000", flush=True)


if __name__ == "__main__":
    main()
