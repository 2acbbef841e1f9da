"""A function dedicated to a tenant on a whole local stack, as an operator does it with the command line."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from shared.host.children import Trace
from tests.fixtures.stack import Cli, stack, wait_until

pytestmark = pytest.mark.timeout(300)
SEARCH = "knowledge-search"
OWN = f"demo--{SEARCH}"
Up = dict[str, Any]  # Any: a JSON document


@pytest.fixture(scope="module")
def up() -> Iterator[tuple[Cli, Up]]:
    with stack() as started:
        yield started


def search(url: str, key: str, timeout_s: float = 30.0) -> httpx.Response:
    headers = {"authorization": f"Bearer {key}"}
    return httpx.post(
        f"{url}/v1/knowledge/search", json={"query": "harbour"}, headers=headers, timeout=timeout_s, trust_env=False
    )


@contextmanager
def halted(process: Trace) -> Iterator[None]:
    """It neither answers nor ends for the length of the block."""
    os.kill(process.pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(process.pid, signal.SIGCONT)


class Asking:
    """Searches without a pause, and keeps every status."""

    def __init__(self, url: str, key: str) -> None:
        self.statuses: list[int] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._ask, args=(url, key))

    def _ask(self, url: str, key: str) -> None:
        while not self._over.is_set():
            self.statuses.append(search(url, key).status_code)

    def __enter__(self) -> Asking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()


def states(cli: Cli) -> list[tuple[str, str, str]]:
    rows = cli.json("tenant", "dedications")["dedications"]
    return [(row["tenant"], row["function"], row["state"]) for row in rows]


def test_a_dedicated_function_serves_its_tenant_alone_and_holds_nothing_of_the_platform(up: tuple[Cli, Up]) -> None:
    cli, started = up
    url, key = started["platform_url"], started["tenant_key"]
    other = cli.json("tenant", "add", "other")["key"]

    with Asking(url, key) as asking:
        made = cli.json("tenant", "dedicate", "demo", SEARCH)
        again = cli.json("tenant", "dedicate", "demo", SEARCH)

    assert (made["state"], again["address"]) == ("serving", made["address"])
    assert set(asking.statuses) == {200}
    process = cli.children()[OWN]
    held = Path(f"/proc/{process.pid}/environ").read_text()
    stores, platform = cli.home.read("secrets/stores.json"), cli.home.read("host.json")["environment"]
    assert isinstance(platform, dict)
    for name in ("control", "nats", "redis", "objects_access_key", "objects_secret_key"):
        assert str(stores[name]) not in held, name
    assert platform["DCODER_POSTGRES_URL"] not in held
    assert "/t_demo" in held
    assert [path.name for path in cli.home.own_secrets("demo", SEARCH).iterdir()] == ["issuer.key"]
    # The pooled function goes by what it read within the last second.
    wait_until(lambda: is_served_by(process, url, key), timeout_s=5)
    with halted(process):
        assert search(url, other, timeout_s=10).status_code == 200
        with pytest.raises(httpx.TimeoutException):
            search(url, key, timeout_s=1)
    assert httpx.post(f"{made['address']}/v1/knowledge/search", json={"query": "x"}, headers={
        "authorization": f"Bearer {key}"}).status_code == 401  # fmt: skip


def is_served_by(process: Trace, url: str, key: str) -> bool:
    with halted(process):
        try:
            search(url, key, timeout_s=0.5)
        except httpx.TimeoutException:
            return True
    return False


def test_a_killed_process_is_started_again_and_its_callers_wait(up: tuple[Cli, Up]) -> None:
    cli, started = up
    cli.json("tenant", "dedicate", "demo", SEARCH)
    before = cli.children()[OWN]

    os.kill(before.pid, signal.SIGKILL)

    wait_until(lambda: search(started["platform_url"], started["tenant_key"]).status_code == 200, timeout_s=30)
    assert cli.children()[OWN].pid != before.pid


def test_after_a_restart_of_the_host_it_serves_again(up: tuple[Cli, Up]) -> None:
    cli, started = up
    cli.json("tenant", "dedicate", "demo", SEARCH)
    host = cli.home.host()
    assert host is not None
    os.kill(host.pid, signal.SIGKILL)
    wait_until(lambda: not host.running)

    again = cli.json("up", "--detach", "--no-handbook")

    assert cli.children()[OWN].running
    assert search(again["platform_url"], started["tenant_key"]).status_code == 200
    assert states(cli) == [("demo", SEARCH, "serving")]


def test_undone_no_call_is_lost_and_nothing_is_left(up: tuple[Cli, Up]) -> None:
    cli, started = up
    cli.json("tenant", "dedicate", "demo", SEARCH)
    process = cli.children()[OWN]

    with Asking(str(cli.home.read("host.json")["platform_url"]), started["tenant_key"]) as asking:
        cli.json("tenant", "undedicate", "demo", SEARCH)
        cli.json("tenant", "undedicate", "demo", SEARCH)

    assert set(asking.statuses) == {200}
    assert not process.running
    assert OWN not in cli.children()
    assert not cli.home.own_secrets("demo", SEARCH).exists()
    assert states(cli) == []


def test_a_deleted_tenants_process_goes_with_it(up: tuple[Cli, Up]) -> None:
    cli, _ = up
    cli.json("tenant", "add", "going")
    cli.json("tenant", "dedicate", "going", SEARCH)
    process = cli.children()[f"going--{SEARCH}"]

    cli.json("tenant", "rm", "going", "--yes")

    wait_until(lambda: not process.running, timeout_s=15)
    assert states(cli) == []


def test_what_cannot_be_dedicated_says_why(up: tuple[Cli, Up]) -> None:
    done = up[0].run("tenant", "dedicate", "demo", "governance-keys")

    assert done.returncode == 1
    assert "it asks for ControlDatabase, ControlTransaction, Settings" in done.stderr
