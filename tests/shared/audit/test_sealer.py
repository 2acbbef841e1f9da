"""Sealing on a real PostgreSQL."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import UUID

import asyncpg
import pytest

from shared.audit.sealer import BATCH_MAX, LOCK_SPACE, seal
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase, Databases, TenantDatabase
from tests.shared.audit.logs import record_of
from tests.shared.audit.stores import ACME, Anchored, Stores, stores

WRITERS, CHANGES = 8, 25


@pytest.fixture
async def there(postgres_admin_url: str, tmp_path: Path) -> AsyncIterator[Stores]:
    async with stores(postgres_admin_url, tmp_path) as made:
        yield made


async def put(database: TenantDatabase | ControlDatabase, record_id: UUID, record: bytes) -> None:
    await database.execute("INSERT INTO audit_outbox (id, tenant, record) VALUES ($1, $2, $3)", record_id, ACME, record)


async def test_records_of_both_databases_end_in_one_log_that_verifies(there: Stores) -> None:
    await there.write(3)
    await there.write(2, at=there.control)
    before = await there.waiting()
    assert (await there.seal()).records == 5
    assert sorted(await there.sealed()) == sorted(before)
    assert await there.waiting() == []
    verdict = await there.verdict()
    assert (verdict.ok, verdict.records, verdict.checkpoints) == (True, 5, 1)


async def test_each_batch_has_one_checkpoint_and_it_is_written_outside(there: Stores) -> None:
    for count in (1, 4, 2):
        await there.write(count)
        await there.seal()
    rows = await there.own.fetch("SELECT size, note FROM audit_checkpoints ORDER BY size")
    assert [row["size"] for row in rows] == [1, 5, 7]
    assert there.anchored.notes == [row["note"] for row in rows]


async def test_nothing_to_seal_leaves_no_checkpoint(there: Stores) -> None:
    assert (await there.seal()).records == 0
    assert there.anchored.notes == []
    assert (await there.verdict()).ok


async def test_the_platforms_own_log_is_in_the_control_database(there: Stores) -> None:
    async with there.control.transaction() as transaction:
        await transaction.audit("tenancy.create", "tenant/acme", actor="key:operator")
    await there.write(1, at=there.control)
    batch = await seal(PLATFORM, there.control, there.control, signer=there.signer, anchor=there.anchored)
    assert batch.records == 1
    [row] = await there.control.fetch("SELECT record FROM audit_log")
    assert json.loads(bytes(row["record"]))["tenant"] == PLATFORM
    assert len(await there.waiting()) == 1, "the tenant's record waits for the tenant's sealer"


async def test_another_tenants_records_are_left_alone(there: Stores) -> None:
    async with there.control.transaction() as transaction:
        await transaction.audit("keys.create", "key/1", actor="key:operator", tenant=TenantId("other"))
    assert (await there.seal()).records == 0
    assert await there.control.fetchval("SELECT count(*) FROM audit_outbox") == 1


async def test_a_record_of_a_change_that_was_rolled_back_does_not_exist(there: Stores) -> None:
    async def change() -> None:
        async with there.own.transaction() as transaction:
            await transaction.audit("documents.upload", "document/1", actor="key:one")
            raise RuntimeError("the change failed")

    with pytest.raises(RuntimeError):
        await change()
    assert await there.waiting() == []


async def test_a_record_that_commits_late_is_not_missed(there: Stores) -> None:
    async with there.own.transaction() as late:
        await late.audit("documents.upload", "document/late", actor="key:one")
        await there.write(2)
        assert (await there.seal()).records == 2
    assert (await there.seal()).records == 1
    assert (await there.verdict()).ok


async def test_while_one_seals_another_is_told_so(there: Stores) -> None:
    await there.write(1)
    async with there.own.transaction() as other:
        key = f"audit:{ACME}"
        await other.execute("SELECT pg_advisory_xact_lock(hashtextextended($1, $2))", key, LOCK_SPACE)
        assert (await there.seal()).busy
    assert (await there.seal()).records == 1


async def test_a_batch_is_bounded(there: Stores) -> None:
    numbers = range(BATCH_MAX + 10)
    async with there.own.transaction() as transaction:
        rows = [(UUID(int=number), ACME, record_of(number)) for number in numbers]
        await transaction.copy_records("audit_outbox", ("id", "tenant", "record"), rows)
    assert [(await there.seal()).records for _ in range(3)] == [BATCH_MAX, 10, 0]
    assert (await there.verdict()).records == len(numbers)


async def test_a_batch_is_bounded_in_bytes_and_always_has_one_record(
    there: Stores, monkeypatch: pytest.MonkeyPatch
) -> None:
    from shared.audit import sealer

    size = len(record_of(0))
    monkeypatch.setattr(sealer, "OUTBOX", sealer.OUTBOX.replace(str(sealer.BATCH_BYTES_MAX), str(size + 1)))
    for number in range(3):
        await put(there.own, UUID(int=number), record_of(number))
    assert [(await there.seal()).records for _ in range(3)] == [2, 1, 0]


async def test_a_record_found_in_both_outboxes_is_sealed_once(there: Stores) -> None:
    await put(there.own, UUID(int=1), record_of(1))
    await put(there.control, UUID(int=1), record_of(1))
    assert (await there.seal()).records == 1
    assert await there.waiting() == []


async def test_a_record_that_was_sealed_and_not_removed_is_only_removed(there: Stores) -> None:
    await put(there.control, UUID(int=1), record_of(1))
    await there.seal()
    await put(there.control, UUID(int=1), record_of(1))
    assert (await there.seal()).records == 0
    assert await there.waiting() == []
    assert (await there.verdict()).records == 1


async def test_a_checkpoint_that_could_not_be_written_outside_is_written_by_the_next_run(there: Stores) -> None:
    async def full(tenant: TenantId, size: int, note: str) -> None:
        raise OSError(28, "No space left on device")

    await there.write(2)
    await there.write(1, at=there.control)
    with pytest.raises(OSError, match="No space"):
        await seal(ACME, there.own, there.control, signer=there.signer, anchor=full)
    assert await there.waiting() == [], "what is sealed is not held up"
    assert (await there.seal()).records == 0
    assert len(there.anchored.notes) == 1
    assert (await there.verdict()).ok
    await there.seal()
    assert len(there.anchored.notes) == 1, "a checkpoint that is outside is not written again"


async def test_sealers_with_one_connection_each_do_not_wait_for_each_other(there: Stores) -> None:
    databases = Databases(connections_max=1, wait_s_max=1.0)
    try:
        own = TenantDatabase(ACME, there.own_dsn, databases)
        control = ControlDatabase(there.control.dsn, databases)
        await there.write(2)
        await there.write(2, at=there.control)
        assert (await seal(ACME, own, control, signer=there.signer, anchor=there.anchored)).records == 4
    finally:
        await databases.close()


async def test_writers_and_two_sealers_at_once_never_raise_a_false_alarm(there: Stores) -> None:
    done = asyncio.Event()

    async def sealer(anchored: Anchored) -> None:
        databases = Databases(connections_max=2)
        own, control = TenantDatabase(ACME, there.own_dsn, databases), ControlDatabase(there.control.dsn, databases)
        while not done.is_set() or await there.waiting():
            await seal(ACME, own, control, signer=there.signer, anchor=anchored)
            await asyncio.sleep(0)
        await databases.close()

    async def onlooker() -> list[str]:
        """Exports and verifies all the while."""
        alarms = []
        while not done.is_set():
            kept = [*first.notes, *second.notes]
            verdict = await there.verdict(trusted=kept)
            alarms += [] if verdict.ok else [verdict.message]
        return alarms

    first, second = Anchored(), Anchored()
    sealing = [asyncio.create_task(sealer(one)) for one in (first, second)]
    watching = asyncio.create_task(onlooker())
    places = [there.own if number % 2 else there.control for number in range(WRITERS)]
    await asyncio.gather(*(there.write(CHANGES, at=place) for place in places))
    done.set()
    await asyncio.gather(*sealing)
    assert await watching == []
    verdict = await there.verdict(trusted=[*first.notes, *second.notes])
    assert verdict.ok, verdict.message
    assert verdict.records == WRITERS * CHANGES
    assert verdict.checkpoints > 1


@pytest.mark.parametrize("table", ["audit_log", "audit_checkpoints"])
@pytest.mark.parametrize("statement", ["UPDATE {} SET {}", "DELETE FROM {}", "TRUNCATE {}"])
async def test_the_log_is_append_only(table: str, statement: str, there: Stores) -> None:
    await there.write(1)
    await there.seal()
    assignment = "leaf = leaf" if table == "audit_log" else "note = note"
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await there.own.execute(statement.format(table, assignment))


@pytest.mark.parametrize(
    "values",
    ["0, gen_random_uuid(), '\\x01'", "1, (SELECT id FROM audit_log), '\\x01'", "1, gen_random_uuid(), previous"],
)
async def test_a_fork_cannot_be_stored(values: str, there: Stores) -> None:
    await there.write(1)
    await there.seal()
    with pytest.raises(asyncpg.UniqueViolationError):
        await there.own.execute(
            f"INSERT INTO audit_log (seq, id, previous, record, leaf) SELECT {values}, '', '' FROM audit_log"
        )
