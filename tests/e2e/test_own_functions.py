"""A tenant's own function on a whole local stack: made, run, deployed, shared out, rolled back, gone."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.host.children import start_time
from shared.host.stack import ROOT
from tests.fixtures.stack import Cli, stack, wait_until

pytestmark = pytest.mark.timeout(600)
TENANT = "demo"
CURIOUS = '''"""Tells what its process was told."""

from __future__ import annotations

import os

from pydantic import BaseModel

from shared.function import Function

rates = Function()


class Told(BaseModel):
    """An environment and a process."""

    variables: dict[str, str]
    pid: int


@rates.get("/v1/own/rates/told", permission="documents:read")
async def told() -> Told:
    """Tell it."""
    return Told(variables=dict(os.environ), pid=os.getpid())
'''
WRITING = (
    CURIOUS.replace("import Function\n", "import Function\nfrom shared.postgres import TenantTransaction\n")
    + '''

class Note(BaseModel):
    """A note."""

    text: str


@rates.post("/v1/own/rates/notes", permission="documents:write")
async def keep(note: Note, transaction: TenantTransaction) -> Note:
    """Keep a note."""
    await transaction.execute("CREATE TABLE IF NOT EXISTS notes (text text)")
    await transaction.execute("INSERT INTO notes VALUES ($1)", note.text)
    return note
'''
)
BROKEN = CURIOUS + '\nif os.environ.get("DCODER_TENANT"):\n    raise RuntimeError("no rates today")\n'


@dataclass(frozen=True)
class Local:
    """A running stack and a function's folder."""

    cli: Cli
    url: str
    folder: Path

    @property
    def keys(self) -> dict[str, Any]:  # Any: JSON
        return self.cli.home.read("secrets/keys.json")

    def call(self, path: str, content: bytes | None = None, *, key: str = "", url: str = "") -> httpx.Response:
        return httpx.request(
            "GET" if content is None else "POST",
            f"{url or self.url}/v1/own/rates{path}",
            content=content,
            headers={
                "authorization": f"Bearer {key or self.keys['tenants'][TENANT]}",
                "content-type": "application/json",
            },
            timeout=30,
        )

    def deploy(self, source: str = "", *more: str) -> dict[str, Any]:  # Any: JSON
        if source:
            (self.folder / "function.py").write_text(source)
        return self.run("deploy", str(self.folder), *more)

    def run(self, command: str, *arguments: str) -> dict[str, Any]:  # Any: JSON
        return self.cli.json("functions", command, *arguments, "--tenant", TENANT)

    def says(self, greeting: str) -> bool:
        return bool(self.call("/hello").json()["text"].startswith(greeting))


@pytest.fixture(scope="module")
def local(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Local]:
    with stack() as (cli, told):
        folder = tmp_path_factory.mktemp("own") / "rates"
        assert len(cli.json("functions", "new", "--own", str(folder))["created"]) == 3
        yield Local(cli, str(told["platform_url"]), folder)


def answers(local: Local, url: str) -> bool:
    try:
        return local.call("/hello", url=url).status_code == 200
    except httpx.TransportError:
        return False


def test_its_own_test_passes(local: Local) -> None:
    done = local.cli.run("test", str(local.folder), "-q", "-p", "no:cacheprovider")
    assert done.returncode == 0, done.stdout + done.stderr


def test_it_runs_before_it_is_deployed(local: Local) -> None:
    argv = local.cli.command("functions", "run", str(local.folder), "--json")
    with subprocess.Popen(argv, cwd=ROOT, env=local.cli.surroundings(), stdout=subprocess.PIPE, text=True) as run:
        try:
            assert run.stdout is not None
            url = json.loads("".join(run.stdout.readline() for _ in range(4)))["url"]
            wait_until(lambda: answers(local, url))
            assert local.call("/hello", url=url).json()["text"].endswith(f"of {TENANT}")
        finally:
            run.send_signal(signal.SIGTERM)


