"""`deploy prepare`: a PostgreSQL server of one's own, made ready by its address alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from shared.host.servers import Postgres
from shared.postgres import address, open_connection
from shared.tenancy.migrations import newest
from tests.fixtures.servers import postgres_server, scratch_directory
from tests.fixtures.stack import Cli


@pytest.fixture(scope="module")
def server() -> Iterator[Postgres]:
    with postgres_server() as found:
        yield found


@pytest.fixture
def cli(server: Postgres) -> Iterator[Cli]:
    url = address(server.url, database="dcoder", user="dcoder", password="chosen-by-us")
    with scratch_directory() as folder:
        yield Cli(Path(folder) / "home", {"DCODER_POSTGRES_URL": url})


def with_administrator(cli: Cli, server: Postgres) -> Cli:
    return Cli(cli.path, {**cli.environment, "DCODER_POSTGRES_ADMIN_URL": server.url})


async def test_an_empty_server_is_prepared_once_and_again_without_its_superuser(cli: Cli, server: Postgres) -> None:
    first = with_administrator(cli, server).json("deploy", "prepare")
    made = cli.home.read("secrets/keys.json")["admin_key"]
    again = cli.json("deploy", "prepare")

    assert first == again == {"ok": True, "failed_tenants": [], "failed_servers": {}}
    assert cli.home.read("secrets/keys.json")["admin_key"] == made
    async with open_connection(cli.environment["DCODER_POSTGRES_URL"]) as control:
        assert await control.fetchval("SELECT max(number) FROM schema_migrations") == newest("control")
    without_keys = Cli(cli.path.with_name("elsewhere"), dict(cli.environment)).run("deploy", "prepare")
    assert without_keys.returncode == 3, "a database in use was sealed with keys that must be given"
    assert "was sealed with keys that are elsewhere" in without_keys.stderr
    assert not (cli.path.with_name("elsewhere") / "secrets" / "root.key").exists()


def test_what_is_wrong_with_a_server_is_told_without_a_password(cli: Cli, server: Postgres) -> None:
    wrong = cli.environment["DCODER_POSTGRES_URL"].replace("chosen-by-us", "hunter2")
    refused = Cli(cli.path, {"DCODER_POSTGRES_URL": wrong}).run("deploy", "prepare")
    silent = Cli(cli.path, {"DCODER_POSTGRES_URL": "postgresql://dcoder:hunter2@127.0.0.1:9/dcoder"})
    unset = Cli(cli.path, {}).run("deploy", "prepare")

    for done in (refused, silent.run("deploy", "prepare")):
        assert done.returncode == 1
        assert "database dcoder@127.0.0.1 is not reachable" in done.stderr
        assert "hunter2" not in done.stderr
    assert (unset.returncode, "DCODER_POSTGRES_URL is not set" in unset.stderr) == (3, True)
