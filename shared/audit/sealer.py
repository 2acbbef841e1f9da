"""Sealing: outbox records become numbered, chained, hashed into the tree, and covered by one signed checkpoint.

One sealer a tenant at a time (an advisory lock of the transaction). It takes what is in the outbox, never "what is
newer than", so a record that commits late is not missed. A signed checkpoint leaves the database only after the commit
that stored it, so no two that differ are ever seen outside; what a killed process did not write there, the next run does.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.audit import merkle
from shared.audit.checkpoint import AuditSigner, Checkpoint, origin_of
from shared.ids import TenantId
from shared.postgres import ControlDatabase, ControlTransaction, TenantDatabase, TenantTransaction

BATCH_MAX = 2000
LOCK_SPACE = 8
GENESIS = bytes(32)

Anchor = Callable[[TenantId, int, str], Awaitable[None]]
Transaction = TenantTransaction | ControlTransaction


@dataclass(frozen=True)
class Waiting:
    """An unsealed record."""

    id: UUID
    record: bytes


@dataclass
class Head:
    """Where a log ends: its size, the hash of its last link, and the tree's right edge."""

    size: int = 0
    link: bytes = GENESIS
    frontier: list[bytes] = field(default_factory=list)


@dataclass(frozen=True)
class SealedRow:
    seq: int
    id: UUID
    previous: bytes
    record: bytes
    leaf: bytes


def link_hash(previous: bytes, seq: int, record: bytes) -> bytes:
    """The chain: each link covers the one before, its own number and its own bytes."""
    import hashlib

    return hashlib.sha256(previous + seq.to_bytes(8, "big") + record).digest()


def extend(head: Head, waiting: Sequence[Waiting]) -> tuple[list[SealedRow], Head]:
    """The rows that these records become, and the log's new end. Pure."""
    rows: list[SealedRow] = []
    size, link, frontier = head.size, head.link, head.frontier
    for one in waiting:
        leaf = merkle.leaf_hash(link_entry(link, size, one.record))
        rows.append(SealedRow(size, one.id, link, one.record, leaf))
        frontier = merkle.append(frontier, size, leaf)
        link = link_hash(link, size, one.record)
        size += 1
    return rows, Head(size, link, frontier)


def link_entry(previous: bytes, seq: int, record: bytes) -> bytes:
    """What a leaf commits to: the previous link, the number and the record."""
    return previous + seq.to_bytes(8, "big") + record


async def seal(
    tenant: TenantId,
    database: TenantDatabase | ControlDatabase,
    control: ControlDatabase,
    *,
    signer: AuditSigner,
    anchor: Anchor,
) -> int:
    """Seal up to `BATCH_MAX` records of the tenant. Returns how many; 0 when there are none or another one seals."""
    moved: list[UUID] = []
    async with database.transaction() as transaction:
        if not await alone(transaction, tenant):
            return 0
        waiting = await outbox(transaction, tenant)
        if database is not control:
            foreign = await unsealed(transaction, await outbox(control, tenant))
            moved = [one.id for one in [*foreign.known, *foreign.fresh]]
            waiting = [*waiting, *foreign.fresh]
        if waiting:
            await write(transaction, tenant, waiting, signer)
    await anchor_newest(tenant, database, anchor)
    if moved:
        await forget_moved(database, control, moved)
    return len(waiting)


async def alone(transaction: Transaction, tenant: TenantId) -> bool:
    key = f"audit:{tenant}"
    return bool(await transaction.fetchval("SELECT pg_try_advisory_xact_lock(hashtextextended($1, $2))", key, LOCK_SPACE))


async def anchor_newest(tenant: TenantId, database: TenantDatabase | ControlDatabase, anchor: Anchor) -> None:
    """Write the newest checkpoint outside the database, unless that was done."""
    row = await database.fetchrow(
        "SELECT c.size, c.note FROM audit_frontier f JOIN audit_checkpoints c USING (size) WHERE f.anchored < f.size"
    )
    if row is not None:
        await anchor(tenant, row["size"], row["note"])
        await database.execute("UPDATE audit_frontier SET anchored = greatest(anchored, $1)", row["size"])


@dataclass(frozen=True)
class Foreign:
    """Control-database records: those not in the log yet, and those a killed run sealed but did not remove."""

    fresh: list[Waiting]
    known: list[Waiting]


async def unsealed(transaction: Transaction, waiting: Sequence[Waiting]) -> Foreign:
    if not waiting:
        return Foreign([], [])
    rows = await transaction.fetch("SELECT id FROM audit_log WHERE id = ANY($1)", [one.id for one in waiting])
    known = {row["id"] for row in rows}
    return Foreign([one for one in waiting if one.id not in known], [one for one in waiting if one.id in known])


async def outbox(source: Transaction | ControlDatabase, tenant: TenantId) -> list[Waiting]:
    rows = await source.fetch(
        "SELECT id, record FROM audit_outbox WHERE tenant = $1 ORDER BY created_at, id LIMIT $2", tenant, BATCH_MAX
    )
    return [Waiting(row["id"], bytes(row["record"])) for row in rows]


async def write(transaction: Transaction, tenant: TenantId, waiting: Sequence[Waiting], signer: AuditSigner) -> None:
    rows, head = extend(await head_of(transaction), waiting)
    await transaction.copy_records(
        "audit_log",
        ("seq", "id", "previous", "record", "leaf"),
        [(row.seq, row.id, row.previous, row.record, row.leaf) for row in rows],
    )
    note = signer.sign(Checkpoint(origin_of(tenant), head.size, merkle.root_of(head.frontier)))
    await transaction.execute("INSERT INTO audit_checkpoints (size, note) VALUES ($1, $2)", head.size, note)
    await transaction.execute(
        "INSERT INTO audit_frontier (size, head, frontier) VALUES ($1, $2, $3)"
        " ON CONFLICT (single) DO UPDATE SET size = excluded.size, head = excluded.head, frontier = excluded.frontier",
        head.size,
        head.link,
        head.frontier,
    )
    await transaction.execute("DELETE FROM audit_outbox WHERE id = ANY($1)", [one.id for one in waiting])


async def head_of(transaction: Transaction) -> Head:
    row = await transaction.fetchrow("SELECT size, head, frontier FROM audit_frontier")
    return Head(row["size"], bytes(row["head"]), [bytes(one) for one in row["frontier"]]) if row else Head()


async def forget_moved(
    database: TenantDatabase | ControlDatabase, control: ControlDatabase, moved: Sequence[UUID]
) -> None:
    """Remove from the control database what is safely in the tenant's log."""
    rows = await database.fetch("SELECT id FROM audit_log WHERE id = ANY($1)", list(moved))
    await control.execute("DELETE FROM audit_outbox WHERE id = ANY($1)", [row["id"] for row in rows])
