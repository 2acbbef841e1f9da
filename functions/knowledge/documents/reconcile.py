"""Finding what hints missed: the bucket's listing against the rows, both ways, and work that nobody holds any more."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from functions.knowledge.documents.names import PREFIX, document_name
from shared.events.notifications import removed, uploaded
from shared.objects import ObjectHead, TenantObjects, key_flaw
from shared.postgres import TenantDatabase

HINTS_MAX = 5000
QUEUED_S_MAX = 60


@dataclass(frozen=True)
class Known:
    """What a document's row says. `idle`: queued or leased, and for so long that no event can be at it."""

    etag: str
    idle: bool


@dataclass(frozen=True)
class Repair:
    """The hints that were lost."""

    created: tuple[ObjectHead, ...]
    removed: tuple[str, ...]


def repair(objects: Mapping[str, ObjectHead], known: Mapping[str, Known]) -> Repair:
    """Which documents need another look: new or changed objects, idle rows, and rows without an object."""
    created = [
        head for name, head in objects.items() if name not in known or known[name].etag != head.etag or known[name].idle
    ]
    gone = [name for name in known if name not in objects]
    return Repair(tuple(created[:HINTS_MAX]), tuple(gone[: max(0, HINTS_MAX - len(created))]))


async def reconcile_documents(database: TenantDatabase, objects: TenantObjects, at: datetime) -> Repair:
    """Emit the hints that were lost, as events of this tick: sent twice, they have the same ids."""
    known = {row["name"]: Known(row["etag"], row["idle"]) for row in await known_rows(database)}
    listed = {
        document_name(head.key): head
        async for head in objects.list(PREFIX)
        if not head.key.endswith("/") and not key_flaw(head.key)
    }
    lost = repair(listed, known)
    async with database.transaction() as tx:
        for head in lost.created:
            await tx.emit(uploaded(objects.tenant, head.key, etag=head.etag, size=head.size, at=at))
        for name in lost.removed:
            await tx.emit(removed(objects.tenant, PREFIX + name, at=at))
    return lost


async def known_rows(database: TenantDatabase) -> list[Any]:  # Any: records of the untyped driver
    return await database.fetch(
        """
        SELECT name, etag, CASE WHEN state = 'queued' THEN updated_at < clock_timestamp() - make_interval(secs => $1)
            ELSE coalesce(lease_until < clock_timestamp(), false) END AS idle
        FROM documents
        """,
        QUEUED_S_MAX,
    )
