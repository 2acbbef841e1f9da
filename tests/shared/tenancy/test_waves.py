"""Migrations: in order, once, in waves, and each tenant's failure its own."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Fault
from shared.host.programs import postgres_binary
from shared.ids import TenantId
from shared.postgres import ControlDatabase, address, open_connection
from shared.tenancy import Servers, TenantRegistry, build_template
from shared.tenancy.migrations import Migration, available, newest, plan
from shared.tenancy.saga import database_name
from shared.tenancy.waves import migrate_tenants, waves


@given(st.lists(st.integers(0, 30), unique=True), st.lists(st.integers(0, 30), unique=True))
def test_a_plan_holds_what_is_missing_in_order(there: list[int], applied: list[int]) -> None:
    migrations_there = [Migration(number, str(number), "") for number in sorted(there)]
    numbers = [one.number for one in plan(applied=applied, migrations=migrations_there)]
    assert numbers == sorted(set(there) - set(applied))


@given(st.integers(0, 300))
def test_waves_are_a_canary_a_tenth_and_the_rest(count: int) -> None:
    tenants = [TenantId(f"t{number}") for number in range(count)]
    found = waves(tenants)
    assert [tenant for wave in found for tenant in wave] == tenants
    if count:
        assert len(found[0]) == 1


def test_two_migrations_with_one_number_are_refused(tmp_path: Path) -> None:
    for folder, name in (("both", "0001_a.sql"), ("tenant", "0001_b.sql")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / name).write_text("SELECT 1")
    with pytest.raises(Fault, match="same number"):
        available("tenant", tmp_path)


TRAP = "DO $$ BEGIN IF to_regclass('canary_trap') IS NOT NULL THEN RAISE 'trapped'; END IF; END $$"
"""A migration that fails where there is a table `canary_trap`."""


def release(monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    """Let there be one migration more."""
    more = (*available("tenant"), Migration(number, "one_more", TRAP))
    monkeypatch.setattr("shared.tenancy.waves.available", lambda kind: more)
    monkeypatch.setattr("shared.tenancy.waves.newest", lambda kind: number)


async def trap(registry: TenantRegistry, name: str) -> None:
    dsn = address(registry.ground.servers.control, database=database_name(TenantId(name)))
    async with open_connection(dsn) as connection:
        await connection.execute("CREATE TABLE canary_trap ()")


async def test_one_tenants_failure_is_its_own(
    registry: TenantRegistry, control: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("wave-a", "wave-b", "wave-c"):
        await registry.create(name)
    await trap(registry, "wave-b")
    release(monkeypatch, newest("tenant") + 1)
    outcome = await migrate_tenants(control, registry.ground.servers)
    assert set(outcome.failed) == {"wave-b"}
    assert {"wave-a", "wave-c"} <= set(outcome.migrated)
    again = await migrate_tenants(control, registry.ground.servers)
    assert (again.migrated, set(again.failed)) == ([], {"wave-b"})
    for name in ("wave-a", "wave-b", "wave-c"):
        await registry.delete(TenantId(name))


async def schema(registry: TenantRegistry, name: str) -> str:
    """What `pg_dump -s` says of a tenant's database, without the lines that differ from run to run."""
    dsn = address(registry.ground.servers.control, database=database_name(TenantId(name)))
    dump = await asyncio.create_subprocess_exec(
        str(postgres_binary("pg_dump")),
        "--schema-only",
        "--no-owner",
        f"--dbname={dsn}",
        stdout=asyncio.subprocess.PIPE,
    )
    text, _ = await dump.communicate()
    assert dump.returncode == 0
    return "\n".join(line for line in text.decode().splitlines() if not line.startswith(("\\restrict", "\\unrestrict")))


async def test_a_migrated_tenant_has_the_schema_of_a_fresh_one(
    registry: TenantRegistry, control: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    more = (*available("tenant"), Migration(newest("tenant") + 1, "one_more", "CREATE TABLE of_the_wave (n int)"))
    await registry.create("before-wave")
    for module in ("waves", "template", "saga"):
        monkeypatch.setattr(f"shared.tenancy.{module}.available", lambda kind: more)
        monkeypatch.setattr(f"shared.tenancy.{module}.newest", lambda kind: more[-1].number)
    assert TenantId("before-wave") in (await migrate_tenants(control, registry.ground.servers)).migrated
    await build_template(registry.ground.servers)
    await registry.create("after-wave")
    migrated, fresh = await schema(registry, "before-wave"), await schema(registry, "after-wave")
    assert "of_the_wave" in fresh
    assert migrated == fresh
    for name in ("before-wave", "after-wave"):
        await registry.delete(TenantId(name))
    monkeypatch.undo()
    await control.execute("UPDATE templates SET version = 0")
    await build_template(registry.ground.servers)


class Counting(ControlDatabase):
    """A control database that counts what it is asked."""

    asked = 0

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:
        self.asked += 1
        return await super().fetch(sql, *arguments)

    async def execute(self, sql: str, *arguments: object) -> str:
        self.asked += 1
        return await super().execute(sql, *arguments)


async def test_nothing_to_migrate_is_one_query(
    control: ControlDatabase, tenant: TenantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    counting = Counting(control.dsn, control.databases)
    monkeypatch.setattr("shared.tenancy.waves.newest", lambda kind: 0)
    outcome = await migrate_tenants(counting, Servers(control.dsn))
    assert (outcome.migrated, outcome.failed, counting.asked) == ([], {}, 1)


async def test_a_failing_canary_stops_the_wave(
    registry: TenantRegistry, control: ControlDatabase, monkeypatch: pytest.MonkeyPatch
) -> None:
    await registry.create("aaa-canary")
    await trap(registry, "aaa-canary")
    number = newest("tenant") + 2
    release(monkeypatch, number)
    with pytest.raises(Fault, match="aaa-canary"):
        await migrate_tenants(control, registry.ground.servers)
    untouched = await control.fetchval("SELECT count(*) FROM tenants WHERE version = $1", number)
    assert untouched == 0
    await registry.delete(TenantId("aaa-canary"))
