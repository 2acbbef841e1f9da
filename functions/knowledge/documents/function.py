"""Documents: upload, list, read and delete them; each is parsed, chunked, embedded and indexed as it changes."""

from __future__ import annotations

from typing import Annotated, Literal

from annotated_types import Ge, Le
from pydantic import Field
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response

from functions.knowledge.documents.changes import put_document, remove_document
from functions.knowledge.documents.ingest import DOCUMENT_BYTES_MAX, Ingest
from functions.knowledge.documents.listing import (
    PAGE_ROWS_MAX,
    Document,
    Documents,
    document_named,
    page_of,
    stored_text,
)
from functions.knowledge.documents.names import spellings
from functions.knowledge.documents.original import original
from functions.knowledge.documents.parsing import parsers_of_loop
from functions.knowledge.documents.reconcile import reconcile_documents
from shared.clock import Clock
from shared.embeddings import Embeddings
from shared.events import ObjectEvent
from shared.function import Call, Function, ObjectCreated, ObjectRemoved, Scale, Tick
from shared.objects import NAME_PART, TenantObjects
from shared.postgres import TenantDatabase, TenantTransaction

documents = Function(
    timeout_s=300,
    scale=Scale(concurrency=8, reason="parsing and embedding are CPU-bound: two at a time work, the rest read"),
    body_bytes_max=DOCUMENT_BYTES_MAX,
)


@documents.put("/v1/documents/{name:path}", permission="documents:write", success=202)
async def upload_document(
    name: str, request: Request, call: Call, database: TenantDatabase, objects: TenantObjects, clock: Clock
) -> Document:
    """Store a document. It becomes searchable a moment later; its state says when, or why not."""
    return await put_document(name, request, call=call, database=database, objects=objects, at=clock.now())


@documents.get("/v1/documents", permission="documents:read")
async def list_documents(
    database: TenantDatabase,
    state: Annotated[str, Field(max_length=20, pattern=NAME_PART)] = "",
    cursor: Annotated[str, Field(max_length=1000, pattern=NAME_PART)] = "",
    limit: Annotated[int, Ge(1), Le(PAGE_ROWS_MAX)] = 100,
) -> Documents:
    """List documents by name, each with its state, its reason and how far it is."""
    return await page_of(database, state=state, cursor=cursor, rows_max=limit)


@documents.get("/v1/documents/{name:path}", permission="documents:read")
async def read_document(
    name: str,
    database: TenantDatabase,
    objects: TenantObjects,
    content: Literal["none", "text", "original"] = "none",
) -> Response:
    """Read what is known of a document, or with `content` its stored text or its original bytes."""
    document = await document_named(database, spellings(name))
    if content == "text":
        return PlainTextResponse(
            await stored_text(database, document.name), headers={"x-content-type-options": "nosniff"}
        )
    if content == "original":
        return await original(objects, document)
    return JSONResponse(document.model_dump(mode="json"))


@documents.delete("/v1/documents/{name:path}", permission="documents:write")
async def delete_document(name: str, call: Call, transaction: TenantTransaction, objects: TenantObjects) -> None:
    """Delete a document: its object, its text, and every trace of it in the index."""
    await remove_document(name, call=call, transaction=transaction, objects=objects)


@documents.on(ObjectCreated("documents"))
async def ingest(event: ObjectEvent, database: TenantDatabase, objects: TenantObjects, embeddings: Embeddings) -> None:
    """Parse, chunk, embed and index what the object holds at this moment."""
    await Ingest(database, objects, embeddings, parsers_of_loop()).converge(event.name, event.event.id)


@documents.on(ObjectRemoved("documents"))
async def forget_removed(
    event: ObjectEvent, database: TenantDatabase, objects: TenantObjects, embeddings: Embeddings
) -> None:
    """Remove a document whose object is gone; one that is there again is ingested."""
    await Ingest(database, objects, embeddings, parsers_of_loop()).converge(event.name, event.event.id)


@documents.every("*/15 * * * *", per="tenant")
async def reconcile(tick: Tick, database: TenantDatabase, objects: TenantObjects) -> None:
    """Compare bucket and rows both ways, and announce again what was lost or is held by nobody any more."""
    await reconcile_documents(database, objects, tick.nominal)
