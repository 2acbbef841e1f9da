"""A tenant that is moved to another PostgreSQL server loses nothing, whatever dies, and ends on one server whole."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import asyncpg
import pytest

from shared.audit.checkpoint import AuditSigner
from shared.audit.sealer import seal
from shared.errors import Conflict, Unavailable
from shared.events import CloudEvent, Relay
from shared.function.process import Process
from shared.function.resources import OPENERS
from shared.ids import TenantId
from shared.postgres import address
from shared.tenancy import TenantRegistry, moving
from shared.tenancy.saga import database_name
from tests.faults.test_tenant_saga import lock_released
from tests.fixtures.platform import environment_of
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import until
from tests.shared.tenancy.moved import ask, call_off, move, port, port_of, traces_on, write_document

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "tests" / "shared" / "tenancy" / "killed_move.py"
KILL_POINTS = [name for name, _ in (*moving.STEPS, *moving.LEFTOVER)]
Kill = Callable[[TenantId, str], Awaitable[None]]


@pytest.fixture(scope="module")
async def registry(spread: Process) -> TenantRegistry:
    return await spread.get(TenantRegistry)


@pytest.fixture(scope="module")
async def kill(spread: Process) -> AsyncIterator[Kill]:
    """Moves a tenant in a process that kills itself after that step."""
    killer = await asyncio.create_subprocess_exec(
        sys.executable, str(SCRIPT), cwd=ROOT, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment_of(spread.settings), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    assert killer.stdin is not None
    assert killer.stdout is not None
    commands, answers = killer.stdin, killer.stdout

    async def kill(tenant: TenantId, step: str) -> None:
        commands.write(f"{tenant} {step}\n".encode())
        assert int(await answers.readline()) == -signal.SIGKILL
        await lock_released(spread.settings, tenant)

    yield kill
    commands.close()
    await killer.wait()


@pytest.fixture(scope="module")
async def tenant(registry: TenantRegistry) -> AsyncIterator[TenantId]:
    """A tenant with something to move. Each test leaves it ready, wherever."""
    tenant = (await registry.create("mover")).id
    await write_document(await registry.database(tenant), "first")
    yield tenant
    await registry.delete(tenant)


async def is_whole(registry: TenantRegistry, tenant: TenantId, server: str, documents: list[str]) -> None:
    """The tenant is on that server only, with all it ever had, and can be written."""
    found = await registry.get(tenant)
    assert (found.state, found.server, found.leftover, found.move_failure) == ("ready", server, None, None)
    for name in registry.ground.servers.names:
        traces = await traces_on(registry.ground.servers, name, tenant)
        assert sorted(traces) == (["database", "role"] if name == server else []), name
    await until(lambda: answers_on(registry, tenant, server))  # another process's move is noticed within seconds
    database = await registry.database(tenant)
    assert await names(registry, tenant) == documents
    vectors = "SELECT count(*) FROM chunks JOIN chunk_vectors USING (n) WHERE content_hash = '\\x00ff'"
    assert await database.fetchval(vectors) == len(documents)


async def answers_on(registry: TenantRegistry, tenant: TenantId, server: str) -> bool:
    try:
        return await port_of(await registry.database(tenant)) == port(registry.ground.servers, server)
    except Unavailable:
        return False


async def names(registry: TenantRegistry, tenant: TenantId) -> list[str]:
    rows = await (await registry.database(tenant)).fetch("SELECT name FROM documents ORDER BY created_at")
    return [str(row["name"]) for row in rows]


@pytest.mark.parametrize("step", KILL_POINTS)
async def test_a_move_killed_anywhere_ends_whole(
    step: str, registry: TenantRegistry, kill: Kill, tenant: TenantId
) -> None:
    here = (await registry.get(tenant)).server
    there = "default" if here == "second" else "second"
    await write_document(await registry.database(tenant), f"before-{step}")
    before = await names(registry, tenant)
    await ask(registry, tenant, there)
    await kill(tenant, step)
    await registry.move(tenant)
    await is_whole(registry, tenant, there, before)
    await write_document(await registry.database(tenant), f"after-{step}")
    assert await names(registry, tenant) == [*before, f"after-{step}"]


@pytest.mark.parametrize("step", ["fence", "copy", "doors"])
async def test_a_move_that_was_killed_can_be_called_off(
    step: str, registry: TenantRegistry, kill: Kill, tenant: TenantId
) -> None:
    here = (await registry.get(tenant)).server
    before = await names(registry, tenant)
    await ask(registry, tenant, "default" if here == "second" else "second")
    await kill(tenant, step)
    await call_off(registry, tenant)
    await registry.move(tenant)
    await is_whole(registry, tenant, here, before)
    await write_document(await registry.database(tenant), f"after-no-{step}")


async def test_a_tenant_that_is_copied_is_read_but_not_written(
    registry: TenantRegistry, kill: Kill, tenant: TenantId
) -> None:
    here = (await registry.get(tenant)).server
    before = await names(registry, tenant)
    await ask(registry, tenant, "default" if here == "second" else "second")
    await kill(tenant, "copy")
    assert await names(registry, tenant) == before
    with pytest.raises(Unavailable, match="moved") as refused:
        await write_document(await registry.database(tenant), "refused")
    assert refused.value.retry_after_s
    await registry.resume_stuck()
    assert (await registry.get(tenant)).state == "moving", "a move that began just now is left to who began it"
    await registry.ground.control.execute(
        "UPDATE tenants SET changed_at = now() - interval '5 min' WHERE id = $1", tenant
    )
    assert tenant in await registry.resume_stuck()
    assert (await registry.get(tenant)).state == "ready"


async def test_no_write_that_was_acknowledged_is_lost_while_the_tenant_moves(
    registry: TenantRegistry, spread: Process, tenant: TenantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("shared.tenancy.registry.KNOWN_S", 0.3)
    here = (await registry.get(tenant)).server
    other = Process(spread.settings, OPENERS)
    writer = await other.get(TenantRegistry)
    acknowledged: list[str] = []
    begun = asyncio.Event()
    refused = moved = 0

    async def write() -> None:
        nonlocal refused, moved
        number = 0
        while moved < 20:
            number += 1
            try:
                database = await writer.database(tenant)
                await database.execute("INSERT INTO processed_events VALUES ('moving', $1)", f"{number}")
            except Unavailable:
                refused += 1
                await asyncio.sleep(0.02)
            else:
                acknowledged.append(f"{number}")
                begun.set()
                moved += (await registry.get(tenant)).server != here

    writing = asyncio.create_task(write())
    await asyncio.wait_for(begun.wait(), 20)
    await move(registry, tenant, "default" if here == "second" else "second")
    await asyncio.wait_for(writing, 20)
    await other.close()
    rows = await (await registry.database(tenant)).fetch(
        "SELECT event_id FROM processed_events WHERE consumer = 'moving'"
    )
    assert set(acknowledged) <= {row["event_id"] for row in rows}
    assert refused, "nothing was written while the tenant was copied, so the test has shown nothing"


async def test_what_waits_in_the_outboxes_goes_on_from_the_new_server(
    registry: TenantRegistry, spread: Process
) -> None:
    tenant = (await registry.create("outboxes")).id
    signer, control = AuditSigner(b"s" * 32), registry.ground.control
    anchored: list[int] = []

    async def anchor(of: TenantId, size: int, note: str) -> None:
        anchored.append(size)

    await seal(tenant, await registry.database(tenant), control, signer=signer, anchor=anchor)
    database = await registry.database(tenant)
    event = CloudEvent("waits", "/test", "dcoder.test", "thing", tenant, datetime.now(UTC), {})
    await database.execute("INSERT INTO outbox (event) VALUES ($1)", event.to_json())
    await write_document(database, "audited")
    await move(registry, tenant, "second")
    database = await registry.database(tenant)
    await (await spread.get(Relay)).drain(database)
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0
    await seal(tenant, database, control, signer=signer, anchor=anchor)
    assert await database.fetchval("SELECT array_agg(seq ORDER BY seq) FROM audit_log") == [0, 1]
    assert anchored == [1, 2]
    await registry.delete(tenant)


async def test_a_write_that_is_under_way_is_ended_or_moved(registry: TenantRegistry, tenant: TenantId) -> None:
    here = (await registry.get(tenant)).server
    database = await registry.database(tenant)

    async def slow_write() -> None:
        async with database.transaction() as transaction:
            await transaction.execute("INSERT INTO processed_events VALUES ('under-way', '1')")
            await move(registry, tenant, "default" if here == "second" else "second")
            await transaction.execute("INSERT INTO processed_events VALUES ('under-way', '2')")

    with pytest.raises(Unavailable):
        await slow_write()
    ended = "SELECT count(*) FROM processed_events WHERE consumer = 'under-way'"
    assert await (await registry.database(tenant)).fetchval(ended) == 0


async def test_a_session_that_slipped_through_cannot_write(
    registry: TenantRegistry, kill: Kill, tenant: TenantId
) -> None:
    """The role's setting is a courtesy: without it the right to write is missing still."""
    here = (await registry.get(tenant)).server
    await ask(registry, tenant, "default" if here == "second" else "second")
    await kill(tenant, "fence")
    before = await names(registry, tenant)

    async def write_in_spite() -> None:
        async with (await registry.database(tenant)).transaction() as transaction:
            await transaction.execute("SET TRANSACTION READ WRITE")
            await transaction.execute("DELETE FROM documents")

    with pytest.raises(asyncpg.InsufficientPrivilegeError):
        await write_in_spite()
    await registry.move(tenant)
    assert await names(registry, tenant) == before


