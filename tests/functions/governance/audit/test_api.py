"""The audit log through the runtime, on a tenant made as tenants are made."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncIterator
from pathlib import Path
from uuid import uuid4

import asyncpg
import pytest

from functions.governance.audit import log, records
from functions.governance.audit.anchors import append_line
from shared.audit.checkpoint import AuditSigner, origin_of, verified
from shared.audit.merkle import included
from shared.audit.verify import verify_export
from shared.errors import Unavailable
from shared.ids import PLATFORM, TenantId
from shared.objects import ObjectStore
from shared.postgres import TenantDatabase, address, open_connection
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.runtime import Runtime, serving_function

CHANGES = 5


@pytest.fixture
async def runtime(settings: Settings) -> AsyncIterator[Runtime]:
    async with serving_function("governance-audit", settings) as runtime:
        yield runtime


@pytest.fixture
async def company(registry: TenantRegistry) -> AsyncIterator[TenantId]:
    """A tenant of the test's own."""
    made = await registry.create(f"a{uuid4().hex[:10]}")
    yield made.id
    await registry.delete(made.id)


@pytest.fixture
async def own(registry: TenantRegistry, company: TenantId) -> TenantDatabase:
    return await registry.database(company)


async def change(own: TenantDatabase, number: int, **details: object) -> None:
    async with own.transaction() as transaction:
        await transaction.audit("documents.upload", f"document/{number}", actor=f"key:{number % 2}", details=details)


@pytest.fixture
async def sealed(runtime: Runtime, own: TenantDatabase, company: TenantId) -> int:
    """A log with the tenant's creation and some changes. Returns its size."""
    for number in range(CHANGES):
        await change(own, number, bytes=number)
    await log.seal_all(runtime.application.process, company, await runtime.application.process.get(AuditSigner))
    return CHANGES + 1


async def get(runtime: Runtime, path: str, tenant: str, role: str = "admin") -> dict[str, object]:
    answer = await runtime.call("GET", path, tenant=tenant, role=role)
    assert answer.status_code == 200, answer.text
    body: dict[str, object] = answer.json()
    return body


async def seqs(runtime: Runtime, company: TenantId, query: str = "") -> tuple[list[int], object]:
    body = await get(runtime, f"/v1/audit/records{query}", company)
    listed = body["records"]
    assert isinstance(listed, list)
    return [one["seq"] for one in listed], body["next"]


async def test_an_admin_lists_its_tenants_records_from_the_genesis_on(
    runtime: Runtime, sealed: int, company: TenantId
) -> None:
    body = await get(runtime, "/v1/audit/records", company)
    listed = body["records"]
    assert isinstance(listed, list)
    assert [one["seq"] for one in listed] == list(range(sealed))
    assert listed[0]["action"] == "tenancy.create"
    assert listed[1]["details"] == {"bytes": 0}
    assert body["next"] is None


async def test_records_are_listed_a_page_at_a_time(runtime: Runtime, sealed: int, company: TenantId) -> None:
    assert await seqs(runtime, company, "?limit=4") == ([0, 1, 2, 3], 3)
    assert await seqs(runtime, company, "?limit=4&after=3") == ([4, 5], None)
    assert await seqs(runtime, company, "?after=99999999999999999999") == ([], None)
    assert await seqs(runtime, company, "?limit=-5") == ([0], 0)


async def test_records_are_filtered_by_action_and_actor(runtime: Runtime, sealed: int, company: TenantId) -> None:
    assert await seqs(runtime, company, "?action=tenancy.create") == ([0], None)
    assert await seqs(runtime, company, "?actor=key:1") == ([2, 4], None)
    assert await seqs(runtime, company, "?actor=key:1&action=documents.upload") == ([2, 4], None)
    assert await seqs(runtime, company, "?action=documents") == ([], None)


async def test_a_filter_looks_at_members_and_not_at_what_they_contain(
    runtime: Runtime, sealed: int, own: TenantDatabase, company: TenantId
) -> None:
    await change(own, 7, note='"tenancy.create"', action="tenancy.create")
    await log.seal_all(runtime.application.process, company, await runtime.application.process.get(AuditSigner))
    assert await seqs(runtime, company, "?action=tenancy.create") == ([0], None)


async def test_a_null_byte_in_a_record_does_not_break_the_list(
    runtime: Runtime, sealed: int, own: TenantDatabase, company: TenantId
) -> None:
    await change(own, 8, name="a\u0000b")
    await log.seal_all(runtime.application.process, company, await runtime.application.process.get(AuditSigner))
    assert await seqs(runtime, company, "?action=documents.upload&actor=key:0") == ([1, 3, 5, 6], None)
    assert await seqs(runtime, company, "?actor=a%00b") == ([], None)


