"""Tenants on several PostgreSQL servers: created there, kept apart there, migrated and swept there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import asyncpg
import pytest

from shared.errors import Conflict, Fault, Invalid, Unavailable
from shared.function.process import Process
from shared.function.resources import OPENERS
from shared.ids import TenantId
from shared.postgres import ControlDatabase, address, open_connection
from shared.settings import Settings, named_servers
from shared.tenancy import Servers, TenantRegistry, build_templates, saga
from shared.tenancy.migrations import Migration, available, newest
from shared.tenancy.saga import CREATION, database_name
from shared.tenancy.waves import migrate_tenants
from tests.fixtures.platform import environment_of
from tests.fixtures.ports import free_port
from tests.shared.tenancy.moved import port, port_of, traces_on
from tests.shared.tenancy.test_registry import until_step


@pytest.fixture
async def registry(spread: Process) -> TenantRegistry:
    return await spread.get(TenantRegistry)


@pytest.fixture
async def there(registry: TenantRegistry) -> AsyncIterator[TenantId]:
    """A tenant on the second server."""
    tenant = (await registry.create("over-there", "second")).id
    yield tenant
    await registry.delete(tenant)


@pytest.fixture
async def blind(spread: Process) -> AsyncIterator[TenantRegistry]:
    """The registry of a process that cannot reach the second server."""
    away = f"postgresql://dcoder:x@127.0.0.1:{free_port()}/dcoder"
    process = Process(replace(spread.settings, postgres_servers={"second": away}), OPENERS)
    yield await process.get(TenantRegistry)
    await process.close()


@pytest.mark.parametrize(
    "text",
    [
        "{", "[]", '"x"', '{"a": 1}', '{"a": "mysql://u:hidden@h/d"}', '{"a": "postgresql://h/d"}',
        '{"a": "postgresql://u:hidden@h"}', '{"a": "postgresql://u:hidden@h:99999999/d"}', '{"": "postgresql://u@h/d"}',
        '{"A b": "postgresql://u:hidden@h/d"}', '{"default": "postgresql://u:hidden@h/d"}',
        '{"a": "postgresql://u:hidden@h/d", "a": "postgresql://u:hidden@g/d"}', '{"a": "postgresql://[u:hidden@h/d"}',
    ],
)  # fmt: skip
def test_servers_that_cannot_be_are_refused_without_showing_an_address(text: str) -> None:
    with pytest.raises(Fault, match="DCODER_POSTGRES_SERVERS") as refused:
        named_servers(text)
    assert "hidden" not in str(refused.value)
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


@pytest.mark.parametrize(
    "url", ["hidden", "mysql://u:hidden@h/d", "postgresql://u:hidden@h", "postgresql://u:hidden@h:x/d"]
)
def test_a_control_database_that_cannot_be_is_refused_without_showing_its_address(settings: Settings, url: str) -> None:
    with pytest.raises(Fault, match="DCODER_POSTGRES_URL") as refused:
        Settings.from_environment({**environment_of(settings), "DCODER_POSTGRES_URL": url})
    assert "hidden" not in str(refused.value)


def test_servers_are_read_from_the_environment_and_not_shown(settings: Settings) -> None:
    spread = replace(settings, postgres_servers={"b": "postgresql://u:hidden@h/d"})
    read = Settings.from_environment(environment_of(spread))
    assert read.postgres_servers == spread.postgres_servers
    assert "hidden" not in repr(read) + repr(Servers(read.postgres_url, read.postgres_servers))


async def test_a_tenant_lives_on_the_server_that_it_was_created_on(registry: TenantRegistry, there: TenantId) -> None:
    assert (await registry.get(there)).server == "second"
    assert await port_of(await registry.database(there)) == port(registry.ground.servers, "second")
    assert sorted(await traces_on(registry.ground.servers, "second", there)) == ["database", "role"]
    assert await traces_on(registry.ground.servers, "default", there) == []


async def test_a_tenant_without_a_server_is_on_the_control_databases(registry: TenantRegistry) -> None:
    tenant = (await registry.create("over-here")).id
    assert await port_of(await registry.database(tenant)) == port(registry.ground.servers, "default")
    with pytest.raises(Conflict, match="tenant move over-here --server second"):
        await registry.create("over-here", "second")
    await registry.delete(tenant)


async def test_a_tenant_on_an_unknown_server_is_refused_with_the_names_that_are_known(registry: TenantRegistry) -> None:
    with pytest.raises(Invalid, match="default, second"):
        await registry.create("nowhere", "third")


async def test_a_tenant_is_not_begun_on_a_server_that_is_away(blind: TenantRegistry) -> None:
    with pytest.raises(Unavailable):
        await blind.create("not-begun", "second")
    assert TenantId("not-begun") not in [one.id for one in await blind.page(after="not-begum")]


async def test_a_tenant_whose_server_is_not_listed_is_unavailable(there: TenantId, settings: Settings) -> None:
    process = Process(settings, OPENERS)
    with pytest.raises(Unavailable, match="DCODER_POSTGRES_SERVERS"):
        await (await process.get(TenantRegistry)).database(there)
    await process.close()


async def test_a_tenants_role_reaches_no_other_database_of_its_server(
    registry: TenantRegistry, there: TenantId
) -> None:
    neighbour = (await registry.create("neighbour", "second")).id
    password, role = await saga.role_password(registry.ground, there), database_name(there)
    second = registry.ground.servers.address("second")
    for database in (database_name(neighbour), "dcoder", "postgres"):
        with pytest.raises(asyncpg.InsufficientPrivilegeError):
            await asyncpg.connect(address(second, database=database, user=role, password=password))
    await registry.delete(neighbour)


async def test_a_creation_on_the_second_server_that_stopped_goes_on_there(registry: TenantRegistry) -> None:
    tenant = TenantId("stopped-there")
    await saga.insert_row(registry.ground, tenant, "second")
    await saga.run(registry.ground, tenant, until_step(CREATION, "database"))
    created = await registry.create(tenant)
    assert (created.state, created.server) == ("ready", "second")
    await registry.delete(tenant)
    assert await traces_on(registry.ground.servers, "second", tenant) == []


async def test_a_wave_reaches_every_server_and_one_that_is_away_holds_up_no_other(
    registry: TenantRegistry, blind: TenantRegistry, control: ControlDatabase, there: TenantId,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    here = (await registry.create("aaa-here")).id
    number = newest("tenant") + 5
    more = (*available("tenant"), Migration(number, "one_more", "CREATE TABLE of_the_spread_wave ()"))
    monkeypatch.setattr("shared.tenancy.waves.available", lambda kind: more)
    monkeypatch.setattr("shared.tenancy.waves.newest", lambda kind: number)
    outcome = await migrate_tenants(control, blind.ground.servers)
    assert here in outcome.migrated
    assert "not reachable" in outcome.failed[there]
    outcome = await migrate_tenants(control, registry.ground.servers)
    assert (outcome.migrated, outcome.failed) == ([there], {})
    for tenant in (here, there):
        assert await (await registry.database(tenant)).fetchval("SELECT count(*) FROM of_the_spread_wave") == 0
    await registry.delete(here)
    monkeypatch.undo()
    await control.execute("UPDATE tenants SET version = least(version, $1)", newest("tenant"))


async def test_a_role_of_nobody_goes_from_the_second_server_and_its_keys_when_all_were_looked_at(
    registry: TenantRegistry, blind: TenantRegistry, control: ControlDatabase
) -> None:
    tenant = TenantId("nobody-there")
    await saga.insert_row(registry.ground, tenant, "second")
    await saga.run(registry.ground, tenant, until_step(CREATION, "role"))
    await control.execute("DELETE FROM tenants WHERE id = $1", tenant)
    found = await blind.sweep_orphans()
    assert (list(found.failed), tenant in found.removed) == (["second"], False)
    assert await control.fetchval("SELECT true FROM role_passwords WHERE tenant = $1", tenant)
    assert tenant in (await registry.sweep_orphans()).removed
    assert await traces_on(registry.ground.servers, "second", tenant) == []
    assert not await control.fetchval("SELECT true FROM role_passwords WHERE tenant = $1", tenant)


async def test_templates_are_built_where_they_can_be(registry: TenantRegistry, blind: TenantRegistry) -> None:
    assert await build_templates(registry.ground.servers) == {}
    assert list(await build_templates(blind.ground.servers)) == ["second"]


async def test_a_server_without_pgvector_is_refused_with_the_command_that_adds_it(
    registry: TenantRegistry, second_admin_url: str
) -> None:
    assert await build_templates(registry.ground.servers) == {}
    async with open_connection(address(second_admin_url, database="template1")) as template:
        await template.execute("DROP EXTENSION vector")
    async with registry.ground.on("second") as server:
        former = await registry.ground.control.fetchval(
            "DELETE FROM templates WHERE server = 'second' RETURNING database"
        )
        await server.execute(f'ALTER DATABASE "{former}" IS_TEMPLATE false')
    failed = await build_templates(registry.ground.servers)
    assert "CREATE EXTENSION vector" in failed["second"]
    async with open_connection(address(second_admin_url, database="template1")) as template:
        await template.execute("CREATE EXTENSION vector")
    assert await build_templates(registry.ground.servers) == {}
