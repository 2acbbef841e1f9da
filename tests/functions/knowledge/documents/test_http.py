"""The routes, through the runtime: upload, list, read, delete, and what is refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime

import httpx
import pytest

from functions.knowledge.documents.ingest import DOCUMENT_BYTES_MAX
from functions.knowledge.documents.reconcile import reconcile_documents
from shared.function import catalog
from shared.function.app import build
from shared.identity import Caller, Tokens
from shared.settings import Settings
from tests.functions.knowledge.documents.conftest import Library

NAME = "knowledge-documents"


@pytest.fixture
async def client(library: Library, settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    application = build([one for one in catalog.find() if one.name == NAME], settings)
    tokens = await application.process.get(Tokens)
    token = tokens.mint(Caller(library.tenant, "key:test", "admin", "key"), audience=NAME)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    headers = {"authorization": f"Bearer {token}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://platform", headers=headers) as opened:
        yield opened
    await application.process.close()


async def test_an_upload_is_stored_queued_and_announced_in_one_go(library: Library, client: httpx.AsyncClient) -> None:
    answer = await client.put("/v1/documents/folder/über.md", content=b"# Hello\n\nWorld.")
    assert answer.status_code == 202, answer.text
    assert answer.json()["state"] == "queued"
    assert answer.json()["queue_position"] == 1
    assert await library.objects.get("documents/folder/über.md", 1000) == b"# Hello\n\nWorld."
    await library.ingest.converge("folder/über.md", "its-event")
    shown = (await client.get("/v1/documents/folder/über.md")).json()
    assert (shown["state"], shown["chunks"]) == ("searchable", 1)
    assert (await client.get("/v1/documents/folder/über.md?content=text")).text == "# Hello\n\nWorld."
    original = await client.get("/v1/documents/folder/über.md?content=original")
    assert original.content == b"# Hello\n\nWorld."
    assert original.headers["content-disposition"].startswith("attachment")


async def test_documents_are_listed_in_pages(library: Library, client: httpx.AsyncClient) -> None:
    for name in ("a.txt", "b.txt", "c.txt"):
        await client.put(f"/v1/documents/{name}", content=b"words")
    first = (await client.get("/v1/documents?limit=2")).json()
    second = (await client.get("/v1/documents", params={"limit": 2, "cursor": first["next_cursor"]})).json()
    assert [one["name"] for one in first["documents"] + second["documents"]] == ["a.txt", "b.txt", "c.txt"]
    assert second["next_cursor"] is None


async def test_a_deleted_document_is_gone_from_bucket_and_index(library: Library, client: httpx.AsyncClient) -> None:
    await library.ingested("a.txt", b"words")
    assert (await client.delete("/v1/documents/a.txt")).status_code == 204
    assert (await client.get("/v1/documents/a.txt")).status_code == 404
    assert await library.texts("a.txt") == []
    assert [head async for head in library.objects.list("documents/")] == []
    assert (await client.delete("/v1/documents/a.txt")).status_code == 404


async def test_an_upload_of_the_same_bytes_leaves_a_searchable_document_searchable(
    library: Library, client: httpx.AsyncClient
) -> None:
    await library.ingested("a.txt", b"words")
    assert (await client.put("/v1/documents/a.txt", content=b"words")).json()["state"] == "searchable"


async def test_a_quarantined_document_uploaded_again_is_tried_again(
    library: Library, client: httpx.AsyncClient
) -> None:
    await library.ingested("a.zip", b"PK\x03\x04 no archive")
    assert (await library.state("a.zip"))[0] == "rejected"
    assert (await client.put("/v1/documents/a.zip", content=b"PK\x03\x04 no archive")).json()["state"] == "queued"


async def test_an_empty_upload_is_refused(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/documents/a.txt", content=b"")).status_code == 422


@pytest.mark.parametrize("name", ["..%2fx", "a%2F..%2Fb", "a%00b", "a%1bb", "a%5Cb", "a//b"])
async def test_an_upload_with_a_bad_name_is_refused(client: httpx.AsyncClient, name: str) -> None:
    assert (await client.put(f"/v1/documents/{name}", content=b"x")).status_code == 422


async def test_an_upload_above_the_limit_is_refused_before_it_is_read(client: httpx.AsyncClient) -> None:
    answer = await client.put(
        "/v1/documents/a.txt", headers={"content-length": str(DOCUMENT_BYTES_MAX + 1)}, content=b"x"
    )
    assert answer.status_code == 413


async def test_a_name_is_found_whichever_way_its_letters_are_composed(client: httpx.AsyncClient) -> None:
    assert (await client.put("/v1/documents/u\u0308ber.txt", content=b"x")).json()["name"] == "\u00fcber.txt"
    for spelled in ("u\u0308ber.txt", "\u00fcber.txt"):
        assert (await client.get(f"/v1/documents/{spelled}")).status_code == 200
        answer = await client.get(f"/v1/documents/{spelled}", params={"content": "original"})
        assert answer.content == b"x"


@pytest.mark.parametrize(
    "name", ["u\u0308ber.txt", "family \U0001f468\u200d\U0001f469.txt", "back\ufffd.txt"], ids=ascii
)
async def test_what_is_put_into_the_bucket_under_a_name_no_upload_gets_is_a_document_all_the_same(
    library: Library, client: httpx.AsyncClient, name: str
) -> None:
    await library.ingested(name, b"words")
    assert await library.state(name) == ("searchable", "")
    lost = await reconcile_documents(library.database, library.objects, datetime.now(UTC))
    assert (lost.created, lost.removed) == ((), ())
    assert (await client.get(f"/v1/documents/{name}", params={"content": "original"})).content == b"words"
    assert (await client.delete(f"/v1/documents/{name}")).status_code == 204
    assert [head async for head in library.objects.list("documents/")] == []


async def test_a_name_longer_than_a_store_takes_is_the_callers_fault(client: httpx.AsyncClient) -> None:
    assert (await client.put(f"/v1/documents/{'a' * 256}", content=b"x")).status_code == 422


@pytest.mark.parametrize("path", ["/a%00b", "?cursor=%00", "?state=%00"])
async def test_reading_what_no_name_can_be_is_the_callers_fault(client: httpx.AsyncClient, path: str) -> None:
    assert (await client.get(f"/v1/documents{path}")).status_code == 422
