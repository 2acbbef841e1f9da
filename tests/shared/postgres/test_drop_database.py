"""Dropping a database that somebody is in, as a role that is no superuser."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from functools import partial

import asyncpg
import pytest

from shared.errors import Unavailable
from shared.host.children import Command
from shared.host.servers import Postgres
from shared.postgres import address, drop_database, open_connection
from tests.fixtures.ports import free_port
from tests.fixtures.servers import running, scratch_directory
from tests.fixtures.waiting import until

SLOW_VACUUM = """
CREATE TABLE worn WITH (autovacuum_vacuum_threshold = 0, autovacuum_vacuum_scale_factor = 0,
                        autovacuum_vacuum_cost_delay = 100, autovacuum_vacuum_cost_limit = 1)
    AS SELECT n, repeat('x', 500) AS filler FROM generate_series(1, 20000) n;
DELETE FROM worn WHERE n % 2 = 0;
"""


@dataclass(frozen=True)
class Place:
    """A server, and a database on it that `owner` may drop."""

    admin_url: str
    owner_url: str
    name: str


class Vacuuming(Postgres):
    """A server whose autovacuum looks every second."""

    def command(self) -> Command:
        command = super().command()
        return replace(command, argv=(*command.argv, "-c", "autovacuum_naptime=1s"))


@pytest.fixture(scope="module")
async def server_url() -> AsyncIterator[str]:
    with scratch_directory() as home:
        server = Vacuuming(home / "postgres", free_port(), secrets.token_hex(8), durable=False)
        with running(server, home):
            async with open_connection(server.url) as admin:
                await admin.execute("CREATE ROLE owner LOGIN CREATEDB PASSWORD 'owner'")
            yield server.url


@pytest.fixture
async def place(server_url: str) -> Place:
    name = f"db_{secrets.token_hex(4)}"
    owner_url = address(server_url, database="postgres", user="owner", password="owner")
    async with open_connection(owner_url) as owner:
        await owner.execute(f'CREATE DATABASE "{name}"')
    return Place(server_url, owner_url, name)


async def exists(place: Place) -> bool:
    async with open_connection(place.admin_url) as admin:
        return bool(await admin.fetchval("SELECT true FROM pg_database WHERE datname = $1", place.name))


async def vacuumed(place: Place) -> bool:
    async with open_connection(place.admin_url) as admin:
        sql = "SELECT true FROM pg_stat_activity WHERE datname = $1 AND backend_type = 'autovacuum worker'"
        return bool(await admin.fetchval(sql, place.name))


async def dropped(place: Place) -> None:
    async with open_connection(place.owner_url) as owner:
        await drop_database(owner, place.name)


async def test_a_database_is_dropped_while_autovacuum_is_in_it(place: Place) -> None:
    async with open_connection(address(place.owner_url, database=place.name)) as inside:
        await inside.execute(SLOW_VACUUM)
    await until(partial(vacuumed, place), timeout_s=20)
    await dropped(place)
    assert not await exists(place)


async def test_sessions_of_ones_own_do_not_keep_a_database(place: Place) -> None:
    inside = await asyncpg.connect(address(place.owner_url, database=place.name))
    await dropped(place)
    assert not await exists(place)
    with pytest.raises((asyncpg.PostgresError, asyncpg.InterfaceError, OSError)):
        await inside.fetchval("SELECT 1")
    inside.terminate()


async def test_an_administrators_session_keeps_a_database_until_it_has_gone(place: Place) -> None:
    async with open_connection(address(place.admin_url, database=place.name)):
        with pytest.raises(Unavailable, match="somebody else is connected"):
            await dropped(place)
    await dropped(place)
    assert not await exists(place)


async def test_what_a_killed_drop_left_is_dropped(place: Place) -> None:
    async with open_connection(place.admin_url) as admin:
        await admin.execute("UPDATE pg_database SET datconnlimit = -2 WHERE datname = $1", place.name)
    await dropped(place)
    assert not await exists(place)


async def test_dropping_what_is_not_there_does_nothing(place: Place) -> None:
    await dropped(place)
    await dropped(place)
    assert not await exists(place)