async def test_a_target_that_dies_leaves_the_tenant_where_it_is(
    registry: TenantRegistry, spread: Process, tenant: TenantId
) -> None:
    here = (await registry.get(tenant)).server
    if here == "second":
        await move(registry, tenant, "default")
    before = await names(registry, tenant)
    await ask(registry, tenant, "second")
    gone = address(spread.settings.postgres_servers["second"], database="dcoder").rpartition("@")[0]
    dead = {"second": f"{gone}@127.0.0.1:{free_port()}/dcoder"}
    without = Process(replace(spread.settings, postgres_servers=dead), OPENERS)
    blind = await without.get(TenantRegistry)
    with pytest.raises(Unavailable):
        await blind.move(tenant)
    assert "not reachable" in str((await registry.get(tenant)).move_failure)
    await call_off(blind, tenant)
    with pytest.raises(Unavailable):
        await blind.move(tenant)
    left = await registry.get(tenant)
    assert (left.state, left.server, left.leftover) == ("ready", "default", "second")
    await write_document(await blind.database(tenant), "with-a-dead-target")
    with pytest.raises(Unavailable):
        await ask(blind, tenant, "second")
    await without.close()
    await registry.move(tenant)
    await is_whole(registry, tenant, "default", [*before, "with-a-dead-target"])


