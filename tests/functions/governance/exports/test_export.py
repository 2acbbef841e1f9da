"""A tenant's export over HTTP, on the real servers: complete, and of nobody else."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import re
import tracemalloc
from datetime import UTC, datetime
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from shared.audit.checkpoint import AuditSigner
from shared.audit.verify import verify_export
from shared.function.process import Process
from shared.ids import PLATFORM
from shared.objects import ObjectStore
from shared.postgres import ControlDatabase, address, open_connection
from shared.tenancy import TenantRegistry
from shared.tenancy.export import Source, verify_archive, write_export
from shared.tenancy.export import archive as archive_module
from shared.tenancy.export.contents import CONTROL_TABLES, LEFT_OUT_TABLES, SECRET_COLUMNS, tables_of
from tests.fixtures.runtime import Runtime
from tests.functions.governance.exports.filled import HOSTILE, OBJECTS, Filled, contents, emptied, filled, manifest

Entries = dict[str, bytes]
CHUNKS_BIG = 3000
MEMORY_BYTES_MAX = 6 * 1024 * 1024
OF_BUNDLES = {"archive", "statement", "signature"}  # the tenant's own sources, and proof of whose they are
GROWING = "audit_outbox"  # every export adds its own record
DIFFERENCE = """
WITH loaded AS (SELECT {columns} FROM json_populate_recordset(NULL::{table}, $1::text::json)),
     stored AS (SELECT {columns} FROM {table} WHERE {condition})
SELECT (SELECT count(*) FROM (TABLE loaded EXCEPT ALL TABLE stored) a) AS more,
       (SELECT count(*) FROM (TABLE stored EXCEPT ALL TABLE loaded) b) AS less
