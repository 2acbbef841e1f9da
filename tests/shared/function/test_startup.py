"""A container's start: what it imports, what it opens early, and what it says of itself."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.function.app import build
from shared.function.catalog import Deployable, select
from shared.function.declaration import Function
from shared.function.dedication import credentials_of
from shared.function.openapi import document
from shared.function.process import Process
from shared.function.startup import Startup, open_early, process_began
from shared.identity import Identity
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.dedicated import dedicated_settings
from tests.fixtures.platform import environment_of, key_for
from tests.fixtures.ports import free_port

ROOT = Path(__file__).resolve().parents[3]
GROUP = "knowledge-answers,knowledge-documents,knowledge-search"
UNWANTED = (
    *("asyncpg", "redis", "boto3", "botocore", "nats", "numpy", "onnxruntime", "tokenizers", "cryptography", "jwt"),
    *("httpx", "lxml", "docx", "pptx", "openpyxl", "pypdfium2", "flask", "gunicorn", "functions_framework"),
    *("cloudevents", "email_validator", "jinja2", "yaml", "watchfiles", "websockets"),
)
MODULES_MAX = 600
"""What the knowledge group's container imports before it listens, 570, and room for a few more."""
OTHER_SESSIONS = """
SELECT count(*) FROM pg_stat_activity
 WHERE datname = current_database() AND backend_type = 'client backend' AND pid <> pg_backend_pid()
"""
START = """
import sys
from shared.function.startup import defer_models
defer_models()
import uvicorn, shared.function.protocol, functions.entry, json
from fastapi.openapi.models import Components, OpenAPI
unwanted = set({unwanted!r}) & {{name.partition('.')[0] for name in sys.modules}}
counted = [name for name in sys.modules if not name.startswith('pydantic.v1')]
built = [one.__name__ for one in (Components, OpenAPI) if one.__pydantic_complete__]
print(json.dumps([sorted(unwanted), len(counted), built]))
"""


@contextmanager
def container(settings: Settings, port: int, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """The image's entrypoint, as a process of this machine."""
    environment = environment_of(settings, DCODER_FUNCTION=GROUP, PORT=str(port), PYTHONPATH=str(ROOT), DCODER_LOG="")
    arguments = [sys.executable, "-P", "-m", "shared.function.serving"]
    with log.open("wb") as output:
        process = subprocess.Popen(arguments, env={**os.environ, **environment}, stderr=output, cwd=log.parent)
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(30) == 0


def lines(log: Path, event: str) -> list[dict[str, Any]]:  # Any: JSON
    said = [json.loads(line) for line in log.read_text().splitlines() if line.startswith("{")]
    return [one for one in said if one["event"] == event]


async def answered(client: httpx.AsyncClient, path: str, status: int) -> httpx.Response:
    """The answer, once the process listens and has that status. Bounded."""
    for _ in range(400):
        try:
            answer = await client.get(path)
        except httpx.TransportError:
            pass
        else:
            if answer.status_code == status:
                return answer
        await asyncio.sleep(0.05)
    raise AssertionError(f"{path} was not answered with {status} within 20 s")


@pytest.mark.parametrize("names", [GROUP, ""], ids=["knowledge", "every function"])
def test_a_start_imports_no_vendor_builds_no_unused_model_and_keeps_its_budget(names: str, settings: Settings) -> None:
    environment = {**os.environ, **environment_of(settings, DCODER_FUNCTION=names), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run(
        [sys.executable, "-P", "-c", START.format(unwanted=UNWANTED)],
        env=environment, capture_output=True, text=True, check=True,
    )  # fmt: skip
    unwanted, modules, built = json.loads(ran.stdout)

    assert (unwanted, built) == ([], [])
    if names:
        assert modules <= MODULES_MAX


def test_models_that_are_built_late_describe_themselves_alike(settings: Settings) -> None:
    program = (
        "import json; from shared.function.startup import defer_models; defer_models();"
        "from shared.function.catalog import find; from shared.function.openapi import document;"
        "from shared.settings import Settings;"
        "print(json.dumps(document(find(), Settings.from_environment())))"
    )
    environment = {**os.environ, **environment_of(settings), "PYTHONPATH": str(ROOT)}
    ran = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=True)

    assert json.loads(ran.stdout) == json.loads(json.dumps(document(select(()), settings)))


async def test_a_container_opens_its_database_unasked_and_reports_its_start_once(
    settings: Settings, process: Process, tenant: TenantId, tmp_path: Path
) -> None:
    key, port, log = await key_for(process, tenant), free_port(), tmp_path / "log"
    with container(settings, port, log):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            await answered(client, "/health/ready", 200)
            for _ in range(2):
                listed = await client.get("/v1/documents", headers={"authorization": f"Bearer {key}"})
                assert listed.status_code == 200

    (said,) = lines(log, "started")
    assert list(said["at"].values()) == sorted(said["at"].values())
    before_the_call = {"process", "python", "imported", "built", "connected", "probed", "ready"}
    assert set(said["at"]) == before_the_call | {"called", "answered"}
    assert list(said["at"])[-2:] == ["called", "answered"]
    assert said["processor_ms"] > 0


async def test_a_container_whose_database_is_away_starts_says_so_and_is_not_ready(
    settings: Settings, tmp_path: Path
) -> None:
    away = replace(settings, postgres_url=f"postgresql://nobody@127.0.0.1:{free_port()}/none")
    port, log = free_port(), tmp_path / "log"
    with container(away, port, log):
        async with httpx.AsyncClient(base_url=f"http://127.0.0.1:{port}", timeout=20) as client:
            await answered(client, "/health/live", 200)
            await answered(client, "/health/ready", 503)

    (failed,) = lines(log, "background_failed")
    assert failed["task"] == "open-early"
    assert lines(log, "started") == []


@pytest.mark.parametrize(
    ("name", "registry"), [("knowledge-documents", True), ("governance-keys", False)], ids=["tenants", "none"]
)
async def test_only_what_the_functions_are_granted_is_opened_early(
    settings: Settings, name: str, registry: bool
) -> None:
    application = build(select([name]), settings)
    try:
        await open_early(application)

        assert application.process.opened(ControlDatabase)
        assert application.process.opened(Identity)
        assert bool(application.process.opened(TenantRegistry)) is registry
    finally:
        await application.process.close()


async def test_what_a_function_says_takes_long_is_loaded_early_and_beside_the_event_loop(settings: Settings) -> None:
    loaded: list[bool] = []
    late = Function(early=lambda: loaded.append(threading.current_thread() is threading.main_thread()))
    application = build([Deployable("test-late", __name__, late)], settings)
    try:
        await open_early(application)
    finally:
        await application.process.close()

    assert loaded == [False]


async def test_a_container_of_one_tenant_opens_that_tenants_database_early(
    settings: Settings, registry: TenantRegistry, tmp_path: Path
) -> None:
    alone = (await registry.create("opened-early")).id
    held = await credentials_of(settings, alone)
    application = build(select(["knowledge-search"]), dedicated_settings(settings, alone, held, tmp_path))
    database = await registry.database(alone)
    try:
        assert await database.fetchval(OTHER_SESSIONS) == 0
        await open_early(application)

        assert await database.fetchval(OTHER_SESSIONS) == 1
    finally:
        await application.process.close()


def test_a_moment_is_noted_the_first_time_only_and_the_process_began_before_it() -> None:
    noted = Startup()
    noted.reached("probed")
    first = noted.at["probed"]
    noted.reached("probed")

    assert noted.at["probed"] == first
    assert process_began() < first
