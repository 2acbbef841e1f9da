"""Reading, proving, exporting and sealing one tenant's log."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import AsyncIterator
from pathlib import Path

from functions.governance.audit.views import CheckpointView, Proof, RecordList, RecordView
from shared.audit import merkle
from shared.audit.checkpoint import AuditSigner
from shared.audit.sealer import BATCH_MAX, Anchor, seal
from shared.errors import NotFound
from shared.function import Call
from shared.function.process import Process
from shared.ids import PLATFORM, TenantId
from shared.objects import ObjectStore
from shared.postgres import ControlDatabase, TenantDatabase
from shared.secrets import read_key
from shared.settings import Settings
from shared.telemetry import log as log_line
from shared.tenancy import TenantRegistry

EXPORT_PAGE = 1000
PROVABLE_MAX = 200_000  # a proof reads the leaves; beyond this, export and verify offline
ROUNDS_MAX = 50

Database = TenantDatabase | ControlDatabase


async def database_of(call: Call) -> Database:
    """Where the caller's log is: the tenant's own database, or the control database for the platform."""
    return await database_for(call.process, call.caller.tenant)


async def database_for(process: Process, tenant: TenantId) -> Database:
    if tenant == PLATFORM:
        return await process.get(ControlDatabase)
    return await (await process.get(TenantRegistry)).database(tenant)


async def page(database: Database, after: int, limit: int, *, action: str, actor: str) -> RecordList:
    rows = await database.fetch(
        "SELECT seq, record, sealed_at FROM audit_log WHERE seq > $1"
        " AND ($3 = '' OR convert_from(record, 'UTF8')::jsonb ->> 'action' = $3)"
        " AND ($4 = '' OR convert_from(record, 'UTF8')::jsonb ->> 'actor' = $4)"
        " ORDER BY seq LIMIT $2",
        after,
        limit,
        action,
        actor,
    )
    views = [RecordView(seq=row["seq"], sealed_at=row["sealed_at"], **fields(bytes(row["record"]))) for row in rows]
    return RecordList(records=views)


def fields(record: bytes) -> dict[str, object]:
    content = json.loads(record)
    return {name: content[name] for name in ("id", "at", "action", "resource", "actor", "outcome", "details")}


async def newest(database: Database, tenant: TenantId, settings: Settings) -> CheckpointView:
    row = await database.fetchrow("SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1")
    if row is None:
        raise NotFound(f"the log of {tenant!r} has no checkpoint yet")
    key = base64.b64encode(AuditSigner(read_key(settings, "audit")).public_key).decode()
    return CheckpointView(size=row["size"], note=row["note"], public_key=key)


async def proof(database: Database, seq: int) -> Proof:
    checkpoint = await database.fetchrow("SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1")
    if checkpoint is None or not 0 <= seq < checkpoint["size"]:
        raise NotFound(f"there is no sealed record {seq}")
    if checkpoint["size"] > PROVABLE_MAX:
        raise NotFound(f"the log has more than {PROVABLE_MAX} records; export it and verify it offline")
    rows = await database.fetch("SELECT leaf FROM audit_log WHERE seq < $1 ORDER BY seq", checkpoint["size"])
    leaves = [bytes(row["leaf"]) for row in rows]
    hashes = [base64.b64encode(one).decode() for one in merkle.inclusion_proof(leaves, seq)]
    leaf = base64.b64encode(leaves[seq]).decode()
    return Proof(seq=seq, size=checkpoint["size"], leaf=leaf, hashes=hashes, note=checkpoint["note"])


async def export(database: Database, tenant: TenantId, settings: Settings) -> AsyncIterator[bytes]:
    """The log, a page at a time, so that its size does not matter."""
    key = base64.b64encode(AuditSigner(read_key(settings, "audit")).public_key).decode()
    yield line({"kind": "header", "version": 1, "tenant": tenant, "public_key": key})
    after = -1
    while rows := await database.fetch(
        "SELECT seq, previous, record FROM audit_log WHERE seq > $1 ORDER BY seq LIMIT $2", after, EXPORT_PAGE
    ):
        for row in rows:
            previous, record = (base64.b64encode(bytes(row[name])).decode() for name in ("previous", "record"))
            yield line({"kind": "record", "seq": row["seq"], "previous": previous, "record": record})
        after = rows[-1]["seq"]
    for row in await database.fetch("SELECT note FROM audit_checkpoints WHERE size <= $1 ORDER BY size", after + 1):
        yield line({"kind": "checkpoint", "note": row["note"]})


def line(value: dict[str, object]) -> bytes:
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"


async def seal_all(process: Process, tenant: TenantId) -> None:
    """Seal until the outboxes are empty."""
    database = await database_for(process, tenant)
    control = await process.get(ControlDatabase)
    signer = AuditSigner(read_key(process.settings, "audit"))
    for _ in range(ROUNDS_MAX):
        sealed = await seal(tenant, database, control, signer=signer, anchor=anchor_of(process))
        if sealed < BATCH_MAX:
            return


def anchor_of(process: Process) -> Anchor:
    """Checkpoints go to a file that is only ever appended to, and to the object store."""

    async def anchor(tenant: TenantId, size: int, note: str) -> None:
        append_line(process.settings.secrets_dir.parent / "checkpoints" / f"{tenant}.jsonl", size, note)
        try:
            store = await process.get(ObjectStore)
            await store.keep_checkpoint(tenant, size, note)
        except Exception as failure:  # noqa: BLE001  the file holds it; an object store that is away must not stop sealing
            log_line("checkpoint_not_in_object_store", tenant=tenant, size=size, error=repr(failure))

    return anchor


def append_line(path: Path, size: int, note: str) -> None:
    """Append one checkpoint and make it durable."""
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with path.open("a") as file:
        file.write(json.dumps({"size": size, "note": note}, ensure_ascii=False) + "\n")
        file.flush()
        os.fsync(file.fileno())
