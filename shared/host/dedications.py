"""Processes of single tenants, as the control database wishes them: started, announced, and stopped again."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from functools import partial
from urllib.error import URLError
from urllib.request import Request, urlopen

from shared.host.ports import LOOPBACK, free_port, listen
from shared.host.servers import StartFailed
from shared.host.stack import TRANSLATE, PythonChild, PythonScript, Stack
from shared.host.supervisor import Report, Supervisor
from shared.host.translation import Translator

POLL_S = 1.0
TIMEOUT_S = 10.0
RETRY_S = 10.0
"""A process that did not start is tried again after so long."""
SETTLED_S = 3.0
"""So long after a dedication began to end, nobody hands anything on any more: who does reads where to every second."""

RunScript = Callable[[PythonScript], Awaitable[dict[str, object]]]


@dataclass
class Own:
    """A process of one tenant for one function."""

    child: PythonChild
    address: str
    ending_since_s: float | None = None


class Dedications:
    """Keeps one process for each dedication. Only what the API tells counts: the next look repairs what was killed."""

    def __init__(self, stack: Stack, supervisor: Supervisor, report: Report, run_script: RunScript) -> None:
        self._stack = stack
        self._supervisor = supervisor
        self._report = report
        self._run_script = run_script
        self._own: dict[tuple[str, str], Own] = {}
        self._not_before_s: dict[tuple[str, str], float] = {}

    async def run(self) -> None:
        """Look once a second, until cancelled."""
        while True:
            await self.settle()
            await asyncio.sleep(POLL_S)

    async def settle(self) -> None:
        """Make what runs be what is wished. What fails is reported, and tried again."""
        try:
            wished = await self._listed()
        except (URLError, OSError, ValueError):
            return  # the platform starts, or starts again
        for key in [key for key in self._own if key not in wished]:
            await self._stop(key)
        for key, row in wished.items():
            try:
                await self._settle_one(key, row)
            except (StartFailed, URLError, OSError, ValueError) as failure:
                self._not_before_s[key] = time.monotonic() + RETRY_S
                self._report("failed", {"name": name_of(key), "why": str(failure)})

    async def _settle_one(self, key: tuple[str, str], row: dict[str, object]) -> None:
        if row["state"] == "ending":
            await self._end(key)
            return
        if key not in self._own:
            if time.monotonic() < self._not_before_s.get(key, 0.0):
                return
            await self._start(key)
        own = self._own[key]
        own.ending_since_s = None
        if row["address"] != own.address:
            await self._call("PUT", f"{path_of(key)}/address", {"address": own.address})

    async def _start(self, key: tuple[str, str]) -> None:
        tenant, function = key
        script = PythonScript("granting", "shared.host.granting", self._stack.environment, arguments=(tenant, function))
        environment = (await self._run_script(script))["environment"]
        assert isinstance(environment, dict)
        port = free_port()
        listener = self._supervisor.hold(listen(port))
        kind = Translator if function == TRANSLATE else PythonChild
        child = kind(name_of(key), "shared.host.own", port, listener, environment)
        try:
            await self._supervisor.start(child)
        except BaseException:
            await self._supervisor.retire(child)
            raise
        self._own[key] = Own(child, f"http://{LOOPBACK}:{port}")

    async def _end(self, key: tuple[str, str]) -> None:
        own = self._own.get(key)
        if own is not None:
            own.ending_since_s = own.ending_since_s or time.monotonic()
            if time.monotonic() - own.ending_since_s < SETTLED_S:
                return
            await self._stop(key)
        await self._call("DELETE", f"{path_of(key)}/address")

    async def _stop(self, key: tuple[str, str]) -> None:
        """In order: what it has begun, it ends."""
        await self._supervisor.retire(self._own.pop(key).child)
        self._stack.home.forget_own(*key)

    async def _listed(self) -> dict[tuple[str, str], dict[str, object]]:
        found = await self._call("GET", "")
        rows = found.get("dedications")
        assert isinstance(rows, list)
        return {(row["tenant"], row["function"]): row for row in rows}

    async def _call(self, method: str, path: str, content: dict[str, str] | None = None) -> dict[str, object]:
        """One call of the platform's API as the operator. Raises `URLError`, `OSError`, `ValueError`."""
        key = self._stack.home.read("secrets/keys.json").get("admin_key", "")
        request = Request(  # noqa: S310  our own platform
            f"{self._stack.platform_url}/v1/dedications{path}",
            json.dumps(content).encode() if content is not None else None,
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
            method=method,
        )
        answered = await asyncio.to_thread(partial(read, request))
        document: dict[str, object] = json.loads(answered) if answered else {}
        return document


def read(request: Request) -> bytes:
    with urlopen(request, timeout=TIMEOUT_S) as answer:  # noqa: S310  our own platform
        content: bytes = answer.read()
        return content


def path_of(key: tuple[str, str]) -> str:
    return f"/{key[0]}/{key[1]}"


def name_of(key: tuple[str, str]) -> str:
    """Two hyphens: no tenant's name has them."""
    return f"{key[0]}--{key[1]}"
