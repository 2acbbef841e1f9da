"""Who is measured, each a process of its own on the first core; load, provider and servers are on the second."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

import httpx

from tests.fixtures.platform import Platform, environment_of
from tests.fixtures.ports import free_port
from tests.load.beside import ROOT, beside
from tests.load.gateway import peers

FUNCTIONS = "gateway-llm,governance-secrets,governance-keys"
MODELS = ("instant", "slow")
CORE, OTHER_CORE = {0}, {1}
READY_WITHIN_S = 60.0
FIRST_CALL = {"model": "instant", "messages": [{"role": "user", "content": "Hi"}]}


@dataclass(frozen=True)
class Contender:
    """Where its calls go, what they carry, and its process (none for the provider itself)."""

    url: str
    headers: Mapping[str, str]
    pid: int | None = None
    ready_s: float = 0.0
    """From the start of its process to the first answer with status 200."""

    @property
    def cpu_s(self) -> float:
        """Processor time that it and its children have had so far."""
        return sum(map(cpu_s, tree(self.pid))) if self.pid else 0.0

    @property
    def resident_mib(self) -> float:
        return sum(map(resident_mib, tree(self.pid))) if self.pid else 0.0


def tree(pid: int) -> list[int]:
    children = Path(f"/proc/{pid}/task/{pid}/children")
    found = [int(child) for child in children.read_text().split()] if children.exists() else []
    return [pid, *(one for child in found for one in tree(child))]


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def resident_mib(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def pin() -> None:
    """Put this process, and so what it starts, on the second core, where there are two."""
    if os.sched_getaffinity(0) >= CORE | OTHER_CORE:
        os.sched_setaffinity(0, OTHER_CORE)


@contextmanager
def process(command: Sequence[str], environment: Mapping[str, str], log: Path) -> Iterator[subprocess.Popen[bytes]]:
    with log.open("wb") as output:
        found = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment}, stdout=output, stderr=output)
        if os.sched_getaffinity(0) == OTHER_CORE:
            os.sched_setaffinity(found.pid, CORE)
        try:
            yield found
        finally:
            found.terminate()
            try:
                found.wait(20)
            except subprocess.TimeoutExpired:
                found.kill()
                found.wait(10)


def answering(started: subprocess.Popen[bytes], began: float, url: str, headers: Mapping[str, str], log: Path) -> float:
    """Seconds until a call was answered with 200. Raises `Missing` when none is."""
    last = "no answer"
    with httpx.Client(headers=dict(headers), timeout=20) as client:  # one: to make it takes tens of milliseconds
        while time.monotonic() - began < READY_WITHIN_S and started.poll() is None:
            try:
                answer = client.post(url, json=FIRST_CALL)
            except httpx.TransportError as failure:
                last = type(failure).__name__
                time.sleep(0.02)
                continue
            if answer.status_code == 200:
                return time.monotonic() - began
            last = f"{answer.status_code} {answer.text[:200]}"
            time.sleep(0.1)
    raise peers.Missing(f"it does not answer ({last}); its output is in {log}")


@contextmanager
def contender(
    command: Sequence[str], environment: Mapping[str, str], log: Path, url: str, headers: Mapping[str, str]
) -> Iterator[Contender]:
    began = time.monotonic()
    with process(command, environment, log) as started:
        ready_s = answering(started, began, url, headers, log)
        yield Contender(url, headers, started.pid, ready_s)


def serving(app: str, port: int) -> list[str]:
    return [
        sys.executable, "-m", "uvicorn", app, "--port", str(port), "--no-access-log", "--log-level", "warning",
        "--no-proxy-headers", "--no-server-header", "--http", "shared.function.protocol:BoundedProtocol",
    ]  # fmt: skip


@contextmanager
def ours(platform: Platform, base_url: str, folder: Path, *, collector: str = "") -> Iterator[Contender]:
    """The gateway as a container serves it. The key has eight limits, none of which is ever reached. `collector`: the
    address of who is told of each call, if anybody."""
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    settings = replace(platform.settings, llm_url=url, platform_url=url, otlp_url=collector)
    more = {"DCODER_PRIVATE_PROVIDER_URLS": "true", "HOST": "127.0.0.1"}
    with process(
        serving("functions.entry:app", port),
        environment_of(settings, DCODER_FUNCTION=FUNCTIONS, **more),
        folder / "management.log",
    ):
        headers = {"authorization": f"Bearer {platform.key}"}
        wait_for(f"{url}/health/live")
        store_provider(url, headers, base_url)
        key = governed_key(url, headers)
        time.sleep(1)  # then the limits hold
        used_once(f"{url}/v1/chat/completions", key)
    with contender(
        [sys.executable, "-m", "shared.function.serving"],  # as the image starts it
        environment_of(settings, DCODER_FUNCTION="gateway-llm", PORT=str(port), **more),
        folder / "ours.log",
        f"{url}/v1/chat/completions",
        {"authorization": f"Bearer {key}"},
    ) as found:
        yield found


def wait_for(url: str) -> None:
    for _ in range(400):
        try:
            httpx.get(url, timeout=1)
            return
        except httpx.TransportError:
            time.sleep(0.05)


def store_provider(url: str, headers: Mapping[str, str], base_url: str) -> None:
    content = {"base_url": base_url, "api_key": "sk-none", "models": list(MODELS), "check": False}
    answer = httpx.put(f"{url}/v1/secrets/providers/bench", json=content, headers=dict(headers), timeout=30)
    answer.raise_for_status()


def governed_key(url: str, headers: Mapping[str, str]) -> str:
    """A key for which eight limits hold, none of which is ever reached. Soft in money: the models have no price."""
    limits = [
        ("micro_usd", "month", False), ("micro_usd", "week", False), ("micro_usd", "day", True),
        ("tokens", "day", False), ("tokens", "minute", True), ("requests", "minute", True), ("requests", "day", False),
        ("parallel", "ever", False),
    ]  # fmt: skip
    asked = [
        {"metric": metric, "window": of, "rolling": rolling, "amount": 10**12, "hard": metric != "micro_usd"}
        for metric, of, rolling in limits
    ]
    made = httpx.post(f"{url}/v1/keys", json={"limits": asked}, headers=dict(headers), timeout=30).raise_for_status()
    return str(made.json()["key"])


def used_once(url: str, key: str) -> None:
    """Then the key's counters are built, as those of any key in use are. Else the next process's first call waits for
    that, a quarter of a second, and no start would be measured."""
    headers = {"authorization": f"Bearer {key}"}
    httpx.post(url, json=FIRST_CALL, headers=headers, timeout=30).raise_for_status()


@contextmanager
def bare(base_url: str, folder: Path) -> Iterator[Contender]:
    port = free_port()
    environment = {"DCODER_BENCH_UPSTREAM": base_url}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with contender(serving("tests.load.gateway.bare:app", port), environment, folder / "bare.log", url, {}) as found:
        yield found


@contextmanager
def litellm(platform: Platform, base_url: str, folder: Path) -> Iterator[Contender]:
    port = free_port()
    config = peers.litellm_config(folder, base_url, platform.settings.redis_url)
    environment = {
        "LITELLM_LOCAL_MODEL_COST_MAP": "True", "LITELLM_OFFLINE_MODE": "true", "LITELLM_TELEMETRY": "False",
    }  # fmt: skip
    command = [
        str(peers.litellm()), "-c", "from litellm import run_server; run_server()", "--config", str(config),
        "--host", "127.0.0.1", "--port", str(port), "--num_workers", "1",
    ]  # fmt: skip
    headers = {"authorization": f"Bearer {peers.MASTER_KEY}"}
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with contender(command, environment, folder / "litellm.log", url, headers) as found:
        yield found


@contextmanager
def portkey(base_url: str, folder: Path) -> Iterator[Contender]:
    port = free_port()
    headers = {
        "authorization": "Bearer sk-none", "x-portkey-provider": "openai", "x-portkey-custom-host": base_url,
    }  # fmt: skip
    environment = {"TRUSTED_CUSTOM_HOSTS": "127.0.0.1,localhost", "NODE_ENV": "production"}
    command = ["node", str(peers.portkey()), f"--port={port}", "--headless"]
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    with contender(command, environment, folder / "portkey.log", url, headers) as found:
        yield found


@contextmanager
def nginx(base_url: str, folder: Path) -> Iterator[Contender]:
    port = free_port()
    config = peers.nginx_config(folder, port, base_url)
    url = f"http://127.0.0.1:{port}/v1/chat/completions"
    command = [str(peers.nginx()), "-p", str(folder), "-c", str(config)]
    with contender(command, {}, folder / "nginx.log", url, {}) as found:
        yield found


@contextmanager
def everybody(names: Sequence[str], platform: Platform, base_url: str, folder: Path) -> Iterator[dict[str, Contender]]:
    """Those that can run here, by name. Prints why the others cannot."""
    with ExitStack() as stack:
        collector = stack.enter_context(beside("tests.load.collector"))
        found = {"direct": Contender(f"{base_url}/chat/completions", {})}
        starts = {
            "nginx": lambda: nginx(base_url, folder),
            "bare": lambda: bare(base_url, folder),
            "ours": lambda: ours(platform, base_url, folder, collector=collector),
            "untold": lambda: ours(platform, base_url, folder),
            "portkey": lambda: portkey(base_url, folder),
            "litellm": lambda: litellm(platform, base_url, folder),
        }
        for name in names:
            try:
                found[name] = stack.enter_context(starts[name]())
            except peers.Missing as why:
                print(f"{name} is left out: {why}", file=sys.stderr)
        yield found
