"""A process killed under load, and every call repeated with its idempotency key: each has one effect and one record."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from secrets import token_hex

import httpx

from shared.function.catalog import ROOT
from shared.function.process import Process
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from tests.fixtures.platform import environment_of, key_for
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import until

CALLS, AT_ONCE = 60, 8


@dataclass(frozen=True)
class Served:
    process: asyncio.subprocess.Process
    client: httpx.AsyncClient


@asynccontextmanager
async def keys_process(settings: Settings, key: str) -> AsyncIterator[Served]:
    port = free_port()
    command = (sys.executable, "-m", "uvicorn", "functions.entry:app", "--log-level", "critical", "--port", str(port))
    environment = {**os.environ, **environment_of(settings, DCODER_FUNCTION="governance-keys")}
    process = await asyncio.create_subprocess_exec(*command, cwd=ROOT, env=environment)
    headers = {"authorization": f"Bearer {key}"}
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=20) as client:

            async def served() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get("/health/ready")).status_code == 200
                return False

            await until(served)
            yield Served(process, client)
    finally:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        await process.wait()


async def create(client: httpx.AsyncClient, name: str) -> int:
    answer = await client.post("/v1/keys", json={"name": name}, headers={"idempotency-key": name})
    return answer.status_code


async def create_until_it_breaks(client: httpx.AsyncClient, names: list[str], done: list[str]) -> None:
    with contextlib.suppress(httpx.TransportError):
        while names:
            name = names.pop()
            assert await create(client, name) == 201
            done.append(name)


async def test_calls_repeated_after_a_kill_have_one_effect_and_one_record_each(
    settings: Settings, process: Process, control: ControlDatabase, tenant: TenantId
) -> None:
    key = await key_for(process, tenant)
    names = [f"repeated-{token_hex(6)}" for _ in range(CALLS)]
    waiting, done = list(names), list[str]()
    async with keys_process(settings, key) as served:
        creating = [asyncio.create_task(create_until_it_breaks(served.client, waiting, done)) for _ in range(AT_ONCE)]
        await until(lambda: len(done) >= CALLS // 4)
        served.process.kill()
        await asyncio.gather(*creating)
    assert CALLS // 4 <= len(done) < CALLS, "it was killed in the middle"
    async with keys_process(settings, key) as served:
        statuses = {name: await create(served.client, name) for name in names}
    # 409: it was done, and its answer held a secret that is shown once only.
    assert {statuses[name] for name in done} == {409}
    assert set(statuses.values()) == {201, 409}
    rows = await control.fetch("SELECT id, name FROM virtual_keys WHERE name = ANY($1)", names)
    assert Counter(row["name"] for row in rows) == Counter(names)
    assert await recorded(control) >= {row["id"] for row in rows}


async def recorded(control: ControlDatabase) -> set[str]:
    """The keys of which a record says, once, that they were created."""
    rows = await control.fetch("SELECT record FROM audit_outbox")
    found = Counter(
        one["resource"].removeprefix("key/")
        for row in rows
        if (one := json.loads(bytes(row["record"])))["action"] == "governance-keys.create_key"
    )
    return {key for key, count in found.items() if count == 1}
