"""Documents as the API shows them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from shared.errors import NotFound
from shared.postgres import TenantDatabase, TenantTransaction

PAGE_ROWS_MAX = 500
SHOWN = """
    SELECT d.*, CASE WHEN d.state = 'queued' THEN (SELECT count(*) + 1 FROM documents AS ahead
        WHERE ahead.state = 'queued' AND (ahead.queued_at, ahead.name) < (d.queued_at, d.name)) END AS queue_position
    FROM documents AS d
"""


class Document(BaseModel):
    """A document: what it is, which state it is in and why."""

    id: str
    name: str
    state: str
    reason: str
    """Why it is rejected or quarantined: one word. Empty otherwise."""
    detail: str
    """The reason in a sentence, or a note on how the document was read."""
    etag: str
    bytes: int
    content_type: str
    chunks: int
    version: int
    """Rises with each content that was indexed; 0 while none is searchable."""
    queue_position: int | None
    progress: float
    created_at: datetime
    updated_at: datetime
    searchable_at: datetime | None


class Documents(BaseModel):
    """A page of documents by name; `next_cursor` is null on the last one."""

    documents: list[Document]
    next_cursor: str | None


def shown(row: Any) -> Document:  # Any: a record of the untyped driver
    fields = {name: row[name] for name in Document.model_fields}
    return Document(**fields | {"id": str(row["id"])})


async def page_of(database: TenantDatabase, *, state: str, cursor: str, rows_max: int) -> Documents:
    """The documents whose names follow `cursor`."""
    found = await database.fetch(
        f"{SHOWN} WHERE d.name > $1 AND ($2 = '' OR d.state = $2) ORDER BY d.name LIMIT $3",
        cursor, state, rows_max + 1,
    )  # fmt: skip
    documents = [shown(row) for row in found[:rows_max]]
    return Documents(documents=documents, next_cursor=documents[-1].name if len(found) > rows_max else None)


async def document_named(database: TenantDatabase, names: Sequence[str]) -> Document:
    """The document of the first of the names that there is. Raises `NotFound`."""
    for name in names:
        if (row := await database.fetchrow(f"{SHOWN} WHERE d.name = $1", name)) is not None:
            return shown(row)
    raise NotFound(f"there is no document {names[0]!r}")


async def document_in(tx: TenantTransaction, document_id: UUID) -> Document:
    """A document as the transaction will leave it."""
    return shown(await tx.fetchrow(f"{SHOWN} WHERE d.id = $1", document_id))


async def stored_text(database: TenantDatabase, name: str) -> str:
    """The normalised text that citations point into. Raises `NotFound`."""
    text = await database.fetchval(
        "SELECT text FROM document_texts JOIN documents ON id = document_id WHERE name = $1", name
    )
    if text is None:
        raise NotFound(f"document {name!r} has no stored text: it is not known, or not searchable yet")
    return str(text)
