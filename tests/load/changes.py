"""How soon a change holds in every process of the gateway, and whether a call is lost meanwhile.

    python -m tests.load.changes [--rounds 10] [--processes 3]

Each process serves a steady load whose calls must all succeed. A change is made through a process of its own; then each
gateway is asked, every few milliseconds, until its answers are those of after the change. The time is from the change's
answer to the beginning of the last call, at any gateway, that was answered as before.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import httpx

from tests.fixtures.platform import Platform, environment_of, scratch_platform
from tests.fixtures.ports import free_port
from tests.load.beside import beside
from tests.load.gateway import contenders
from tests.load.gateway.__main__ import asked

BAR_S = 1.0
ASK_EVERY_S = 0.005
GIVE_UP_S = 10.0
CALLERS = 2
CHAT = "/v1/chat/completions"
MANAGED = "governance-secrets,governance-keys,governance-quotas,gateway-aliases,gateway-cache,governance-tenants"
Seen = Callable[[httpx.Response], bool]


@dataclass
class Bench:
    """The gateways' addresses, and who changes things."""

    manager: httpx.AsyncClient
    gateways: list[httpx.AsyncClient]
    steady: str
    calls: int = 0
    lost: list[str] = field(default_factory=list)

    async def change(
        self, method: str, path: str, body: Mapping[str, Any] | None = None
    ) -> dict[str, Any]:  # Any: JSON
        answer = await self.manager.request(method, path, json=body)
        if answer.status_code >= 300:
            raise SystemExit(f"{method} {path}: {answer.status_code} {answer.text}")
        told: dict[str, Any] = answer.json() if answer.content else {}
        return told

    async def key(self, **scope: object) -> tuple[str, str]:
        """A key's id and text."""
        made = await self.change("POST", "/v1/keys", scope)
        return made["id"], made["key"]

    async def everywhere(self, seen: Seen, model: str, key: str) -> float:
        """Seconds until the last call began that was not answered so."""
        since = time.perf_counter()

        async def one(gateway: httpx.AsyncClient) -> float:
            last = 0.0
            while True:
                began = time.perf_counter() - since
                answer = await gateway.post(CHAT, content=asked(model), headers=bearer(key))
                if seen(answer):
                    return last
                last = began
                if last > GIVE_UP_S:
                    raise SystemExit(f"{answer.status_code} {answer.text[:200]} after {GIVE_UP_S:.0f} s")
                await asyncio.sleep(ASK_EVERY_S)

        return max(await asyncio.gather(*map(one, self.gateways)))

    async def load(self, gateway: httpx.AsyncClient) -> None:
        while True:
            answer = await gateway.post(CHAT, content=asked("bench/instant"), headers=bearer(self.steady))
            self.calls += 1
            if answer.status_code != 200:
                self.lost.append(f"{answer.status_code} {answer.text[:100]}")
            await asyncio.sleep(0.02)


def bearer(key: str) -> dict[str, str]:
    return {"authorization": f"Bearer {key}", "content-type": "application/json"}


def status(wanted: int) -> Seen:
    return lambda answer: answer.status_code == wanted


def by(provider: str) -> Seen:
    return lambda answer: answer.headers.get("x-dcoder-provider") == provider


async def key_made(bench: Bench, base_url: str) -> list[float]:
    _, key = await bench.key()
    return [await bench.everywhere(status(200), "bench/instant", key)]


async def key_revoked(bench: Bench, base_url: str) -> list[float]:
    name, key = await bench.key()
    await bench.everywhere(status(200), "bench/instant", key)
    await bench.change("DELETE", f"/v1/keys/{name}")
    return [await bench.everywhere(status(401), "bench/instant", key)]


async def limit_set(bench: Bench, base_url: str) -> list[float]:
    name, key = await bench.key()
    limit = {"scope": "key", "name": name, "metric": "requests", "window": "day", "amount": 0}
    await bench.everywhere(status(200), "bench/instant", key)
    await bench.change("POST", "/v1/quotas", limit)
    return [await bench.everywhere(status(429), "bench/instant", key)]


async def alias_switched(bench: Bench, base_url: str) -> list[float]:
    _, key = await bench.key()
    path = "/v1/aliases/switched"
    found = []
    for provider in ("bench", "other", "bench"):
        await bench.change("PUT", path, {"provider": provider, "model": "instant"})
        found.append(await bench.everywhere(by(provider), "switched", key))
    return found[1:]


