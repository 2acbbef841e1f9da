"""Requests per second of the runtime beside bare FastAPI and bare Starlette: same server, same run, interleaved.

    python -m tests.load.runtime [--rounds 5] [--seconds 2]

Each contender is one uvicorn process; the load comes from this process over loopback, 16 keep-alive connections.
Ours authenticates a virtual key and checks its permission; the changing call commits an audit record as well.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import httpx

from shared.settings import Settings
from tests.fixtures.platform import environment_of, scratch_platform
from tests.fixtures.ports import free_port
from tests.load import http_load

ROOT = Path(__file__).resolve().parents[2]
BODY = json.dumps({"text": "how many words are in this question", "limit": 10}).encode()


@contextmanager
def served(factory: str, environment: dict[str, str], check: str) -> Iterator[str]:
    """One uvicorn process that serves `tests.load.trivial:<factory>`, up when the block begins."""
    port = free_port()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "uvicorn", f"tests.load.trivial:{factory}", "--factory", "--port", str(port),
            "--no-access-log", "--log-level", "error",
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(200):
            try:
                httpx.post(url + check, content=BODY, timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def measure(
    contenders: dict[str, tuple[str, dict[str, str]]], *, rounds: int, seconds: float
) -> dict[str, list[float]]:
    found: dict[str, list[float]] = {name: [] for name in contenders}
    for _ in range(rounds + 1):  # the first round warms up
        for name, (url, headers) in contenders.items():
            load = asyncio.run(http_load.run(url, seconds=seconds, body=BODY, headers=headers))
            if load.failures:
                raise SystemExit(f"{name}: {load.failures} of {len(load.latencies_ms)} answers were not 2xx")
            found[name].append(load.per_second)
    return {name: rates[1:] for name, rates in found.items()}


def report(rates: dict[str, list[float]]) -> None:
    middle = {name: statistics.median(values) for name, values in rates.items()}
    print(f"{os.cpu_count()} cores; requests/s of one process, median of {len(next(iter(rates.values())))} rounds")
    for name, rate in middle.items():
        spread = f"{min(rates[name]):,.0f}–{max(rates[name]):,.0f}"
        print(f"  {name:<34} {rate:>9,.0f}   ({spread})")
    print(f"typed / FastAPI   {middle['ours, typed'] / middle['bare FastAPI, typed']:.2f}   bar 0.70")
    print(f"raw   / Starlette {middle['ours, raw'] / middle['bare Starlette, raw']:.2f}   bar 0.50")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    options = parser.parse_args()
    with ExitStack() as stack:
        platform = stack.enter_context(scratch_platform())
        settings: Settings = platform.settings
        headers = {"content-type": "application/json"}
        key = {**headers, "authorization": f"Bearer {platform.key}"}
        fastapi = stack.enter_context(served("bare_fastapi", {}, "/typed"))
        starlette = stack.enter_context(served("bare_starlette", {}, "/raw"))
        ours = stack.enter_context(served("ours", environment_of(settings), "/typed"))
        contenders = {
            "bare FastAPI, typed": (fastapi + "/typed", headers),
            "ours, typed": (ours + "/typed", key),
            "ours, typed, changing and audited": (ours + "/change", key),
            "bare Starlette, raw": (starlette + "/raw", headers),
            "ours, raw": (ours + "/raw", key),
        }
        report(measure(contenders, rounds=options.rounds, seconds=options.seconds))


if __name__ == "__main__":
    main()
