"""What tests of moving tenants share: something to move, moves, and where a tenant is."""

from __future__ import annotations

from datetime import UTC, datetime
from urllib.parse import urlsplit

from shared.events import CloudEvent
from shared.ids import TenantId
from shared.postgres import ControlDatabase, TenantDatabase, open_connection
from shared.tenancy import Servers, TenantRegistry
from shared.tenancy.saga import database_name

DOCUMENT = "INSERT INTO documents (name, etag, bytes) VALUES ($1, 'e', 1) RETURNING id"
INDEXED = "INSERT INTO indexed_documents (document_id, version, chunks, terms) VALUES ($1, 1, 1, 1)"
CHUNK = """
INSERT INTO chunks (id, document_id, ordinal, start_at, end_at, heading, text, terms, content_hash)
VALUES ($1, $2, 0, 0, 4, '', $3, 1, '\\x00ff') RETURNING n
"""
VECTOR = """
INSERT INTO chunk_vectors (n, d, embedding)
SELECT $1, 1, array_agg(random())::real[]::halfvec(384) FROM generate_series(1, 384)
"""


async def write_document(database: TenantDatabase, name: str) -> None:
    """A document with a chunk and its vector, an event about it and an audit record."""
    async with database.transaction() as transaction:
        document = await transaction.fetchval(DOCUMENT, name)
        await transaction.execute(INDEXED, document)
        chunk = await transaction.fetchval(CHUNK, f"chunk-{name}", document, "täxt \U0001f600 'quoted'\n\\n")
        await transaction.execute(VECTOR, chunk)
        now = datetime.now(UTC)
        await transaction.emit(CloudEvent(f"of-{name}", "/test", "dcoder.test", name, database.tenant, now, {}))
        await transaction.audit("test.write", f"document/{name}", actor="test")


async def ask(registry: TenantRegistry, tenant: TenantId, server: str) -> None:
    """Note in the tenant's row that it is to move."""
    async with registry.ground.control.transaction() as transaction:
        await registry.begin_move(transaction, tenant, server)


async def move(registry: TenantRegistry, tenant: TenantId, server: str) -> None:
    await ask(registry, tenant, server)
    await registry.move(tenant)


async def call_off(registry: TenantRegistry, tenant: TenantId) -> None:
    async with registry.ground.control.transaction() as transaction:
        await registry.call_off_move(transaction, tenant)


async def port_of(database: TenantDatabase | ControlDatabase) -> int:
    """The port of the server that answers."""
    return int(await database.fetchval("SELECT current_setting('port')"))


def port(servers: Servers, name: str) -> int:
    return urlsplit(servers.address(name)).port or 0


async def traces_on(servers: Servers, name: str, tenant: TenantId) -> list[str]:
    """What a server has of a tenant."""
    async with open_connection(servers.address(name)) as server:
        rows = await server.fetch(
            "SELECT 'database' AS what FROM pg_database WHERE datname = $1"
            " UNION ALL SELECT 'role' FROM pg_roles WHERE rolname = $1",
            database_name(tenant),
        )
        return [str(row["what"]) for row in rows]