def test_it_is_deployed_called_shared_out_and_rolled_back(local: Local) -> None:
    assert local.call("/hello").status_code == 404
    assert local.deploy()["revision"] == 1
    wait_until(lambda: local.call("/hello").status_code == 200)
    assert local.says("Hello, ")

    source = (local.folder / "function.py").read_text()
    assert local.deploy(source.replace("Hello, ", "Good day, "), "--no-traffic")["serves"] is False
    assert local.says("Hello, ")

    assert local.run("traffic", "rates", "1=50", "2=50")["serving"] == {"1": 50, "2": 50}
    wait_until(lambda: local.says("Good day, "))
    seen = Counter(local.call("/hello").json()["text"].partition(",")[0] for _ in range(60))
    assert set(seen) == {"Hello", "Good day"}

    local.run("traffic", "rates", "2=100")
    assert local.run("rollback", "rates")["serving"] == {"1": 100}
    wait_until(lambda: local.says("Hello, "))
    (row,) = local.run("ls")["functions"]
    assert (row["name"], row["serving"]) == ("rates", {"1": 100})
    assert [one["revision"] for one in local.run("show", "rates")["revisions"]] == [2, 1]


def test_a_revision_that_does_not_start_gets_no_calls_and_says_why(local: Local) -> None:
    (local.folder / "function.py").write_text(BROKEN)
    done = local.cli.run("functions", "deploy", str(local.folder), "--tenant", TENANT)
    assert done.returncode == 1
    assert "no rates today" in done.stderr
    assert local.says("Hello, ")
    assert any("no rates today" in line for line in local.run("logs", "rates", "-n", "200")["lines"])
    local.run("traffic", "rates", "1=100")


def test_it_gets_what_its_types_ask_for_and_nothing_else(local: Local) -> None:
    local.deploy(CURIOUS)
    wait_until(lambda: local.call("/told").status_code == 200)
    told = local.call("/told").json()["variables"]
    assert told["DCODER_POSTGRES_URL"] == told["DCODER_REDIS_URL"] == told["DCODER_PLATFORM_URL"] == "not-granted"
    assert os.listdir(told["DCODER_SECRETS_DIR"]) == ["issuer.key"]
    assert str(local.cli.home.read("secrets/stores.json")["control"]) not in json.dumps(told)
    assert "DCODER_HOME" not in told

    local.deploy(WRITING)
    wait_until(lambda: local.call("/notes", b'{"text": "a"}').status_code == 200)
    assert f"/t_{TENANT}" in local.call("/told").json()["variables"]["DCODER_POSTGRES_URL"]


def test_who_may_not_is_refused_before_the_function_sees_it(local: Local) -> None:
    viewer = str(local.cli.json("key", "create", "--tenant", TENANT, "--role", "viewer")["key"])
    note = b'{"text": "a"}'
    assert local.call("/told", key=viewer).status_code == 200
    assert local.call("/notes", note, key=viewer).status_code == 403
    assert local.call("/nothing").status_code == 404
    assert local.call("/told", note).status_code == 405
    assert local.call("/told", key="dck_nonsense").status_code == 401
    operator = str(local.keys["admin_key"])
    assert local.call("/told", key=operator).status_code == 404


def test_nobody_calls_its_process_past_the_platform(local: Local) -> None:
    """Neither with a key nor with a token for another function: it knows only whom the platform handed on."""
    statement = next((local.cli.home.path / "bundles").rglob("statement.json"))
    assert json.loads(statement.read_bytes())["tenant"] == TENANT
    process = local.call("/told").json()["pid"]
    port = listening_port(process)
    assert local.call("/told", url=f"http://127.0.0.1:{port}").status_code == 401


def listening_port(pid: int) -> int:
    inodes = {os.readlink(f"/proc/{pid}/fd/{one}") for one in os.listdir(f"/proc/{pid}/fd")}
    for line in Path("/proc/net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in inodes:
            return int(fields[1].rpartition(":")[2], 16)
    raise AssertionError(f"{pid} listens nowhere")


def test_a_killed_process_is_started_again(local: Local) -> None:
    before = local.call("/told").json()["pid"]
    os.kill(before, signal.SIGKILL)
    wait_until(lambda: start_time(before) == "")
    assert local.call("/told").json()["pid"] != before


def test_it_is_deleted_with_its_processes(local: Local) -> None:
    process = local.call("/told").json()["pid"]
    assert local.cli.run("functions", "rm", "rates", "--tenant", TENANT).returncode == 2
    local.run("rm", "rates", "--yes")
    wait_until(lambda: local.call("/told").status_code == 404)
    wait_until(lambda: start_time(process) == "")
    wait_until(lambda: not list((local.cli.home.path / "bundles").rglob("bundle.zip")))
