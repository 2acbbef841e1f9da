"""The row of a document: which state it is in, who works on it until when, and which generation of it counts.

Every change of state is one statement here that names the states it may leave. A worker writes under the
generation that it claimed; when a newer content, another worker or a deletion came in between, it changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from uuid import UUID

from functions.knowledge.documents.refusal import Refused
from shared.objects import ObjectHead
from shared.postgres import TenantDatabase, TenantTransaction

LEASE_S = 30
ATTEMPTS_MAX = 3


@dataclass(frozen=True)
class Lease:
    """The right to work on one generation of a document. `exhausted`: too many attempts ended without a result."""

    document_id: UUID
    name: str
    generation: int
    etag: str
    exhausted: bool = False


class Standing(Enum):
    """Why there is nothing to claim."""

    DONE = "done"
    WORKED_ON = "another event's worker is at it"
    INTERRUPTED = "this very event's worker was at it, and is perhaps gone"


async def queue(tx: TenantTransaction, name: str, head: ObjectHead) -> UUID:
    """Note that the object has this content: queued, unless exactly this is searchable or being worked on."""
    return await tx.fetchval(  # type: ignore[no-any-return]  # the column's type
        """
        INSERT INTO documents AS d (name, etag, bytes, content_type) VALUES ($1, $2, $3, $4)
        ON CONFLICT (name) DO UPDATE SET
            etag = $2, bytes = $3, content_type = $4, updated_at = clock_timestamp(),
            (generation, state, reason, detail, attempts, lease_event, lease_until, progress, queued_at) =
            (SELECT CASE WHEN same THEN d.generation ELSE d.generation + 1 END,
                    CASE WHEN same THEN d.state ELSE 'queued' END,
                    CASE WHEN same THEN d.reason ELSE '' END,
                    CASE WHEN same THEN d.detail ELSE '' END,
                    CASE WHEN same THEN d.attempts ELSE 0 END,
                    CASE WHEN same THEN d.lease_event ELSE '' END,
                    CASE WHEN same THEN d.lease_until END,
                    CASE WHEN same THEN d.progress ELSE 0 END,
                    CASE WHEN same THEN d.queued_at ELSE clock_timestamp() END
             FROM (SELECT d.etag = $2 AND d.state NOT IN ('rejected', 'quarantined') AS same) AS seen)
        RETURNING id
        """,
        name, head.etag, head.size, head.content_type,
    )  # fmt: skip


async def claim(tx: TenantTransaction, name: str, head: ObjectHead, event_id: str) -> Lease | Standing:
    """Take the document for this content. The row is locked until the transaction ends."""
    await tx.execute(
        "INSERT INTO documents (name, etag, bytes, content_type) VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING",
        name, head.etag, head.size, head.content_type,
    )  # fmt: skip
    row = await tx.fetchrow(
        "SELECT *, lease_until > clock_timestamp() AS leased FROM documents WHERE name = $1 FOR UPDATE", name
    )
    assert row is not None
    same = row["etag"] == head.etag
    if same and row["state"] in ("searchable", "rejected", "quarantined"):
        return Standing.DONE
    if same and row["leased"]:
        return Standing.INTERRUPTED if row["lease_event"] == event_id else Standing.WORKED_ON
    attempts = row["attempts"] + 1 if same else 1
    generation = await tx.fetchval(
        """
        UPDATE documents SET generation = generation + 1, etag = $2, bytes = $3, content_type = $4, state = 'parsing',
            reason = '', detail = '', attempts = $5, lease_event = $6, progress = 0, updated_at = clock_timestamp(),
            lease_until = clock_timestamp() + make_interval(secs => $7)
        WHERE id = $1 RETURNING generation
        """,
        row["id"], head.etag, head.size, head.content_type, attempts, event_id, LEASE_S,
    )  # fmt: skip
    return Lease(row["id"], name, generation, head.etag, attempts > ATTEMPTS_MAX)


async def renew(database: TenantDatabase, lease: Lease, state: str, progress: float) -> bool:
    """Prolong the lease and show how far the work is. False when the lease is lost."""
    status = await database.execute(
        """
        UPDATE documents SET state = $3, progress = $4, updated_at = clock_timestamp(),
            lease_until = clock_timestamp() + make_interval(secs => $5)
        WHERE id = $1 AND generation = $2 AND state IN ('parsing', 'embedding')
        """,
        lease.document_id, lease.generation, state, progress, LEASE_S,
    )  # fmt: skip
    return status.endswith(" 1")


async def give_back(database: TenantDatabase, lease: Lease, *, blameless: bool) -> None:
    """Queue the document again. `blameless`, as when a store was away or the work got on: it counts as no attempt."""
    await database.execute(
        """
        UPDATE documents SET state = 'queued', lease_event = '', lease_until = NULL, progress = 0,
            attempts = greatest(attempts - $3::integer, 0), updated_at = clock_timestamp()
        WHERE id = $1 AND generation = $2 AND state IN ('parsing', 'embedding')
        """,
        lease.document_id, lease.generation, int(blameless),
    )  # fmt: skip


async def held(tx: TenantTransaction, lease: Lease) -> bool:
    """Whether the lease still counts. The row stays locked until the transaction ends: nobody overtakes it."""
    found = await tx.fetchval(
        "SELECT true FROM documents WHERE id = $1 AND generation = $2 AND state IN ('parsing', 'embedding') FOR UPDATE",
        lease.document_id, lease.generation,
    )  # fmt: skip
    return bool(found)


async def finish(tx: TenantTransaction, lease: Lease, *, text: str, note: str, chunks: int) -> None:
    """Searchable, with the text that the chunks' places point into."""
    await tx.execute(
        """
        INSERT INTO document_texts (document_id, version, text) VALUES ($1, $2, $3)
        ON CONFLICT (document_id) DO UPDATE SET version = $2, text = $3
        """,
        lease.document_id, lease.generation, text,
    )  # fmt: skip
    await tx.execute(
        """
        UPDATE documents SET state = 'searchable', detail = $3, version = $2, chunks = $4, progress = 1,
            lease_event = '', lease_until = NULL, searchable_at = clock_timestamp(), updated_at = clock_timestamp()
        WHERE id = $1
        """,
        lease.document_id, lease.generation, note, chunks,
    )  # fmt: skip


async def refuse(tx: TenantTransaction, lease: Lease, refusal: Refused) -> None:
    """A final state with its reason. What an earlier content left behind goes: it is the object's content no more."""
    await tx.execute("DELETE FROM document_texts WHERE document_id = $1", lease.document_id)
    await tx.execute(
        """
        UPDATE documents SET state = $2, reason = $3, detail = $4, version = 0, chunks = 0, progress = 0,
            lease_event = '', lease_until = NULL, searchable_at = NULL, updated_at = clock_timestamp() WHERE id = $1
        """,
        lease.document_id, refusal.state, refusal.reason, refusal.detail[:1000],
    )  # fmt: skip
