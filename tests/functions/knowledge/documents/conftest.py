"""A tenant with database and bucket on the real servers, and what ingests its documents."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass

import pytest

from functions.knowledge.documents.ingest import Ingest
from functions.knowledge.documents.parsing import Parsers
from shared.embeddings import Embeddings
from shared.function.resources import TenantBuckets
from shared.ids import TenantId
from shared.objects import ObjectHead, ObjectStore, TenantObjects
from shared.postgres import ControlDatabase, Databases, TenantDatabase
from shared.secrets import read_key
from shared.settings import Settings
from shared.tenancy import TenantRegistry


@dataclass(frozen=True)
class Library:
    """One tenant's documents."""

    tenant: TenantId
    database: TenantDatabase
    objects: TenantObjects
    ingest: Ingest

    async def put(self, name: str, content: bytes) -> ObjectHead:
        return await self.objects.put(f"documents/{name}", content, "application/octet-stream")

    async def ingested(self, name: str, content: bytes, event_id: str = "") -> None:
        await self.put(name, content)
        await self.ingest.converge(name, event_id or secrets.token_hex(8))

    async def state(self, name: str) -> tuple[str, str]:
        row = await self.database.fetchrow("SELECT state, reason FROM documents WHERE name = $1", name)
        return (row["state"], row["reason"]) if row else ("absent", "")

    async def texts(self, name: str) -> list[str]:
        rows = await self.database.fetch(
            "SELECT c.text FROM chunks c JOIN documents d ON d.id = c.document_id WHERE d.name = $1 ORDER BY c.ordinal",
            name,
        )
        return [row["text"] for row in rows]


@pytest.fixture(scope="session")
async def databases() -> AsyncIterator[Databases]:
    opened = Databases(connections_max=16)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def store(settings: Settings) -> AsyncIterator[ObjectStore]:
    opened = ObjectStore(settings)
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def embeddings() -> AsyncIterator[Embeddings]:
    opened = Embeddings()
    yield opened
    await opened.close()


@pytest.fixture(scope="session")
async def parsers() -> AsyncIterator[Parsers]:
    opened = Parsers()
    yield opened
    await opened.close()


@pytest.fixture
async def library(
    settings: Settings, databases: Databases, store: ObjectStore, embeddings: Embeddings, parsers: Parsers
) -> AsyncIterator[Library]:
    control = ControlDatabase(settings.postgres_url, databases)
    registry = TenantRegistry(control, read_key(settings, "root"), buckets=TenantBuckets(store, settings))
    tenant = TenantId(f"docs-{secrets.token_hex(4)}")
    await registry.create(tenant)
    objects = store.tenant(tenant)
    database = await registry.database(tenant)
    yield Library(tenant, database, objects, Ingest(database, objects, embeddings, parsers, patience_s=0))
    await registry.delete(tenant)
