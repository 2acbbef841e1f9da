"""What a call changes: an object and its row, together with the event or the deletion that follows."""

from __future__ import annotations

from datetime import datetime

from starlette.requests import Request

from functions.knowledge.documents import rows
from functions.knowledge.documents.ingest import erase
from functions.knowledge.documents.listing import Document, document_in
from functions.knowledge.documents.names import document_key, document_name, object_key, spellings
from functions.knowledge.documents.upload import content_type, received
from shared.errors import Fault, NotFound
from shared.events.notifications import uploaded
from shared.function import Call
from shared.objects import TenantObjects
from shared.postgres import TenantDatabase, TenantTransaction


async def put_document(
    name: str, request: Request, *, call: Call, database: TenantDatabase, objects: TenantObjects, at: datetime
) -> Document:
    """Receive, store, then note and announce in one transaction, which is not held open while bytes arrive."""
    key = document_key(name)
    async with received(request) as body:
        head = await objects.put(key, body, content_type(request, name))
    transaction = await transaction_of(call)
    document_id = await rows.queue(transaction, document_name(key), head)
    await transaction.emit(uploaded(database.tenant, key, etag=head.etag, size=head.size, at=at))
    call.note(resource=key, etag=head.etag, bytes=head.size)
    return await document_in(transaction, document_id)


async def transaction_of(call: Call) -> TenantTransaction:
    if call.transaction is None:
        raise Fault(f"{call.name} changes something and was called without a transaction")
    transaction = await call.transaction.begin()
    assert isinstance(transaction, TenantTransaction)
    return transaction


async def remove_document(name: str, *, call: Call, transaction: TenantTransaction, objects: TenantObjects) -> None:
    """The object goes first: should the transaction fail, reconciling removes the row. Raises `NotFound`."""
    for spelled in spellings(name):
        if await erase(transaction, spelled):
            key = object_key(spelled)
            await objects.delete(key)
            call.note(resource=key)
            return
    raise NotFound(f"there is no document {name!r}")