async def test_a_filter_that_finds_nothing_soon_says_where_to_go_on(
    runtime: Runtime, sealed: int, company: TenantId, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records, "SCANNED_MAX", 2)
    assert await seqs(runtime, company, "?actor=key:1") == ([], 1)
    assert await seqs(runtime, company, "?actor=key:1&after=1") == ([2], 3)


async def test_the_newest_checkpoint_is_signed_by_the_platforms_key(
    runtime: Runtime, sealed: int, company: TenantId
) -> None:
    body = await get(runtime, "/v1/audit/checkpoint", company)
    key = base64.b64decode(str(body["public_key"]))
    checkpoint = verified(str(body["note"]), origin=origin_of(company), name=AuditSigner.name, public_key=key)
    assert (checkpoint.size, body["size"]) == (sealed, sealed)


async def test_every_record_is_proved_against_the_newest_checkpoint(
    runtime: Runtime, sealed: int, company: TenantId
) -> None:
    key = base64.b64decode(str((await get(runtime, "/v1/audit/checkpoint", company))["public_key"]))
    for seq in range(sealed):
        proof = await get(runtime, f"/v1/audit/records/{seq}/proof", company)
        root = verified(str(proof["note"]), origin=origin_of(company), name=AuditSigner.name, public_key=key).root
        hashes = proof["hashes"]
        assert isinstance(hashes, list)
        leaf = base64.b64decode(str(proof["leaf"]))
        assert included(leaf, seq, sealed, [base64.b64decode(one) for one in hashes], root)


@pytest.mark.parametrize("seq", ["6", "-1", "99999999999999999999"])
async def test_a_record_that_does_not_exist_has_no_proof(
    seq: str, runtime: Runtime, sealed: int, company: TenantId
) -> None:
    answer = await runtime.call("GET", f"/v1/audit/records/{seq}/proof", tenant=company, role="admin")
    assert answer.status_code == 404


async def test_the_export_verifies_offline(runtime: Runtime, sealed: int, company: TenantId, tmp_path: Path) -> None:
    answer = await runtime.call("GET", "/v1/audit/export", tenant=company, role="admin")
    assert answer.headers["content-type"] == "application/x-ndjson"
    path = tmp_path / "export.jsonl"
    path.write_bytes(answer.content)
    verdict = verify_export(path)
    assert (verdict.ok, verdict.records) == (True, sealed)


async def test_members_and_viewers_read_no_audit_log(runtime: Runtime, sealed: int, company: TenantId) -> None:
    for path in ("records", "checkpoint", "records/0/proof", "export"):
        for role in ("member", "viewer", "hook"):
            answer = await runtime.call("GET", f"/v1/audit/{path}", tenant=company, role=role)
            assert answer.status_code == 403


async def test_an_operator_reads_the_platforms_log(
    runtime: Runtime, sealed: int, company: TenantId, tmp_path: Path
) -> None:
    process = runtime.application.process
    control = await log.database_for(process, PLATFORM)
    async with control.transaction() as transaction:
        await transaction.audit("tenancy.create", "tenant/x", actor="key:operator")
    await log.seal_all(process, PLATFORM, await process.get(AuditSigner))
    answer = await runtime.call("GET", "/v1/audit/export", tenant=PLATFORM, role="operator")
    path = tmp_path / "export.jsonl"
    path.write_bytes(answer.content)
    verdict = verify_export(path)
    assert verdict.ok, verdict.message
    assert company not in {one["tenant"] for one in map(json.loads, contents(answer.content))}


def contents(export: bytes) -> list[bytes]:
    rows = [json.loads(line) for line in export.splitlines()]
    return [base64.b64decode(row["record"]) for row in rows if row["kind"] == "record"]


async def test_checkpoints_are_kept_in_a_file_and_in_the_platforms_bucket(
    runtime: Runtime, sealed: int, company: TenantId, settings: Settings
) -> None:
    note = str((await get(runtime, "/v1/audit/checkpoint", company))["note"])
    file = settings.secrets_dir.parent / "checkpoints" / f"{company}.jsonl"
    assert json.loads(file.read_text().splitlines()[-1]) == {"size": sealed, "note": note}
    objects = (await runtime.application.process.get(ObjectStore)).tenant(PLATFORM)
    assert await objects.get(f"checkpoints/{company}/{sealed:020}", 10_000) == note.encode()


async def test_without_files_the_checkpoint_must_reach_the_bucket_and_is_tried_until_it_does(
    runtime: Runtime, own: TenantDatabase, company: TenantId, settings: Settings
) -> None:
    from dataclasses import replace

    diskless = replace(settings, checkpoint_files=False)
    await change(own, 1)
    async with serving_function("governance-audit", replace(diskless, objects_url="http://127.0.0.1:9")) as away:
        process = away.application.process
        with pytest.raises(Unavailable):
            await log.seal_all(process, company, await process.get(AuditSigner))
    async with serving_function("governance-audit", diskless) as without:
        process = without.application.process
        await log.seal_all(process, company, await process.get(AuditSigner))
    note = str((await get(runtime, "/v1/audit/checkpoint", company))["note"])
    objects = (await runtime.application.process.get(ObjectStore)).tenant(PLATFORM)
    assert await objects.get(f"checkpoints/{company}/{2:020}", 10_000) == note.encode()
    assert not (settings.secrets_dir.parent / "checkpoints" / f"{company}.jsonl").exists()


