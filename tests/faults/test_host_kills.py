"""SIGKILL of the host, and of each process it runs: everything comes back, nothing acknowledged is lost."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator
from typing import Any

import pytest

from shared.host.children import wait_gone
from shared.ids import TenantId
from shared.objects import ObjectStore
from shared.settings import Settings
from tests.fixtures.stack import Cli, stack, wait_until

PROCESSES = ("postgres", "nats", "redis", "objects", "platform", "gateway")
BODY = b"acknowledged before the kill"


@pytest.fixture(scope="module")
def cli() -> Iterator[Cli]:
    with stack() as (started, _):
        yield started


def settings_of(cli: Cli) -> Settings:
    environment: Any = cli.home.read("host.json")["environment"]  # Any: a JSON document
    return Settings.from_environment(environment)


async def put(cli: Cli, name: str) -> None:
    await ObjectStore(settings_of(cli)).tenant(TenantId("demo")).put(f"kept/{name}", BODY, "text/plain")


async def got(cli: Cli, name: str) -> bytes:
    return bytes(await ObjectStore(settings_of(cli)).tenant(TenantId("demo")).get(f"kept/{name}", 1000))


def tenants(cli: Cli) -> set[str]:
    return {row["name"] for row in cli.json("tenant", "ls")["tenants"]}


def well(cli: Cli) -> bool:
    return cli.run("doctor", "--json").returncode == 0


@pytest.mark.parametrize("name", PROCESSES)
async def test_a_killed_process_comes_back_and_nothing_acknowledged_is_lost(cli: Cli, name: str) -> None:
    cli.json("tenant", "add", f"before-{name}")
    await put(cli, name)
    victim = cli.children()[name]
    os.kill(victim.pid, signal.SIGKILL)
    assert wait_gone(victim, 10)
    wait_until(lambda: well(cli))
    assert cli.children()[name].pid != victim.pid
    assert f"before-{name}" in tenants(cli)
    assert await got(cli, name) == BODY
    cli.json("tenant", "add", f"after-{name}")


async def test_a_killed_host_takes_its_processes_along_and_the_next_up_recovers(cli: Cli) -> None:
    cli.json("tenant", "add", "before-host")
    await put(cli, "host")
    host, children = cli.home.host(), cli.children()
    assert host is not None
    os.kill(host.pid, signal.SIGKILL)
    assert wait_gone(host, 10)
    again = cli.json("up", "--detach", "--no-handbook")
    assert again["pid"] != host.pid
    assert not any(child.running for child in children.values())
    assert cli.json("doctor")["ok"]
    assert "before-host" in tenants(cli)
    assert await got(cli, "host") == BODY


async def test_everything_killed_at_once_recovers(cli: Cli) -> None:
    cli.json("tenant", "add", "before-all")
    await put(cli, "all")
    host, children = cli.home.host(), cli.children()
    assert host is not None
    for process in (host, *children.values()):
        with contextlib.suppress(ProcessLookupError):  # the kernel may have been faster
            os.kill(process.pid, signal.SIGKILL)
    assert wait_gone(host, 10)
    cli.json("up", "--detach", "--no-handbook")
    assert cli.json("doctor")["ok"]
    assert "before-all" in tenants(cli)
    assert await got(cli, "all") == BODY


def test_a_killed_start_is_completed_by_the_next() -> None:
    with stack() as (cli, first):
        host = cli.home.host()
        assert host is not None
        os.kill(host.pid, signal.SIGKILL)
        assert wait_gone(host, 10)
        (cli.home.path / "children.json").unlink()  # killed before it could write anything down
        assert cli.json("up", "--detach", "--no-handbook")["tenant_key"] == first["tenant_key"]
