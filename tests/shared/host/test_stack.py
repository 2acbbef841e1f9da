"""What a stack is made of: ports, servers, and what the functions are told."""

from __future__ import annotations

import socket
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import boto3
import pytest

from shared.errors import Invalid
from shared.host.home import Home, ensure_keys
from shared.host.ports import free_port, is_free
from shared.host.stack import GATEWAY, WANTED_PORTS, Stack, plan, platform_functions
from shared.settings import Settings
from tests.fixtures.ports import free_ports
from tests.fixtures.servers import running, scratch_directory


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return prepared(tmp_path)


def prepared(folder: Path) -> Home:
    home = Home(folder)
    home.prepare()
    ensure_keys(home)
    return home


def names(stack: Stack) -> set[str]:
    return {server.name for server in stack.servers}


def test_a_taken_port_is_replaced_by_the_next_free_one() -> None:
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        taken = occupied.getsockname()[1]
        assert not is_free(taken)
        assert free_port(taken) != taken


def test_a_port_promised_to_another_server_is_not_given_twice() -> None:
    first = free_port()
    assert free_port(first, taken=[first]) != first


def test_a_taken_platform_port_is_told(home: Home) -> None:
    with socket.socket() as occupied:
        occupied.bind(("127.0.0.1", 0))
        occupied.listen()
        taken = occupied.getsockname()[1]
        stack = plan(home, {"DCODER_PLATFORM_PORT": str(taken)})
        assert stack.moved["platform"] == (taken, stack.ports["platform"])


@pytest.mark.parametrize("name", ["objects_grpc", "objects_filer_grpc", "objects_volume_grpc", "objects_master_grpc"])
def test_a_port_that_names_a_socket_is_this_stacks_alone_at_every_address(home: Home, name: str) -> None:
    with socket.socket() as another:
        another.bind(("127.0.0.2", 0))
        another.listen()
        taken = another.getsockname()[1]
        assert is_free(taken)
        assert plan(home, {f"DCODER_{name.upper()}_PORT": str(taken)}).ports[name] != taken


def test_a_port_is_judged_at_the_address_where_the_server_would_listen(home: Home) -> None:
    stack = plan(home, {"DCODER_LISTEN": "127.0.0.2"})
    assert stack.taken_ports() == []
    with socket.socket() as another:
        another.bind(("127.0.0.2", stack.ports["postgres"]))
        another.listen()
        assert stack.taken_ports() == [stack.ports["postgres"]]


def test_two_stores_with_the_same_ports_at_two_addresses_keep_apart() -> None:
    names = [name for name in WANTED_PORTS if name.startswith("objects")]
    wanted = {f"DCODER_{name.upper()}_PORT": str(port) for name, port in zip(names, free_ports(8), strict=True)}
    with scratch_directory() as folder, ExitStack() as both:
        stores = []
        for address in ("127.0.0.1", "127.0.0.2"):
            home = prepared(Path(folder, address))
            stack = plan(home, {**wanted, "DCODER_LISTEN": address})
            (server,) = (one for one in stack.servers if one.name == "objects")
            both.enter_context(running(server, home.path))
            stores.append(s3_client(stack))

        for name, store in zip(("first", "second"), stores, strict=True):
            store.create_bucket(Bucket=name)
            store.put_object(Bucket=name, Key="a", Body=name.encode())

        for name, store in zip(("first", "second"), stores, strict=True):
            assert [one["Name"] for one in store.list_buckets()["Buckets"]] == [name]
            assert store.get_object(Bucket=name, Key="a")["Body"].read() == name.encode()


def s3_client(stack: Stack) -> Any:  # Any: boto3 has no types
    told = stack.environment
    return boto3.client(
        "s3",
        endpoint_url=told["DCODER_OBJECTS_URL"],
        aws_access_key_id=told["DCODER_OBJECTS_ACCESS_KEY"],
        aws_secret_access_key=told["DCODER_OBJECTS_SECRET_KEY"],
        region_name="us-east-1",
    )


def test_all_ports_of_a_stack_differ(home: Home) -> None:
    ports = plan(home, {}).ports
    assert len(set(ports.values())) == len(ports)


def test_a_server_with_a_url_is_not_embedded(home: Home) -> None:
    outside = {"DCODER_NATS_URL": "nats://token@nats.example:4222", "DCODER_REDIS_URL": "redis://redis.example:6379/0"}
    stack = plan(home, outside)
    assert names(stack) == {"postgres", "objects"}
    assert stack.environment["DCODER_NATS_URL"] == outside["DCODER_NATS_URL"]


def test_a_replaced_postgres_has_no_administrator(home: Home) -> None:
    stack = plan(home, {"DCODER_POSTGRES_URL": "postgresql://dcoder:x@db.example/dcoder"})
    assert stack.admin_postgres_url == ""
    assert "postgres" not in names(stack)


def test_a_replaced_object_store_needs_its_keys(home: Home) -> None:
    with pytest.raises(Invalid, match="DCODER_OBJECTS_ACCESS_KEY"):
        plan(home, {"DCODER_OBJECTS_URL": "https://s3.example"})


def test_the_functions_can_read_their_settings_from_what_they_are_told(home: Home) -> None:
    stack = plan(home, {})
    for child in stack.functions({"platform": 3, "gateway": 4}):
        settings = Settings.from_environment(child.environment)
        assert settings.secrets_dir == home.secrets
        assert settings.functions


def test_the_gateway_is_served_by_its_own_process_only() -> None:
    assert GATEWAY not in platform_functions()
    assert "governance-tenants" in platform_functions()


def test_no_secret_shows_in_a_stacks_text(home: Home) -> None:
    stack = plan(home, {})
    for secret in ("DCODER_POSTGRES_URL", "DCODER_REDIS_URL", "DCODER_OBJECTS_SECRET_KEY"):
        assert stack.environment[secret] not in repr(stack)