"""


def source_of(one: Filled, signer: AuditSigner) -> Source:
    return Source(one.tenant, one.database, one.control, one.objects, signer)


async def test_it_verifies_with_the_platforms_key(archive: Path, signer: AuditSigner) -> None:
    verdict = verify_archive(archive, public_key=signer.public_key)
    assert verdict.ok, verdict.message
    assert verdict.counts["objects"] == len(OBJECTS) + len(HOSTILE) + 1


async def test_every_row_can_be_loaded_again_and_equals_the_stored_one(acme: Filled, entries: Entries) -> None:
    compared = set()
    for line in manifest(entries):
        if line["kind"] != "table":
            continue
        own, table = line["database"] == "own", line["table"]
        condition = "true" if own else CONTROL_TABLES[table].replace("$1", f"'{acme.tenant}'")
        columns = ", ".join(f'"{one["name"]}"' for one in line["columns"])
        rows = entries[line["path"]].splitlines()
        loaded = "[" + ",".join(row.decode() for row in rows) + "]"
        query = DIFFERENCE.format(columns=columns, table=table, condition=condition)
        found = await (acme.database if own else acme.control).fetchrow(query, loaded)
        assert found is not None
        assert (found["more"], found["less"] if table != GROWING else 0) == (0, 0), table
        assert len(rows) == line["rows"]
        compared.add((line["database"], table, bool(rows)))
    assert {("own", "chunk_vectors", True), ("own", "document_texts", True)} <= compared
    assert {("control", table, True) for table in CONTROL_TABLES if table != GROWING} <= compared


async def test_every_object_is_in_it_with_key_bytes_and_metadata(acme: Filled, entries: Entries) -> None:
    lines = [line for line in manifest(entries) if line["kind"] == "object"]
    expected = {**OBJECTS, **HOSTILE, f"documents/{acme.mark}": acme.mark.encode()}
    assert {line["key"]: entries[line["path"]] for line in lines} == expected
    for line in lines:
        assert line["sha256"] == hashlib.sha256(expected[line["key"]]).hexdigest()
        assert line["metadata"] == ({} if line["key"] in OBJECTS else {"team": "red"})
        assert line["content_type"].startswith("text/plain")


def test_no_name_in_the_archive_comes_from_a_key(entries: Entries) -> None:
    assert all(re.fullmatch(r"(database/|control/)?[a-z_]+\.(jsonl|json|sig)|objects/\d{9}", name) for name in entries)


def test_nothing_of_another_tenant_is_in_it(archive: Path, acme: Filled, rival: Filled) -> None:
    data = archive.read_bytes()
    assert acme.mark.encode() in data
    assert acme.mark.encode().hex().encode() in data  # audit records are bytea
    for text in (rival.mark, rival.tenant, rival.key):
        assert text.encode() not in data
        assert text.encode().hex().encode() not in data


async def test_no_secret_is_in_it(acme: Filled, entries: Entries) -> None:
    secrets = [b"sealed-credential", b"kept-response", b"cached-answer", acme.key.encode()]
    for query in (
        "SELECT hash FROM virtual_keys WHERE tenant = $1",
        "SELECT wrapped FROM data_keys WHERE tenant = $1",
        "SELECT sealed FROM role_passwords WHERE tenant = $1",
    ):
        secrets.append(bytes(await acme.control.fetchval(query, acme.tenant)))
    for data in entries.values():
        for secret in secrets:
            assert not any(form in data for form in (secret, secret.hex().encode(), base64.b64encode(secret)))


def test_the_manifest_says_what_is_left_out(entries: Entries) -> None:
    head, *lines = manifest(entries)
    stated = {one["what"] for one in head["left_out"]}
    assert {"table data_keys", "table role_passwords", "table idempotency_keys", "columns named hash"} <= stated
    assert all(one["why"] for one in head["left_out"])
    left_out = {line["table"]: set(line["left_out"]) for line in lines if line["kind"] == "table" and line["left_out"]}
    assert left_out == {"virtual_keys": {"hash"}, "provider_credentials": {"sealed"}, "responses": {"sealed"}}


def test_its_audit_log_verifies_by_itself(entries: Entries, signer: AuditSigner, tmp_path: Path) -> None:
    path = tmp_path / "audit.jsonl"
    path.write_bytes(entries["audit.jsonl"])
    verdict = verify_export(path, public_key=signer.public_key)
    assert (verdict.ok, verdict.records) == (True, 2), verdict.message


async def test_every_table_with_a_tenant_is_exported_or_left_out_with_a_reason(control: ControlDatabase) -> None:
    async with control.transaction() as transaction:
        tables = await tables_of(transaction)
    having = {one.name for one in tables if "tenant" in {column.name for column in one.columns}}
    assert len(having) >= 9
    assert having - set(CONTROL_TABLES) - set(LEFT_OUT_TABLES) == set(), "name it in shared/tenancy/export/contents.py"
    assert set(CONTROL_TABLES) <= {one.name for one in tables}


async def test_every_binary_column_that_is_exported_was_looked_at(acme: Filled) -> None:
    """A new one may hold a secret: give it a name of `SECRET_COLUMNS`, or add it here."""
    harmless = {"record", "previous", "leaf", "root", "head", "frontier", "content_hash"} | OF_BUNDLES
    for database in (acme.database, acme.control):
        async with database.transaction() as transaction:
            tables = [one for one in await tables_of(transaction) if one.name not in LEFT_OUT_TABLES]
        binary = {column.name for one in tables for column in one.columns if column.type.startswith("bytea")}
        assert binary <= harmless | set(SECRET_COLUMNS)


async def test_a_table_that_a_migration_adds_is_exported_without_a_word(
    acme: Filled, registry: TenantRegistry, signer: AuditSigner, tmp_path: Path
) -> None:
    owner = address(registry.ground.control.dsn, database=f"t_{acme.tenant}")
    async with open_connection(owner) as platform:
        await platform.execute(
            'CREATE TABLE "../Ünder scóre" (a int, sealed bytea); GRANT ALL ON "../Ünder scóre" TO PUBLIC'
        )
        try:
            await platform.execute("""INSERT INTO "../Ünder scóre" VALUES (7, '\\x01')""")
            path = await exported(acme, signer, tmp_path)
        finally:
            await platform.execute('DROP TABLE "../Ünder scóre"')
    assert verify_archive(path).ok
    assert contents(path)["database/%2E%2E%2F%C3%9Cnder%20sc%C3%B3re.jsonl"] == b'{"a":7}\n'


async def test_a_table_that_cannot_be_read_fails_the_export(
    acme: Filled, registry: TenantRegistry, signer: AuditSigner, tmp_path: Path
) -> None:
    async with open_connection(address(registry.ground.control.dsn, database=f"t_{acme.tenant}")) as platform:
        await platform.execute("CREATE TABLE unreadable (a int)")
        try:
            with pytest.raises(asyncpg.InsufficientPrivilegeError):
                await exported(acme, signer, tmp_path)
        finally:
            await platform.execute("DROP TABLE unreadable")


async def exported(one: Filled, signer: AuditSigner, folder: Path) -> Path:
    path = folder / "own.tar"
    with path.open("wb") as file:

        async def write(data: bytes) -> None:
            file.write(data)

        await write_export(source_of(one, signer), write, export_id=uuid4(), at=datetime.now(UTC))
    return path


@pytest.mark.parametrize("by", ["admin", "operator"])
async def test_an_export_is_audited_in_the_tenants_log_before_it_begins(
    by: str, runtime: Runtime, acme: Filled, tmp_path: Path
) -> None:
    caller = acme.tenant if by == "admin" else PLATFORM
    answer = await runtime.call("GET", f"/v1/exports/{acme.tenant}", tenant=caller, role=by)
    path = tmp_path / "x.tar"
    path.write_bytes(answer.content)
    export_id = manifest(contents(path))[0]["id"]
    waiting = contents(path)["database/audit_outbox.jsonl"].splitlines()
    records = [json.loads(bytes.fromhex(json.loads(row)["record"][2:])) for row in waiting]
    own = [one for one in records if one["action"] == "tenancy.export" and one["details"]["export"] == export_id]
    assert [(one["resource"], one["actor"]) for one in own] == [(f"tenant/{acme.tenant}", "test")]


@pytest.mark.parametrize(
    ("role", "status"), [("member", 403), ("viewer", 403), ("hook", 403), ("admin", 404), ("operator", 404)]
)
async def test_nobody_else_exports_it(role: str, status: int, runtime: Runtime, acme: Filled, rival: Filled) -> None:
    before = await acme.database.fetchval("SELECT count(*) FROM audit_outbox")
    answer = await runtime.call("GET", f"/v1/exports/{acme.tenant}", tenant=rival.tenant, role=role)
    assert answer.status_code == status
    assert await acme.database.fetchval("SELECT count(*) FROM audit_outbox") == before


async def test_an_object_deleted_meanwhile_is_listed_as_gone(
    acme: Filled, process: Process, signer: AuditSigner, tmp_path: Path
) -> None:
    store, path, key = await process.get(ObjectStore), tmp_path / "gone.tar", "documents/zz-last"
    await acme.objects.put(key, b"short-lived", "text/plain")
    with path.open("wb") as file:

        async def write(data: bytes) -> None:
            """The first bytes leave when the megabyte before `key` is read, and so after the keys were listed."""
            file.write(data)
            await store.tenant(acme.tenant).delete(key)

        await write_export(source_of(acme, signer), write, export_id=uuid4(), at=datetime.now(UTC))
    verdict = verify_archive(path)
    assert (verdict.ok, verdict.counts["gone"]) == (True, 1), verdict.message
    gone = [line for line in manifest(contents(path)) if line["kind"] == "gone"]
    assert [(line["key"], line["bytes"]) for line in gone] == [(key, 11)]


async def test_rows_that_come_while_it_is_written_are_in_no_table(
    acme: Filled, signer: AuditSigner, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive_module, "FLUSH_BYTES", 1024)  # so that the first bytes leave before any table is read
    path, name, inserted = tmp_path / "steady.tar", f"late-{uuid4().hex}", False
    with path.open("wb") as file:

        async def write(data: bytes) -> None:
            nonlocal inserted
            file.write(data)
            if not inserted:
                await acme.database.execute("INSERT INTO documents (name, etag, bytes) VALUES ($1, 'e', 1)", name)
            inserted = True

        await write_export(source_of(acme, signer), write, export_id=uuid4(), at=datetime.now(UTC))
    assert await acme.database.fetchval("DELETE FROM documents WHERE name = $1 RETURNING true", name)
    assert verify_archive(path).ok
    assert name.encode() not in contents(path)["database/documents.jsonl"]


async def test_a_client_that_leaves_ends_the_export_and_its_transaction(acme: Filled, signer: AuditSigner) -> None:
    started = asyncio.Event()

    async def never(data: bytes) -> None:
        started.set()
        await asyncio.sleep(3600)

    writing = asyncio.create_task(write_export(source_of(acme, signer), never, export_id=uuid4(), at=datetime.now(UTC)))
    await started.wait()
    writing.cancel()
    with pytest.raises(asyncio.CancelledError):
        await writing
    waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state LIKE 'idle in%'"
    assert await acme.database.fetchval(waiting) == 0


async def test_memory_does_not_grow_with_the_export(
    process: Process, registry: TenantRegistry, signer: AuditSigner, tmp_path: Path
) -> None:
    big = await filled(process, chunks=CHUNKS_BIG)
    try:
        tracemalloc.start()
        path = await exported(big, signer, tmp_path)
        verdict = verify_archive(path, public_key=signer.public_key)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
        await emptied(big, registry)
    assert verdict.ok, verdict.message
    assert verdict.counts["rows"] > 3 * CHUNKS_BIG
    assert path.stat().st_size > 2 * MEMORY_BYTES_MAX > 2 * peak
