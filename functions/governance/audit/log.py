"""Proving, exporting and sealing one tenant's log."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncIterator

from functions.governance.audit.anchors import anchor_of
from functions.governance.audit.views import CheckpointView, Proof
from shared.audit.checkpoint import AuditSigner
from shared.audit.export import CHECKPOINT_LINE, RECORD_LINE, header_line
from shared.audit.sealer import seal
from shared.audit.tiles import inclusion_proof
from shared.errors import NotFound
from shared.function import Call
from shared.function.process import Process
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase, TenantDatabase
from shared.tenancy import TenantRegistry

EXPORT_PAGE = 1000
ROUNDS_MAX = 200
TURN_S = 0.02
RECORDS = f"""
SELECT seq AS place, {RECORD_LINE} AS line FROM audit_log WHERE seq > $1 AND seq <= $2 ORDER BY seq LIMIT $3
"""
CHECKPOINTS = f"""
SELECT size AS place, {CHECKPOINT_LINE} AS line FROM audit_checkpoints
WHERE size > $1 AND size <= $2 ORDER BY size LIMIT $3
"""

Database = TenantDatabase | ControlDatabase


async def database_of(call: Call) -> Database:
    """Where the caller's log is: the tenant's own database, or the control database for the platform."""
    return await database_for(call.process, call.caller.tenant)


async def database_for(process: Process, tenant: TenantId) -> Database:
    if tenant == PLATFORM:
        return await process.get(ControlDatabase)
    return await (await process.get(TenantRegistry)).database(tenant)


async def newest(database: Database, tenant: TenantId, signer: AuditSigner) -> CheckpointView:
    row = await database.fetchrow("SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1")
    if row is None:
        raise NotFound(f"the log of {tenant!r} has no checkpoint yet")
    return CheckpointView(size=row["size"], note=row["note"], public_key=text_of(signer.public_key))


async def proof(database: Database, seq: int) -> Proof:
    checkpoint = await database.fetchrow("SELECT size, note FROM audit_checkpoints ORDER BY size DESC LIMIT 1")
    if checkpoint is None or not 0 <= seq < checkpoint["size"]:
        raise NotFound(f"there is no sealed record {seq}")
    leaf, hashes = await inclusion_proof(database, checkpoint["size"], seq)
    return Proof(
        seq=seq,
        size=checkpoint["size"],
        leaf=text_of(leaf),
        hashes=[text_of(one) for one in hashes],
        note=checkpoint["note"],
    )


def text_of(value: bytes) -> str:
    return base64.b64encode(value).decode()


async def export(database: Database, tenant: TenantId, signer: AuditSigner) -> AsyncIterator[bytes]:
    """The log as it is at this moment, a page at a time, so that its size does not matter.

    Every record and checkpoint of that moment is in it, also those that do not fit: judging is the verifier's.
    """
    yield header_line(tenant, signer)
    end = await database.fetchrow(
        "SELECT (SELECT max(seq) FROM audit_log) AS seq, (SELECT max(size) FROM audit_checkpoints) AS size"
    )
    assert end is not None
    for query, last in ((RECORDS, end["seq"]), (CHECKPOINTS, end["size"])):
        after = -1
        while rows := await database.fetch(query, after, last, EXPORT_PAGE):
            for row in rows:
                yield row["line"].encode() + b"\n"
            after = rows[-1]["place"]


async def seal_all(process: Process, tenant: TenantId, signer: AuditSigner) -> None:
    """Seal until the outboxes are empty. A sealer at work elsewhere may have looked before the newest record came, so
    this one waits for its turn."""
    database = await database_for(process, tenant)
    control = await process.get(ControlDatabase)
    for _ in range(ROUNDS_MAX):
        batch = await seal(tenant, database, control, signer=signer, anchor=anchor_of(process))
        if batch.busy:
            await asyncio.sleep(TURN_S)
        elif not batch.records:
            return
