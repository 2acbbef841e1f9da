"""Sealing: outbox records become numbered, chained, hashed into the tree, and covered by one signed checkpoint.

One sealer a tenant at a time (an advisory lock of the transaction). It takes what is in the outbox, never "what is
newer than", so a record that commits late is not missed. A signed checkpoint leaves the database only after the
commit that stored it, so a killed sealer never leaves two that differ; the one it did not write outside, the next
run does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from uuid import UUID

from shared.audit.chain import Head, SealedRow, Waiting, extend
from shared.audit.checkpoint import AuditSigner, Checkpoint, origin_of
from shared.audit.tiles import complete_tiles
from shared.ids import TenantId
from shared.postgres import ControlDatabase, ControlTransaction, TenantDatabase, TenantTransaction

BATCH_MAX = 2000
BATCH_BYTES_MAX = 8 * 1024 * 1024
LOCK_SPACE = 8
OUTBOX = f"""
SELECT id, record FROM (
    SELECT id, record, created_at,
        sum(octet_length(record)) OVER (ORDER BY created_at, id) - octet_length(record) AS bytes_before
    FROM (SELECT * FROM audit_outbox WHERE tenant = $1 ORDER BY created_at, id LIMIT {BATCH_MAX}) first
) counted
WHERE bytes_before < {BATCH_BYTES_MAX}
ORDER BY created_at, id
"""
"""The oldest records of a tenant, at least one."""

Anchor = Callable[[TenantId, int, str], Awaitable[None]]
"""Writes a signed checkpoint (tenant, size, note) outside the database. Called again with the same after a failure."""
Database = TenantDatabase | ControlDatabase
Transaction = TenantTransaction | ControlTransaction


@dataclass(frozen=True)
class SealedBatch:
    """What a run did. `busy`: nothing, because another sealer of that tenant was at work."""

    records: int
    busy: bool = False


async def seal(
    tenant: TenantId, database: Database, control: ControlDatabase, *, signer: AuditSigner, anchor: Anchor
) -> SealedBatch:
    """Seal one batch of the tenant's records, those of its own database and those of the control database.

    The control database is read before the transaction is begun: sealers that held one connection while waiting for
    another could use up the connection budget and wait for each other.
    """
    foreign = [] if database is control else await outbox(control, tenant)
    async with database.transaction() as transaction:
        if not await alone(transaction, tenant):
            return SealedBatch(0, busy=True)
        waiting = [*await outbox(transaction, tenant), *foreign]
        fresh = await unsealed(transaction, waiting)
        if fresh:
            await append(transaction, tenant, fresh, signer)
        await transaction.execute("DELETE FROM audit_outbox WHERE id = ANY($1)", [one.id for one in waiting])
    if foreign:
        await control.execute("DELETE FROM audit_outbox WHERE id = ANY($1)", [one.id for one in foreign])
    await anchor_newest(tenant, database, anchor)
    return SealedBatch(len(fresh))


async def alone(transaction: Transaction, tenant: TenantId) -> bool:
    lock = "SELECT pg_try_advisory_xact_lock(hashtextextended($1, $2))"
    return bool(await transaction.fetchval(lock, f"audit:{tenant}", LOCK_SPACE))


async def outbox(source: Transaction | ControlDatabase, tenant: TenantId) -> list[Waiting]:
    return [Waiting(row["id"], bytes(row["record"])) for row in await source.fetch(OUTBOX, tenant)]


async def unsealed(transaction: Transaction, waiting: Sequence[Waiting]) -> list[Waiting]:
    """Those not in the log yet: a killed run may have sealed records that it did not remove at their source."""
    by_id = {one.id: one for one in waiting}
    for row in await transaction.fetch("SELECT id FROM audit_log WHERE id = ANY($1)", list(by_id)):
        del by_id[row["id"]]
    return list(by_id.values())


async def append(transaction: Transaction, tenant: TenantId, fresh: Sequence[Waiting], signer: AuditSigner) -> None:
    """Write the records with the checkpoint that covers them."""
    rows, head = extend(await head_of(transaction), fresh)
    await transaction.copy_records("audit_log", ("seq", "id", "previous", "record", "leaf"), values(rows))
    note = signer.sign(Checkpoint(origin_of(tenant), head.size, head.root))
    await transaction.execute("INSERT INTO audit_checkpoints (size, note) VALUES ($1, $2)", head.size, note)
    await transaction.execute(
        "INSERT INTO audit_frontier (size, head, frontier) VALUES ($1, $2, $3)"
        " ON CONFLICT (single) DO UPDATE SET size = excluded.size, head = excluded.head, frontier = excluded.frontier",
        head.size,
        head.link,
        head.frontier,
    )
    await complete_tiles(transaction, head.size)


def values(rows: Sequence[SealedRow]) -> list[tuple[int, UUID, bytes, bytes, bytes]]:
    return [(row.seq, row.id, row.previous, row.record, row.leaf) for row in rows]


async def head_of(transaction: Transaction) -> Head:
    row = await transaction.fetchrow("SELECT size, head, frontier FROM audit_frontier")
    return Head(row["size"], bytes(row["head"]), [bytes(one) for one in row["frontier"]]) if row else Head()


async def anchor_newest(tenant: TenantId, database: Database, anchor: Anchor) -> None:
    """Write the newest checkpoint outside the database, unless that was done."""
    row = await database.fetchrow(
        "SELECT c.size, c.note FROM audit_frontier f JOIN audit_checkpoints c USING (size) WHERE f.anchored < f.size"
    )
    if row is not None:
        await anchor(tenant, row["size"], row["note"])
        await database.execute("UPDATE audit_frontier SET anchored = greatest(anchored, $1)", row["size"])
