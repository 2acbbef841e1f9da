"""Documents in a process of one tenant, which holds the key of that tenant's bucket and nothing of the platform's."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime
from secrets import token_hex
from uuid import uuid4

import httpx
import pytest

from shared.errors import Fault
from shared.events import CloudEvent, to_http
from shared.events.notifications import uploaded
from shared.events.subjects import SCHEDULE_DUE
from shared.function import catalog
from shared.function.app import Application, build
from shared.function.process import Process
from shared.identity import Caller, Tokens
from shared.ids import TenantId
from shared.object_keys import buckets_shown
from shared.objects import ObjectKey, ObjectStore, TenantObjects
from shared.postgres import ControlDatabase, TenantDatabase
from shared.tenancy import TenantRegistry
from tests.fixtures.dedicated import dedicate, dedicated_process
from tests.fixtures.waiting import until

NAME = "knowledge-documents"
MARKDOWN = b"# Lost property\n\nThe harbour office keeps a lost umbrella for 41 days.\n"


@dataclass
class Pair:
    """The pooled process, a client of it, and the tenant's own, which alone serves the tenant."""

    tenant: TenantId
    pooled: Application
    client: httpx.AsyncClient
    own: Application
    database: TenantDatabase
    objects: TenantObjects
    """As the platform reaches them."""

    async def call(self, method: str, path: str, content: bytes = b"") -> httpx.Response:
        tokens = await self.pooled.process.get(Tokens)
        token = tokens.mint(Caller(self.tenant, "key:t", "admin", "key"), audience=NAME)
        headers = {"authorization": f"Bearer {token}", "content-type": "text/markdown"}
        return await self.client.request(method, f"/v1/documents{path}", headers=headers, content=content)

    async def deliver(self, event: CloudEvent) -> int:
        headers, content = to_http((await self.pooled.process.get(Tokens)).sign_event(event))
        return (await self.client.post(f"/events/{NAME}", headers=headers, content=content)).status_code

    async def state(self, name: str) -> str:
        return str(await self.database.fetchval("SELECT state FROM documents WHERE name = $1", name))


@pytest.fixture
async def pair(process: Process, control: ControlDatabase, registry: TenantRegistry) -> AsyncIterator[Pair]:
    tenant = (await registry.create(f"own-docs-{token_hex(4)}")).id
    async with control.transaction() as transaction:
        await registry.ensure_object_key(transaction, tenant)
    (deployable,) = catalog.select([NAME])
    pooled = build([deployable], process.settings)
    transport = httpx.ASGITransport(pooled, raise_app_exceptions=False)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://platform") as client,
        dedicated_process(process, tenant, [deployable]) as (own, address),
    ):
        await dedicate(control, tenant, NAME, address)
        store = await process.get(ObjectStore)
        yield Pair(tenant, pooled, client, own, await registry.database(tenant), store.tenant(tenant))
    await pooled.process.close()
    await registry.delete(tenant)


async def test_an_upload_its_event_and_reading_it_are_the_processs_own(pair: Pair) -> None:
    stored = await pair.call("PUT", "/lost.md", MARKDOWN)
    assert (stored.status_code, stored.json()["state"]) == (202, "queued"), stored.text
    head = await pair.objects.head("documents/lost.md")
    event = uploaded(pair.tenant, "documents/lost.md", etag=head.etag, size=head.size, at=datetime.now(UTC))

    assert await pair.deliver(event) == 204

    await until(lambda: searchable(pair, "lost.md"))
    assert (await pair.call("GET", "/lost.md?content=original")).content == MARKDOWN
    assert "41 days" in (await pair.call("GET", "/lost.md?content=text")).text
    assert pair.own.process.opened(ObjectStore) is not None
    assert (await pair.call("DELETE", "/lost.md")).status_code == 204
    assert [one async for one in pair.objects.list()] == []


async def searchable(pair: Pair, name: str) -> bool:
    return await pair.state(name) == "searchable"


async def test_its_schedule_finds_in_the_process_what_hints_missed(pair: Pair) -> None:
    await pair.objects.put("documents/missed.md", MARKDOWN, "text/markdown")
    due = {"function": NAME, "operation": "reconcile", "nominal": datetime.now(UTC).isoformat()}
    tick = CloudEvent(str(uuid4()), "/schedules", SCHEDULE_DUE, "x", pair.tenant, datetime.now(UTC), due)

    async def ingested() -> bool:
        head = await pair.objects.head("documents/missed.md")
        hint = uploaded(pair.tenant, "documents/missed.md", etag=head.etag, size=head.size, at=datetime.now(UTC))
        return await pair.deliver(hint) == 204 and await searchable(pair, "missed.md")

    assert await pair.deliver(tick) == 204
    assert pair.own.process.opened(ObjectStore) is not None
    await until(ingested)


async def test_what_it_holds_opens_its_own_bucket_alone(pair: Pair, other_tenant: TenantId, process: Process) -> None:
    settings, platform = pair.own.process.settings, process.settings
    assert platform.objects_secret_key not in str(vars(settings))
    assert platform.objects_access_key != settings.objects_access_key
    store = ObjectStore(settings)
    try:
        await store.tenant(pair.tenant).put("documents/mine", b"1", "text/plain")
        theirs = store.tenant(other_tenant)
        for tried in (
            theirs.put("documents/x", b"1", "text/plain"),
            theirs.get("documents/x", 10),
            theirs.delete("documents/x"),
            theirs.destroy_bucket(),
            store.tenant(TenantId("brand-new")).ensure_bucket(),
            store.tenant(pair.tenant).destroy_bucket(),
        ):
            with pytest.raises(Fault, match="refuses this process's credentials"):
                await tried
    finally:
        await store.close()
    key = ObjectKey(settings.objects_access_key, settings.objects_secret_key)
    assert await asyncio.to_thread(buckets_shown, settings.objects_url, key) == [f"dcoder-{pair.tenant}"]


async def test_a_process_that_is_gone_delays_events_and_loses_none(
    pair: Pair, control: ControlDatabase, process: Process
) -> None:
    await control.execute("UPDATE dedications SET address = 'http://127.0.0.1:9' WHERE tenant = $1", pair.tenant)
    head = await pair.objects.put("documents/late.md", MARKDOWN, "text/markdown")
    event = uploaded(pair.tenant, "documents/late.md", etag=head.etag, size=head.size, at=datetime.now(UTC))
    await asyncio.sleep(1)  # the pooled function goes by what it read within the last second

    assert await pair.deliver(event) == 503
    assert await pair.state("late.md") == "None"
