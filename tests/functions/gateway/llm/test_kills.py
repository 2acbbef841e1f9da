"""The gateway's process killed at any moment: after the sweep, every call that was begun is exactly one row."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest

from shared.quotas import Meter
from shared.settings import Settings
from tests.fixtures.platform import environment_of
from tests.fixtures.ports import free_port
from tests.fixtures.provider import ROLE, Pause, Script, Stall, chunk, stream
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, question

ROOT = Path(__file__).resolve().parents[4]


@dataclass(frozen=True)
class Served:
    """The gateway alone, in a process of its own."""

    process: asyncio.subprocess.Process
    url: str


def environment(settings: Settings) -> dict[str, str]:
    ours = environment_of(settings, DCODER_FUNCTION="gateway-llm", DCODER_PRIVATE_PROVIDER_URLS="true")
    return {**os.environ, **ours}


async def healthy(url: str) -> bool:
    with contextlib.suppress(httpx.TransportError):
        async with httpx.AsyncClient() as client:
            return (await client.get(f"{url}/health/live")).status_code == 200
    return False


UVICORN = ("uvicorn", "functions.entry:app", "--log-level", "error")
FRAMEWORK = ("functions_framework", "--source", "functions/entry.py", "--target", "main", "--asgi")


@asynccontextmanager
async def gateway_process(settings: Settings, server: tuple[str, ...] = UVICORN) -> AsyncIterator[Served]:
    port = free_port()
    command = [sys.executable, "-m", *server, "--host", "127.0.0.1", "--port", str(port)]
    process = await asyncio.create_subprocess_exec(
        *command, cwd=ROOT, env=environment(settings), start_new_session=True
    )
    served = Served(process, f"http://127.0.0.1:{port}")
    try:
        await until(lambda: healthy(served.url))
        yield served
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)  # gunicorn's workers would outlive it
        await process.wait()


async def swept(gateway: Gateway) -> list[tuple[str, str]]:
    """Request id and outcome of every row, after two sweeps."""
    for _ in range(2):
        await (await gateway.application.process.get(Meter)).sweep(dead_after_s=0)
    return [(row["request_id"], row["outcome"]) for row in await gateway.ledger()]


async def ask(client: httpx.AsyncClient, name: str) -> httpx.Response:
    """A stream under that request id; the provider sees the name as `user`."""
    body = question(stream=True, user=name)
    return await client.post("/v1/chat/completions", json=body, headers={"x-request-id": name})


@pytest.mark.parametrize(
    "script",
    [Script((), before=(Stall(),)), Script((ROLE, chunk({"content": "Hel"}), Stall()))],
    ids=["before the first byte", "in mid-stream"],
)
async def test_a_gateway_killed_in_a_call_leaves_one_row(gateway: Gateway, settings: Settings, script: Script) -> None:
    gateway.provider.will(script)
    async with gateway_process(settings) as served, gateway.at(served.url) as client:
        calling = asyncio.create_task(ask(client, "killed-in-the-middle"))
        await until(lambda: bool(gateway.provider.calls))
        served.process.kill()
        await asyncio.wait({calling})
        assert isinstance(calling.exception(), httpx.TransportError)
    assert await gateway.rows() == []
    assert await swept(gateway) == [("killed-in-the-middle", "unknown")]


async def test_a_gateway_killed_under_load_loses_and_doubles_no_call(gateway: Gateway, settings: Settings) -> None:
    chance = random.Random(11)
    tail = stream("x").steps[1:]
    gateway.provider.will(*(Script((ROLE, Pause(chance.random() * 0.2), *tail)) for _ in range(400)))
    numbers = iter(range(10_000))

    async def call_until_it_breaks(client: httpx.AsyncClient) -> None:
        with contextlib.suppress(httpx.TransportError):
            while True:
                await ask(client, f"request-{next(numbers)}")

    async with gateway_process(settings) as served, gateway.at(served.url) as client:
        calling = [asyncio.create_task(call_until_it_breaks(client)) for _ in range(20)]
        await until(lambda: len(gateway.provider.calls) > 100)
        served.process.kill()
        await asyncio.wait(calling)
    rows = Counter(request for request, _ in await swept(gateway))
    assert {call.json["user"] for call in gateway.provider.calls} <= set(rows)
    assert set(rows.values()) == {1}


@pytest.mark.parametrize("server", [UVICORN, FRAMEWORK], ids=["uvicorn", "functions-framework"])
async def test_a_caller_who_leaves_closes_the_provider_under_any_server(
    gateway: Gateway, settings: Settings, server: tuple[str, ...]
) -> None:
    gateway.provider.will(Script((ROLE, chunk({"content": "Hel"}), Stall())))
    async with gateway_process(settings, server) as served, gateway.at(served.url) as client:
        async with client.stream("POST", "/v1/chat/completions", json=question(stream=True)) as answer:
            async for piece in answer.aiter_raw():
                if b"Hel" in piece:
                    break
        await asyncio.wait_for(gateway.provider.calls[0].ended.wait(), 5)
        assert gateway.provider.calls[0].closed_early
        assert [row["outcome"] for row in await gateway.ledger()] == ["client_gone"]


@pytest.mark.parametrize("server", [UVICORN, FRAMEWORK], ids=["uvicorn", "functions-framework"])
async def test_a_gateway_told_to_stop_finishes_its_stream_and_its_row(
    gateway: Gateway, settings: Settings, server: tuple[str, ...]
) -> None:
    gateway.provider.will(Script((ROLE, Pause(1.0), *stream("end").steps[1:])))
    async with gateway_process(settings, server) as served, gateway.at(served.url) as client:
        calling = asyncio.create_task(ask(client, "finished-in-peace"))
        await until(lambda: bool(gateway.provider.calls))
        served.process.terminate()
        answer = await calling
    assert answer.content.endswith(b"data: [DONE]\n\n")
    assert [row["outcome"] for row in await gateway.ledger()] == ["done"]


async def test_the_gateway_alone_loads_no_model_and_no_litellm(settings: Settings) -> None:
    code = (
        "import sys, functions.entry; from shared.llm.outbound import Providers; Providers(private=True).client;"
        "print([m for m in ('litellm', 'onnxruntime', 'tokenizers', 'boto3', 'nats') if m in sys.modules])"
    )
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", code, cwd=ROOT, env=environment(settings), stdout=asyncio.subprocess.PIPE
    )
    said, _ = await process.communicate()
    assert said.strip() == b"[]"