async def test_a_move_on_the_host_has_no_time_limit_and_leaves_the_same(
    registry: TenantRegistry, spread: Process, tenant: TenantId
) -> None:
    before = await names(registry, tenant)
    there = "default" if (await registry.get(tenant)).server == "second" else "second"
    mover = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "shared.host.moving", tenant, there, cwd=ROOT, stdout=asyncio.subprocess.PIPE,
        env={**os.environ, **environment_of(spread.settings), "PYTHONPATH": str(ROOT)},
    )  # fmt: skip
    said, _ = await mover.communicate()
    assert (mover.returncode, said.decode()) == (0, f"tenant {tenant} is on server {there}\n")
    await is_whole(registry, tenant, there, before)


async def test_one_server_under_two_names_is_refused(registry: TenantRegistry, spread: Process) -> None:
    tenant = (await registry.create("same-server")).id
    twice = Process(replace(spread.settings, postgres_servers={"alias": spread.settings.postgres_url}), OPENERS)
    with pytest.raises(Conflict, match="one and the same"):
        await ask(await twice.get(TenantRegistry), tenant, "alias")
    await registry.ground.control.execute(
        "UPDATE tenants SET state = 'moving', moving_to = 'alias' WHERE id = $1", tenant
    )
    confused = await twice.get(TenantRegistry)
    with pytest.raises(Conflict, match="one and the same"):
        await confused.move(tenant)
    await call_off(confused, tenant)
    with pytest.raises(Conflict, match="one and the same"):
        await confused.move(tenant)
    assert await (await confused.database(tenant)).fetchval("SELECT 1") == 1
    await twice.close()
    await registry.ground.control.execute("UPDATE tenants SET leftover = NULL WHERE id = $1", tenant)
    await registry.delete(tenant)


async def test_a_strangers_database_on_the_target_is_left_alone(registry: TenantRegistry) -> None:
    tenant = (await registry.create("taken-there")).id
    async with registry.ground.on("second") as server:
        await server.execute(f'CREATE DATABASE "{database_name(tenant)}"')
    with pytest.raises(Conflict, match="already"):
        await ask(registry, tenant, "second")
    assert (await registry.get(tenant)).state == "ready"
    async with registry.ground.on("second") as server:
        await server.execute(f'DROP DATABASE "{database_name(tenant)}"')
    await registry.delete(tenant)


async def test_a_tenant_deleted_while_it_moves_leaves_nothing_on_either_server(
    registry: TenantRegistry, kill: Kill
) -> None:
    tenant = (await registry.create("moved-away")).id
    await ask(registry, tenant, "second")
    await kill(tenant, "copy")
    await registry.delete(tenant)
    assert [await traces_on(registry.ground.servers, one, tenant) for one in ("default", "second")] == [[], []]
