"""What a process remembers of a tenant, what an upgrade finds half made, and what belongs to nobody."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from shared.errors import Conflict, Unavailable
from shared.function.process import Process
from shared.function.resources import OPENERS
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry, build_template, saga, template
from shared.tenancy.migrations import Migration, available, newest
from shared.tenancy.saga import CREATION, DELETION, Ground, Saga, database_name


@pytest.fixture
async def elsewhere(settings: Settings) -> AsyncIterator[TenantRegistry]:
    """The registry of another process."""
    process = Process(settings, OPENERS)
    yield await process.get(TenantRegistry)
    await process.close()


def until_step(whole: Saga, name: str) -> Saga:
    """The saga as far as that step, and no further."""
    names = [one for one, _ in whole.steps]
    return replace(whole, steps=whole.steps[: names.index(name) + 1])


async def make_anew(registry: TenantRegistry, tenant: TenantId, elsewhere: TenantRegistry) -> None:
    """The tenant deleted and created again, after the other process has worked with the first one."""
    await registry.create(tenant)
    await (await elsewhere.database(tenant)).execute("SELECT 1")
    await registry.delete(tenant)
    await registry.create(tenant)


async def test_a_tenant_made_anew_is_unavailable_while_another_process_remembers_the_old_one(
    registry: TenantRegistry, elsewhere: TenantRegistry
) -> None:
    tenant = TenantId("remembered")
    await make_anew(registry, tenant, elsewhere)
    with pytest.raises(Unavailable):
        await (await elsewhere.database(tenant)).execute("SELECT 1")
    await registry.delete(tenant)


async def test_a_tenant_made_anew_is_reached_when_what_was_remembered_is_stale(
    registry: TenantRegistry, elsewhere: TenantRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant = TenantId("made-anew")
    monkeypatch.setattr("shared.tenancy.registry.KNOWN_S", 0.0)
    await make_anew(registry, tenant, elsewhere)
    assert await (await elsewhere.database(tenant)).fetchval("SELECT 1") == 1
    await registry.delete(tenant)


async def test_a_creation_that_an_upgrade_overtook_ends_with_the_newest_schema(
    registry: TenantRegistry, monkeypatch: pytest.MonkeyPatch
) -> None:
    tenant, number = TenantId("overtaken"), newest("tenant") + 1
    await saga.run(registry.ground, tenant, until_step(CREATION, "genesis"))
    more = (*available("tenant"), Migration(number, "one_more", "CREATE TABLE made_by_the_upgrade ()"))
    monkeypatch.setattr("shared.tenancy.saga.available", lambda kind: more)
    monkeypatch.setattr("shared.tenancy.saga.newest", lambda kind: number)
    assert (await registry.create(tenant)).version == number
    assert await (await registry.database(tenant)).fetchval("SELECT count(*) FROM made_by_the_upgrade") == 0
    await registry.delete(tenant)


async def test_a_tenant_that_is_being_deleted_is_not_created_at_the_same_time(registry: TenantRegistry) -> None:
    tenant = TenantId("half-gone")
    await registry.create(tenant)
    await saga.run(registry.ground, tenant, until_step(DELETION, "database-gone"))
    with pytest.raises(Conflict, match="half-gone"):
        await registry.create(tenant)
    await registry.delete(tenant)
    assert (await registry.create(tenant)).state == "ready"
    await registry.delete(tenant)


async def test_one_stuck_tenants_failure_keeps_no_other_waiting(
    registry: TenantRegistry, control: ControlDatabase
) -> None:
    broken, sound = TenantId("stuck-broken"), TenantId("stuck-sound")
    for tenant in (broken, sound):
        await saga.run(registry.ground, tenant, until_step(CREATION, "role"))
    await control.execute("UPDATE role_passwords SET sealed = '\\x00' WHERE tenant = $1", broken)
    await control.execute("UPDATE tenants SET changed_at = now() - interval '1 h' WHERE id = $1", broken)
    await control.execute("UPDATE tenants SET changed_at = now() - interval '5 min' WHERE id = $1", sound)
    assert await registry.resume_stuck() == [sound]
    for tenant in (broken, sound):
        await registry.delete(tenant)


async def test_a_role_and_keys_of_nobody_are_removed(registry: TenantRegistry, control: ControlDatabase) -> None:
    tenant = TenantId("of-nobody")
    await saga.run(registry.ground, tenant, until_step(CREATION, "role"))
    await saga.make_data_key(registry.ground, tenant)
    await control.execute("DELETE FROM tenants WHERE id = $1", tenant)
    assert tenant in (await registry.sweep_orphans()).removed
    assert not await control.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", database_name(tenant))
    assert not await control.fetchval("SELECT true FROM data_keys WHERE tenant = $1", tenant)
    assert tenant not in (await registry.sweep_orphans()).removed


async def test_a_database_of_nobody_is_reported_and_kept_with_its_keys(
    registry: TenantRegistry, control: ControlDatabase
) -> None:
    tenant = TenantId("restored-away")
    await registry.create(tenant)
    row = await control.fetchrow("DELETE FROM tenants WHERE id = $1 RETURNING *", tenant)
    assert row is not None
    found = await registry.sweep_orphans()
    assert database_name(tenant) in found.databases
    assert tenant not in found.removed
    await control.execute(
        "INSERT INTO tenants (id, state, database, role, version) VALUES ($1, $2, $3, $4, $5)",
        tenant, row["state"], row["database"], row["role"], row["version"],
    )  # fmt: skip
    assert await (await registry.database(tenant)).fetchval("SELECT 1") == 1
    assert database_name(tenant) not in (await registry.sweep_orphans()).databases
    await registry.delete(tenant)


async def test_a_sweep_leaves_every_tenant_as_it_is(registry: TenantRegistry, tenant: TenantId) -> None:
    found = await registry.sweep_orphans()
    assert tenant not in found.removed
    assert database_name(tenant) not in found.databases
    assert await (await registry.database(tenant)).fetchval("SELECT 1") == 1


async def test_a_new_template_takes_over_and_the_former_goes_with_the_sweep(
    registry: TenantRegistry, control: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    servers, number = registry.ground.servers, newest("tenant") + 1
    before = await build_template(servers)
    with monkeypatch.context() as release:
        more = (*available("tenant"), Migration(number, "one_more", "CREATE TABLE of_the_release ()"))
        release.setattr(template, "available", lambda kind: more)
        release.setattr(template, "newest", lambda kind: number)
        after = await build_template(servers)
    assert after != before
    assert await build_template(servers) == after, "an older release must not take the newer one's template away"
    created = await registry.create("of-the-release")
    assert created.version == number
    assert before in (await registry.sweep_orphans()).templates
    await registry.delete(created.id)
    await control.execute("UPDATE templates SET version = 0")
    assert await build_template(servers) == before


async def test_no_secret_shows_in_what_the_saga_works_on(registry: TenantRegistry) -> None:
    ground = registry.ground
    assert isinstance(ground, Ground)
    assert ground.servers.control not in repr(ground)
    assert repr(ground.root_key) not in repr(ground)
    assert "dcoder-test" not in repr(ground)


@pytest.mark.parametrize(
    ("setting", "value"),
    [("statement_timeout", "1min"), ("idle_in_transaction_session_timeout", "1min"), ("lock_timeout", "20s")],
)
async def test_a_tenants_role_is_limited(registry: TenantRegistry, tenant: TenantId, setting: str, value: str) -> None:
    assert await (await registry.database(tenant)).fetchval("SELECT current_setting($1)", setting) == value
    limit = "SELECT rolconnlimit FROM pg_roles WHERE rolname = current_user"
    assert await (await registry.database(tenant)).fetchval(limit) == saga.ROLE_CONNECTIONS_MAX
