"""What the gateway adds to a provider's answer: authentication, routing, relay and ledger, beside the same call direct.

    python -m tests.load.gateway_overhead [--rounds 5] [--seconds 2] [--upstream-ms 0]

Provider, gateway and load are a process each; rounds are interleaved. The provider answers after so long. `governed` is
a key for which eight limits hold: budgets in money and tokens, rates, and calls at once.
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
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from tests.fixtures.platform import environment_of, scratch_platform
from tests.fixtures.ports import free_port
from tests.load import http_load

ROOT = Path(__file__).resolve().parents[2]
FUNCTIONS = "gateway-llm,governance-secrets,governance-keys"
BODY = json.dumps({"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]}).encode()
PROVIDER = """
import asyncio, sys
from dataclasses import replace
from tests.fixtures import provider as fixture
usual, pause_s = fixture.usual, float(sys.argv[1]) / 1000
def late(call):
    return replace(usual(call), before=(fixture.Pause(pause_s),))
if pause_s:
    fixture.usual = late
async def main():
    async with fixture.serving_provider() as provider:
        print(provider.base_url, flush=True)
        while True:
            await asyncio.sleep(1)
            provider.calls.clear()
asyncio.run(main())
"""


@dataclass
class Contender:
    """Where to send the load, and the latencies measured there."""

    url: str
    headers: dict[str, str]
    rounds: list[http_load.Load]


@contextmanager
def provider(upstream_ms: float) -> Iterator[str]:
    command = [sys.executable, "-c", PROVIDER, str(upstream_ms)]
    process = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait(10)


@contextmanager
def functions(environment: dict[str, str], port: int) -> Iterator[str]:
    process = subprocess.Popen(
        [
            sys.executable, "-m", "uvicorn", "functions.entry:app", "--port", str(port), "--no-access-log",
            "--log-level", "error",
        ],
        cwd=ROOT,
        env={**os.environ, **environment},
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        for _ in range(400):
            try:
                httpx.get(f"{url}/health/live", timeout=1)
                break
            except httpx.TransportError:
                time.sleep(0.05)
        yield url
    finally:
        process.terminate()
        process.wait(10)


def store_provider(url: str, key: str, base_url: str) -> None:
    content = {"base_url": base_url, "api_key": "sk-none", "models": ["gpt-4o-mini"]}
    headers = {"authorization": f"Bearer {key}"}
    httpx.put(f"{url}/v1/secrets/providers/bench", json=content, headers=headers, timeout=30).raise_for_status()


def governed_key(url: str, key: str) -> str:
    """A key for which eight limits hold, none of which is ever reached."""
    limits = [
        ("micro_usd", "month", False), ("micro_usd", "week", False), ("micro_usd", "day", True),
        ("tokens", "day", False), ("tokens", "minute", True), ("requests", "minute", True), ("requests", "day", False),
        ("parallel", "ever", False),
    ]  # fmt: skip
    asked = [{"metric": metric, "window": of, "rolling": rolling, "amount": 10**12} for metric, of, rolling in limits]
    headers = {"authorization": f"Bearer {key}"}
    made = httpx.post(f"{url}/v1/keys", json={"limits": asked}, headers=headers, timeout=30).raise_for_status()
    time.sleep(1)  # then they hold
    return str(made.json()["key"])


def measure(contenders: dict[str, Contender], *, connections: int, rounds: int, seconds: float) -> None:
    for number in range(rounds + 1):  # the first round warms up
        for name, one in contenders.items():
            running = http_load.run(one.url, seconds=seconds, connections=connections, body=BODY, headers=one.headers)
            load = asyncio.run(running)
            if load.failures:
                raise SystemExit(f"{name}: {load.failures} of {len(load.latencies_ms)} answers were not 2xx")
            if number:
                one.rounds.append(load)


def report(contenders: dict[str, Contender], connections: int) -> None:
    print(f"{connections} connections")
    for name, one in contenders.items():
        rate = statistics.median(load.per_second for load in one.rounds)
        p50, p99 = (statistics.median(load.percentile_ms(share) for load in one.rounds) for share in (0.5, 0.99))
        print(f"  {name:<10} {rate:>8,.0f} requests/s   p50 {p50:6.2f} ms   p99 {p99:6.2f} ms")
        one.rounds.clear()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--upstream-ms", type=float, default=0.0)
    options = parser.parse_args()
    with ExitStack() as stack:
        platform = stack.enter_context(scratch_platform())
        base_url = stack.enter_context(provider(options.upstream_ms))
        port = free_port()
        settings = replace(
            platform.settings, llm_url=f"http://127.0.0.1:{port}", platform_url=f"http://127.0.0.1:{port}"
        )
        environment = environment_of(settings, DCODER_FUNCTION=FUNCTIONS, DCODER_PRIVATE_PROVIDER_URLS="true")
        gateway = stack.enter_context(functions(environment, port))
        store_provider(gateway, platform.key, base_url)
        headers = {"content-type": "application/json"}
        key = {**headers, "authorization": f"Bearer {platform.key}"}
        governed = {**headers, "authorization": f"Bearer {governed_key(gateway, platform.key)}"}
        contenders = {
            "direct": Contender(f"{base_url}/chat/completions", headers, []),
            "gateway": Contender(f"{gateway}/v1/chat/completions", key, []),
            "governed": Contender(f"{gateway}/v1/chat/completions", governed, []),
        }
        print(f"{os.cpu_count()} cores; medians of {options.rounds} rounds; upstream {options.upstream_ms:g} ms")
        for connections in (1, 16):
            measure(contenders, connections=connections, rounds=options.rounds, seconds=options.seconds)
            report(contenders, connections)


if __name__ == "__main__":
    main()
