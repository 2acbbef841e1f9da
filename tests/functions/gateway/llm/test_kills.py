"""The gateway's process killed at any moment: after the sweep, every call that was begun is exactly one row."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import httpx
import pytest

from shared.host.ports import free_port
from shared.settings import Settings
from shared.usage import Ledger
from tests.fixtures.platform import environment_of
from tests.fixtures.provider import ROLE, Pause, Script, Stall, chunk, stream
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, question

ROOT = Path(__file__).resolve().parents[4]


@asynccontextmanager
async def gateway_process(settings: Settings) -> AsyncIterator[tuple[subprocess.Popen[bytes], str]]:
    """The gateway alone, in a process of its own."""
    port = free_port()
    environment = environment_of(settings, DCODER_FUNCTION="gateway-llm", DCODER_PRIVATE_PROVIDER_URLS="true")
    command = [sys.executable, "-m", "uvicorn", "functions.entry:app", "--port", str(port), "--log-level", "error"]
    process = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})
    url = f"http://127.0.0.1:{port}"
    try:
        async with httpx.AsyncClient(base_url=url) as client:

            async def ready() -> bool:
                with contextlib.suppress(httpx.TransportError):
                    return (await client.get("/health/live")).status_code == 200
                return False

            await until(ready)
        yield process, url
    finally:
        process.kill()
        process.wait(10)


async def swept(gateway: Gateway) -> list[tuple[str, str]]:
    """Request id and outcome of every row, after two sweeps."""
    for _ in range(2):
        await Ledger(gateway.control).sweep(dead_after_s=0)
    return [(row["request_id"], row["outcome"]) for row in await gateway.ledger()]


@pytest.mark.parametrize(
    "script",
    [Script((), before=(Stall(),)), Script((ROLE, chunk({"content": "Hel"}), Stall()))],
    ids=["before the first byte", "in mid-stream"],
)
async def test_a_gateway_killed_in_a_call_leaves_one_row(gateway: Gateway, settings: Settings, script: Script) -> None:
    gateway.provider.will(script)
    async with gateway_process(settings) as (process, url):
        async with httpx.AsyncClient(base_url=url, headers=gateway.client.headers, timeout=30) as client:
            headers = {"x-request-id": "killed-in-the-middle"}
            calling = asyncio.create_task(
                client.post("/v1/chat/completions", json=question(stream=True), headers=headers)
            )
            await until(lambda: bool(gateway.provider.calls))
            process.send_signal(signal.SIGKILL)
            await asyncio.wait({calling})
            assert isinstance(calling.exception(), httpx.TransportError)
    assert await gateway.rows() == []
    assert await swept(gateway) == [("killed-in-the-middle", "unknown")]


async def test_a_gateway_killed_under_load_loses_and_doubles_no_call(gateway: Gateway, settings: Settings) -> None:
    chance = random.Random(11)
    slow = [Script((ROLE, Pause(chance.random() * 0.2), *stream("x").steps[1:])) for _ in range(400)]
    gateway.provider.will(*slow)
    async with gateway_process(settings) as (process, url):
        headers = dict(gateway.client.headers)
        async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
            counter = iter(range(10_000))

            async def caller() -> None:
                with contextlib.suppress(httpx.TransportError):
                    while True:
                        name = f"request-{next(counter)}"
                        body = question(stream=True, user=name)
                        await client.post("/v1/chat/completions", json=body, headers={"x-request-id": name})

            calling = [asyncio.create_task(caller()) for _ in range(20)]
            await until(lambda: len(gateway.provider.calls) > 100)
            process.send_signal(signal.SIGKILL)
            await asyncio.wait(calling)
    rows = Counter(request for request, _ in await swept(gateway))
    asked = {call.json["user"] for call in gateway.provider.calls}
    assert asked <= set(rows)
    assert set(rows.values()) == {1}


async def test_a_gateway_told_to_stop_finishes_its_stream_and_its_row(gateway: Gateway, settings: Settings) -> None:
    gateway.provider.will(Script((ROLE, Pause(1.0), *stream("end").steps[1:])))
    async with gateway_process(settings) as (process, url):
        async with httpx.AsyncClient(base_url=url, headers=gateway.client.headers, timeout=30) as client:
            calling = asyncio.create_task(client.post("/v1/chat/completions", json=question(stream=True)))
            await until(lambda: bool(gateway.provider.calls))
            process.send_signal(signal.SIGTERM)
            answer = await calling
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert [row["outcome"] for row in await gateway.ledger()] == ["done"]


async def test_the_gateway_alone_loads_no_model_and_no_litellm(gateway: Gateway, settings: Settings) -> None:
    code = (
        "import sys, functions.entry; from shared.llm.outbound import Providers; Providers(private=True).client;"
        "print([m for m in ('litellm', 'onnxruntime', 'tokenizers', 'boto3', 'nats') if m in sys.modules])"
    )
    environment = environment_of(replace(settings), DCODER_FUNCTION="gateway-llm")
    ran = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={**os.environ, **environment}, capture_output=True, check=True
    )
    assert ran.stdout.strip() == b"[]"
