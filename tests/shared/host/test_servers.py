"""The embedded servers, each started, asked in its own protocol, killed and started again."""

from __future__ import annotations

import http.client
import os
import signal
import socket
import stat
import sys
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shared.host import probes
from shared.host.children import Command, spawn, start_time
from shared.host.servers import Nats, Postgres, Server, StartFailed, Valkey, start
from tests.fixtures.ports import free_ports
from tests.fixtures.servers import ObjectsServer, scratch_directory


def embedded(home: Path) -> list[Server]:
    ports = free_ports(3)
    return [
        Postgres(home / "postgres", ports[0], "first-secret", durable=False),
        Nats(home / "nats", ports[1], "second-secret"),
        Valkey(home / "redis", ports[2], "third-secret"),
    ]


def port_of(url: str) -> int:
    port = urlsplit(url).port
    assert port is not None
    return port


async def test_every_server_is_healthy_when_start_returns(
    postgres_admin_url: str, nats_url: str, redis_url: str, objects_server: ObjectsServer
) -> None:
    assert probes.postgres(port_of(postgres_admin_url))
    assert probes.nats(port_of(nats_url), urlsplit(nats_url).username or "")
    assert probes.redis(port_of(redis_url), urlsplit(redis_url).password or "")
    assert probes.http_status(port_of(objects_server.url), "/healthz") == 200


async def test_nats_and_redis_refuse_a_wrong_secret(nats_url: str, redis_url: str) -> None:
    assert not probes.nats(port_of(nats_url), "wrong")
    assert not probes.redis(port_of(redis_url), "wrong")


async def test_the_object_store_refuses_anonymous_calls(objects_server: ObjectsServer) -> None:
    client = http.client.HTTPConnection("127.0.0.1", port_of(objects_server.url))
    client.request("GET", "/")
    assert client.getresponse().status == 403
    client.close()


@pytest.mark.parametrize("index", range(3))
async def test_a_server_killed_with_sigkill_comes_back_on_its_data(index: int) -> None:
    with scratch_directory() as home:
        server = embedded(home)[index]
        first = start(server, home / "log")
        os.kill(first.process.pid, signal.SIGKILL)
        first.process.wait()
        second = start(server, home / "log")
        second.stop()
        assert start_time(second.process.pid) == ""


async def test_a_path_longer_than_a_unix_socket_allows_works() -> None:
    with scratch_directory() as home:
        deep = home / ("a" * 90) / ("b" * 90)
        for server in embedded(deep):
            start(server, home / "log").stop()


async def test_configuration_with_secrets_is_private_and_secrets_are_not_in_argv() -> None:
    with scratch_directory() as home:
        for server in embedded(home):
            server.prepare()
            assert "secret" not in " ".join(server.command().argv)
        for name in ("nats/nats.json", "redis/valkey.conf"):
            assert stat.S_IMODE((home / name).stat().st_mode) == 0o600


async def test_a_server_that_cannot_start_says_why_with_the_end_of_its_log() -> None:
    with scratch_directory() as home, socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        server = Valkey(home / "redis", occupied.getsockname()[1], "secret")
        with pytest.raises(StartFailed, match=r"(?i)address already in use"):
            start(server, home / "log")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root hands a program to another user")
def test_the_other_user_may_run_a_program_below_roots_private_folder() -> None:
    with scratch_directory() as home:
        home.chmod(0o700)
        program = home / "program"
        program.write_bytes(Path("/bin/true").read_bytes())
        program.chmod(0o755)
        asked = f"import os, sys; sys.exit(os.getuid() == 0 or not os.access({str(program)!r}, os.X_OK))"
        command = Command((sys.executable, "-c", asked), home, unprivileged=True)
        assert spawn(command, home / "log").wait(30) == 0