async def test_an_object_store_that_is_away_does_not_stop_sealing(
    runtime: Runtime, own: TenantDatabase, company: TenantId, settings: Settings
) -> None:
    from dataclasses import replace

    away = replace(settings, objects_url="http://127.0.0.1:9")
    await change(own, 1)
    async with serving_function("governance-audit", away) as without:
        await log.seal_all(without.application.process, company, await without.application.process.get(AuditSigner))
    assert (await get(runtime, "/v1/audit/checkpoint", company))["size"] == 2


def test_a_torn_line_does_not_spoil_the_next_one(tmp_path: Path) -> None:
    path = tmp_path / "checkpoints" / "acme.jsonl"
    append_line(path, 1, "one")
    path.write_bytes(path.read_bytes() + b'{"size": 2, "no')
    append_line(path, 3, "three")
    lines = path.read_text().splitlines()
    assert (json.loads(lines[0])["size"], json.loads(lines[2])["size"]) == (1, 3)


@pytest.mark.parametrize(
    "statement",
    [
        *("UPDATE audit_log SET leaf = ''", "DELETE FROM audit_log", "TRUNCATE audit_log"),
        *("UPDATE audit_checkpoints SET note = ''", "DELETE FROM audit_checkpoints", "TRUNCATE audit_checkpoints"),
        *("ALTER TABLE audit_log DISABLE TRIGGER ALL", "DROP TRIGGER audit_log_append_only ON audit_log"),
        "ALTER TABLE audit_log DROP CONSTRAINT audit_log_pkey",
    ],
)
async def test_a_tenants_role_cannot_change_its_log(statement: str, sealed: int, own: TenantDatabase) -> None:
    with pytest.raises((asyncpg.InsufficientPrivilegeError, asyncpg.RaiseError)):
        await own.execute(statement)


@pytest.mark.parametrize(
    ("statement", "first_bad"),
    [
        ("UPDATE audit_log SET record = replace(encode(record, 'escape'), 'key:1', 'key:9')::bytea WHERE seq = 2", 2),
        ("DELETE FROM audit_log WHERE seq = 3", 3),
        ("DELETE FROM audit_log WHERE seq >= 4", 4),
        ("DELETE FROM audit_log; DELETE FROM audit_checkpoints; DELETE FROM audit_frontier", 0),
        ("UPDATE audit_log SET leaf = sha256('x') WHERE seq = 5", 5),
        ("INSERT INTO audit_log SELECT 6, gen_random_uuid(), 'x', record, leaf FROM audit_log WHERE seq = 5", 6),
        ("UPDATE audit_log SET seq = 9 WHERE seq = 1", 1),
    ],
    ids=["edit", "delete", "cut off", "all gone", "leaf", "add", "move"],
)
async def test_what_a_superuser_does_to_the_tables_is_found(
    statement: str,
    first_bad: int,
    runtime: Runtime,
    sealed: int,
    company: TenantId,
    settings: Settings,
    postgres_admin_url: str,
    tmp_path: Path,
) -> None:
    kept = json.loads((settings.secrets_dir.parent / "checkpoints" / f"{company}.jsonl").read_text().splitlines()[-1])
    async with open_connection(address(postgres_admin_url, database=f"t_{company}")) as superuser:
        await superuser.execute("SET session_replication_role = replica")
        await superuser.execute(statement)
    path = tmp_path / "export.jsonl"
    path.write_bytes((await runtime.call("GET", "/v1/audit/export", tenant=company, role="admin")).content)
    verdict = verify_export(path, trusted_checkpoints=[kept["note"]])
    assert (verdict.ok, verdict.first_bad) == (False, first_bad), verdict.message


async def test_a_tail_cut_off_the_table_is_found_by_the_checkpoints_left_in_it(
    runtime: Runtime, sealed: int, company: TenantId, postgres_admin_url: str, tmp_path: Path
) -> None:
    async with open_connection(address(postgres_admin_url, database=f"t_{company}")) as superuser:
        await superuser.execute("SET session_replication_role = replica")
        await superuser.execute("DELETE FROM audit_log WHERE seq >= 4")
    path = tmp_path / "export.jsonl"
    path.write_bytes((await runtime.call("GET", "/v1/audit/export", tenant=company, role="admin")).content)
    assert verify_export(path).message == "record 4 is missing: the log ends there, but 6 were signed for"
