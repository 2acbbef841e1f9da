"""A tenant's creation or deletion, killed at any step, ends whole when it is run again."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from shared.errors import NotFound
from shared.events import CloudEvent, Events
from shared.events.stream import STREAM, connect
from shared.function.process import Process
from shared.ids import PLATFORM, TenantId
from shared.objects import ObjectStore, client_of
from shared.postgres import ControlDatabase, Databases, address
from shared.redis import CacheServer
from shared.settings import Settings
from shared.tenancy import TenantRegistry, saga
from shared.tenancy.saga import CREATION, DELETION, database_name
from tests.fixtures.platform import environment_of
from tests.shared.tenancy.test_object_keys import platform_key

SCRIPT = Path(__file__).resolve().parents[1] / "shared" / "tenancy" / "killed_saga.py"
ROOT = Path(__file__).resolve().parents[2]
POINTS = ("before", "after")


async def killed(settings: Settings, what: str, step: str, when: str, tenant: TenantId) -> None:
    """Run the saga in a process that kills itself at that point."""
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), what, step, when, tenant,
        cwd=ROOT, env={**os.environ, **environment_of(settings), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert await process.wait() == -signal.SIGKILL
    await lock_released(settings, tenant)


async def lock_released(settings: Settings, tenant: TenantId) -> None:
    """The server notices a killed client within moments; until then the tenant counts as being worked on."""
    databases = Databases(1)
    control = ControlDatabase(settings.postgres_url, databases)
    sql = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 5))"
    for _ in range(200):
        if await control.fetchval(sql, f"tenant:{tenant}"):
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the killed process still holds its lock after 10 s")
    await databases.close()


async def undelivered(nats_url: str, tenant: TenantId) -> int:
    """How many events the stream holds of the tenant."""
    connection = await connect(nats_url)
    try:
        info = await connection.jetstream().stream_info(STREAM, subjects_filter=f"events.{tenant}.>")
        return sum((info.state.subjects or {}).values())
    finally:
        await connection.close()


async def leave_traces(process: Process, tenant: TenantId) -> None:
    """What a tenant at work leaves outside of its database and bucket."""
    await (await process.get(CacheServer)).tenant(tenant).set("kept", b"value", 600)
    event = CloudEvent(f"of-{tenant}", "/test", "dcoder.test", "thing", tenant, datetime.now(UTC), {})
    await (await process.get(Events)).publish(event)
    assert await undelivered(process.settings.nats_url, tenant)
    control, registry = await process.get(ControlDatabase), await process.get(TenantRegistry)
    async with control.transaction() as transaction:
        await registry.ensure_object_key(transaction, tenant)


async def traces(process: Process, control: ControlDatabase, tenant: TenantId) -> list[str]:
    """What is left of a tenant, anywhere."""
    name = database_name(tenant)
    found = [
        table
        for table in ("data_keys", "role_passwords", "virtual_keys", "object_keys")
        if await control.fetchval(f"SELECT true FROM {table} WHERE tenant = $1 LIMIT 1", tenant)
    ]
    if await control.fetchval("SELECT true FROM tenants WHERE id = $1", tenant):
        found.append("row")
    if await control.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
        found.append("database")
    if await control.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name):
        found.append("role")
    if await (await process.get(CacheServer)).tenant(tenant).get("kept") is not None:
        found.append("cache")
    if await undelivered(process.settings.nats_url, tenant):
        found.append("events")
    iam = client_of(process.settings.objects_keys, platform_key(process.settings), service="iam")
    if f"dcoder-{tenant}" in [one["UserName"] for one in iam.list_users()["Users"]]:
        found.append("key of the object store")
    store = await process.get(ObjectStore)
    buckets = await store.call(lambda client: [one["Name"] for one in client.list_buckets()["Buckets"]])
    return [*found, *(bucket for bucket in buckets if bucket == f"dcoder-{tenant}")]


@pytest.mark.parametrize("when", POINTS)
@pytest.mark.parametrize("step", [name for name, _ in CREATION.steps])
async def test_a_creation_killed_anywhere_ends_whole(
    step: str, when: str, settings: Settings, registry: TenantRegistry, control: ControlDatabase
) -> None:
    tenant = TenantId(f"killed-{step}-{when}".replace("data-key", "datakey"))
    await killed(settings, "create", step, when, tenant)
    created = await registry.create(tenant)
    assert created.state == "ready"
    database = await registry.database(tenant)
    assert await database.fetchval("SELECT current_user") == database_name(tenant)
    geneses = await database.fetchval("SELECT count(*) FROM processed_events WHERE consumer = 'tenancy.genesis'")
    assert geneses == 1
    assert await database.fetchval("SELECT (SELECT count(*) FROM audit_outbox) + (SELECT count(*) FROM audit_log)") == 1
    sealing = await registry.secrets(tenant)
    assert await sealing.open("p", await sealing.seal("p", b"secret")) == b"secret"
    await registry.delete(tenant)


@pytest.mark.parametrize("when", POINTS)
@pytest.mark.parametrize("step", [name for name, _ in DELETION.steps])
async def test_a_deletion_killed_anywhere_leaves_nothing_but_a_tombstone(
    step: str, when: str, settings: Settings, registry: TenantRegistry, control: ControlDatabase, process: Process
) -> None:
    tenant = TenantId(f"gone-{step.removesuffix('-gone')}-{when}")
    await registry.create(tenant)
    await leave_traces(process, tenant)
    await killed(settings, "delete", step, when, tenant)
    if await control.fetchval("SELECT true FROM tenants WHERE id = $1", tenant):
        await registry.delete(tenant)
    assert await traces(process, control, tenant) == []
    rows = await control.fetch("SELECT record FROM audit_outbox WHERE tenant = $1", PLATFORM)
    assert sum(f"tenant/{tenant}".encode() in bytes(row["record"]) for row in rows) == 1


async def test_what_a_killed_process_left_is_completed_by_the_sweep(
    settings: Settings, registry: TenantRegistry, control: ControlDatabase
) -> None:
    tenant = TenantId("swept")
    await killed(settings, "create", "grants", "before", tenant)
    await control.execute("UPDATE tenants SET changed_at = now() - interval '5 minutes' WHERE id = $1", tenant)
    assert await registry.resume_stuck() == [tenant]
    assert (await registry.get(tenant)).state == "ready"
    await registry.delete(tenant)


async def test_an_unfinished_tenant_is_unknown(
    settings: Settings, registry: TenantRegistry, control: ControlDatabase
) -> None:
    tenant = TenantId("unfinished")
    await killed(settings, "create", "grants", "before", tenant)
    with pytest.raises(NotFound):
        await registry.database(tenant)
    await registry.delete(tenant)


async def test_one_tenants_role_cannot_connect_to_anothers_database(
    registry: TenantRegistry, tenant: TenantId, other_tenant: TenantId
) -> None:
    password = await saga.role_password(registry.ground, tenant)
    name = database_name(tenant)
    foreign = address(
        registry.ground.servers.control, database=database_name(other_tenant), user=name, password=password
    )
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(foreign)
    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await asyncpg.connect(address(registry.ground.servers.control, database="dcoder", user=name, password=password))