async def provider_changed(bench: Bench, base_url: str) -> list[float]:
    _, key = await bench.key()
    path = "/v1/secrets/providers/brief"
    stored = {"base_url": base_url, "api_key": "sk-none", "check": False}
    await bench.change("PUT", path, {**stored, "models": ["brief"]})
    found = [await bench.everywhere(status(200), "brief", key)]
    await bench.change("PUT", path, {**stored, "models": ["another"]})
    found.append(await bench.everywhere(status(404), "brief", key))
    await bench.change("DELETE", path)
    return found


async def group_changed(bench: Bench, base_url: str) -> list[float]:
    _, key = await bench.key(models=["group/bench"])
    found = []
    for models, told in ((["bench/instant"], 200), (["bench/slow"], 404)):
        await bench.change("PUT", "/v1/model-groups/bench", {"models": models})
        found.append(await bench.everywhere(status(told), "bench/instant", key))
    return found


async def cache_switched(bench: Bench, base_url: str) -> list[float]:
    _, key = await bench.key()
    found = []
    for enabled in (True, False):
        await bench.change("PUT", "/v1/cache", {"enabled": enabled})
        found.append(
            await bench.everywhere(
                lambda answer, enabled=enabled: ("x-dcoder-cache" in answer.headers) is enabled,  # type: ignore[misc]
                "bench/instant",
                key,
            )
        )
    return found


CHANGES: Mapping[str, Callable[[Bench, str], Awaitable[list[float]]]] = {
    "a key is made": key_made,
    "a key is revoked": key_revoked,
    "a limit is set": limit_set,
    "an alias is switched": alias_switched,
    "a provider's models change": provider_changed,
    "a group's models change": group_changed,
    "the cache is switched on or off": cache_switched,
}


async def measured(bench: Bench, base_url: str, rounds: int) -> bool:
    """Print the table. Whether the bars are held."""
    loads = [asyncio.create_task(bench.load(one)) for one in bench.gateways for _ in range(CALLERS)]
    slowest = 0.0
    for name, change in CHANGES.items():
        found = sorted([one for _ in range(rounds) for one in await change(bench, base_url)])
        slowest = max(slowest, found[-1])
        print(f"  {name:<34}{found[len(found) // 2]:>8.2f} s{found[-1]:>8.2f} s", flush=True)
    for load in loads:
        load.cancel()
    ended = await asyncio.gather(*loads, return_exceptions=True)
    failures = [*bench.lost, *(repr(one) for one in ended if not isinstance(one, asyncio.CancelledError))]
    print(f"  slowest {slowest:.2f} s (bar {BAR_S:.0f} s); {bench.calls} calls beside it, {len(failures)} lost (bar 0)")
    for failure in failures[:5]:
        print(f"    {failure}")
    return slowest <= BAR_S and not failures


async def run(urls: list[str], manager_url: str, platform: Platform, base_url: str, rounds: int) -> bool:
    async with httpx.AsyncClient(base_url=manager_url, headers=bearer(platform.key), timeout=30) as manager:
        gateways = [httpx.AsyncClient(base_url=url, timeout=30) for url in urls]
        bench = Bench(manager, gateways, "")
        for name in ("bench", "other"):
            stored = {"base_url": base_url, "api_key": "sk-none", "models": ["instant", "slow"], "check": False}
            await bench.change("PUT", f"/v1/secrets/providers/{name}", stored)
        _, bench.steady = await bench.key()
        await bench.everywhere(status(200), "bench/instant", bench.steady)
        try:
            return await measured(bench, base_url, rounds)
        finally:
            for one in gateways:
                await one.aclose()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--processes", type=int, default=3)
    options = parser.parse_args()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dcoder-bench-")))
        platform = stack.enter_context(scratch_platform())
        base_url = stack.enter_context(beside("tests.load.gateway.upstream"))
        ports = [free_port() for _ in range(options.processes + 1)]
        urls = [f"http://127.0.0.1:{port}" for port in ports]
        settings = replace(platform.settings, llm_url=urls[0], platform_url=urls[-1])
        for port, url in zip(ports, urls, strict=True):
            functions = MANAGED if url == urls[-1] else "gateway-llm"
            environment = environment_of(
                settings, DCODER_FUNCTION=functions, DCODER_PRIVATE_PROVIDER_URLS="true", HOST="127.0.0.1"
            )
            command = contenders.serving("functions.entry:app", port)
            stack.enter_context(contenders.process(command, environment, folder / f"{port}.log"))
        for url in urls:
            contenders.wait_for(f"{url}/health/live")
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {options.processes} gateways")
        print(f"  {'from the change to the last gateway':<34}{'median':>10}{'slowest':>10}")
        held = asyncio.run(run(urls[:-1], urls[-1], platform, base_url, options.rounds))
    return 0 if held else 1


if __name__ == "__main__":
    sys.exit(main())
