"""The same functions, unmodified, under plain functions-framework: HTTP, event, stream, SIGTERM in mid-stream."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from shared.events import CloudEvent, to_http
from shared.events.http import to_batch, to_structured
from shared.function import catalog
from shared.function.catalog import Deployable
from shared.function.process import Process
from shared.identity import Caller, Tokens
from shared.ids import TenantId
from shared.settings import Settings
from tests.fixtures.platform import environment_of, key_for
from tests.fixtures.ports import free_port

ROOT = Path(__file__).resolve().parents[3]


@asynccontextmanager
async def framework(names: str, settings: Settings) -> AsyncIterator[tuple[subprocess.Popen[bytes], httpx.AsyncClient]]:
    """functions-framework with those functions, ready to serve, as its own documentation starts it."""
    port = free_port()
    process = await asyncio.to_thread(
        subprocess.Popen[bytes],
        [
            str(Path(sys.executable).with_name("functions-framework")), "--target", "main", "--asgi",
            "--source", "functions/entry.py", "--host", "127.0.0.1", "--port", str(port),
        ],
        cwd=ROOT,
        env={**os.environ, **environment_of(settings, DCODER_FUNCTION=names), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    try:
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            await until_served(client, process)
            yield process, client
    finally:
        process.terminate()
        await asyncio.to_thread(process.wait, 40)


async def until_served(client: httpx.AsyncClient, process: subprocess.Popen[bytes]) -> None:
    for _ in range(400):
        assert process.poll() is None, "functions-framework ended at start"
        try:
            if (await client.get("/health/live")).status_code == 200:
                return
        except httpx.TransportError:
            pass
        await asyncio.sleep(0.05)
    raise AssertionError("functions-framework did not serve within 20 s")


async def test_one_function_alone_answers_typed_calls(settings: Settings, process: Process, tenant: TenantId) -> None:
    key = await key_for(process, tenant)
    async with framework("governance-keys", settings) as (_, client):
        made = await client.post("/v1/keys", json={"role": "viewer"}, headers={"authorization": f"Bearer {key}"})
        anonymous = await client.get("/v1/keys")
        elsewhere = await client.get("/v1/documents", headers={"authorization": f"Bearer {key}"})
    assert made.status_code == 201
    assert made.json()["key"].startswith("dck_")
    assert (anonymous.status_code, elsewhere.status_code) == (401, 404)


async def test_an_event_in_each_mode_is_answered_with_204_and_no_body(
    settings: Settings, process: Process, tenant: TenantId
) -> None:
    tokens = await process.get(Tokens)
    event = CloudEvent(
        id="ff-1", source="/test", type="dcoder.audit.pending", subject=tenant, tenant=tenant, time=datetime.now(UTC),
        data={},
    )  # fmt: skip
    async with framework("governance-audit", settings) as (_, client):
        answers = [
            await client.post("/", content=body, headers=headers)
            for one in (tokens.sign_event(event), event)
            for headers, body in (to_http(one), to_structured(one), to_batch([one]))
        ]
    assert [(answer.status_code, answer.content) for answer in answers[:3]] == [(204, b"")] * 3
    assert [answer.status_code for answer in answers[3:]] == [401] * 3


@pytest.mark.parametrize("deployable", catalog.find(), ids=lambda one: one.name)
async def test_each_function_alone_is_served_and_lets_nobody_in_unknown(
    deployable: Deployable, settings: Settings
) -> None:
    route = next(route for _, route in deployable.routes())
    async with framework(deployable.name, settings) as (server, client):
        live = await client.get("/health/live")
        refused = await client.request(route.method, re.sub(r"{[^}]*}", "x", route.path))
        server.terminate()
        assert await asyncio.to_thread(server.wait, 40) == 0
    assert live.json()["functions"] == [deployable.name]
    assert refused.status_code == 401


async def test_several_functions_share_a_process(settings: Settings, process: Process, tenant: TenantId) -> None:
    key = await key_for(process, tenant)
    async with framework("governance-keys,knowledge-documents", settings) as (_, client):
        headers = {"authorization": f"Bearer {key}"}
        answers = [await client.get(path, headers=headers) for path in ("/v1/keys", "/v1/documents")]
    assert [answer.status_code for answer in answers] == [200, 200]


async def test_sigterm_lets_a_stream_end_whole(settings: Settings, process: Process, tenant: TenantId) -> None:
    tokens = await process.get(Tokens)
    caller = Caller(tenant, "key:stream", "admin", "key")
    headers = {"authorization": f"Bearer {tokens.mint(caller, audience='knowledge-answers')}"}
    async with framework("knowledge-answers", replace(settings)) as (server, client):
        request = {"question": "What is stored?"}
        async with client.stream("POST", "/v1/knowledge/answers/stream", json=request, headers=headers) as answer:
            server.send_signal(signal.SIGTERM)
            lines = [line async for line in answer.aiter_lines()]
        assert answer.status_code == 200
        assert '"type": "done"' in lines[-1]
        assert await asyncio.to_thread(server.wait, 40) == 0
