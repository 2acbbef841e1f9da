"""The template that a tenant's database is cloned from: the newest schema, no connections, replaced as a whole.

Each server has its own. A new schema makes a new template under a new name; one statement then switches to it.
Cloning needs a source without connections, so nothing ever connects to a finished template.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from shared.errors import Fault, Problem
from shared.postgres import drop_database, open_connection
from shared.settings import DEFAULT_SERVER
from shared.tenancy.migrations import apply, available, newest
from shared.tenancy.servers import Servers, opened

if TYPE_CHECKING:
    import asyncpg

BUILD_LOCK = 4_242_002
DATA_GRANTS = """
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO PUBLIC;
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO PUBLIC;
REVOKE ALL ON schema_migrations FROM PUBLIC;
"""
"""Only the tenant's role and the platform's can connect, so PUBLIC is that one tenant. Tables stay the platform's."""
FORMER = """
SELECT datname FROM pg_database
 WHERE datname ~ '^tpl_[0-9]+_[0-9a-f]{10}$' AND datdba = current_user::regrole
   AND datname <> $1
"""
FENCE = """
REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON ALL TABLES IN SCHEMA public FROM PUBLIC;
REVOKE USAGE, UPDATE ON ALL SEQUENCES IN SCHEMA public FROM PUBLIC;
"""
APPEND_ONLY = (
    "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename IN ('audit_log', 'audit_checkpoints')"
)


def wanted_name() -> str:
    """The name says what is in it, so a template that exists is the right one."""
    parts = (*(migration.sql for migration in available("tenant")), DATA_GRANTS)
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    return f"tpl_{newest('tenant')}_{digest[:10]}"


async def build_template(servers: Servers, server: str = DEFAULT_SERVER) -> str:
    """Make that server's template for the newest schema unless it has it, or a newer release's. Returns its name.

    The one before stays until the sweep: a clone of it may be under way. Raises `Unavailable`, `Fault`.
    """
    name = wanted_name()
    async with open_connection(servers.control) as control:
        if kept := await current(control, servers, server, name):
            return kept
        async with control.transaction():
            await control.execute("SELECT pg_advisory_xact_lock($1, hashtext($2))", BUILD_LOCK, server)
            kept = await current(control, servers, server, name)
            if not kept:
                await rebuild(servers, server, name)
                await control.execute(
                    "INSERT INTO templates (server, database, version) VALUES ($1, $2, $3)"
                    " ON CONFLICT (server) DO UPDATE SET database = excluded.database, version = excluded.version",
                    server,
                    name,
                    newest("tenant"),
                )
    return kept or name


async def build_templates(servers: Servers) -> dict[str, str]:
    """Make the template on every server. Returns why it could not be made, by server: one keeps no other waiting."""
    failed = {}
    for server in servers.names:
        try:
            await build_template(servers, server)
        except Problem as failure:
            failed[server] = failure.detail
    return failed


async def current(control: asyncpg.Connection, servers: Servers, server: str, wanted: str) -> str:
    """The template in use if it is there and need not be replaced, else an empty text."""
    row = await control.fetchrow("SELECT database, version FROM templates WHERE server = $1", server)
    if row is None or (row["database"] != wanted and row["version"] <= newest("tenant")):
        return ""
    async with opened(servers.address(server)) as connection:
        there = await connection.fetchval("SELECT true FROM pg_database WHERE datname = $1", row["database"])
    return str(row["database"]) if there else ""


async def drop_former(servers: Servers, server: str) -> list[str]:
    """Drop that server's templates that are not in use. Returns their names; none while one is being built."""
    async with open_connection(servers.control) as control, control.transaction():
        if not await control.fetchval("SELECT pg_try_advisory_xact_lock($1, hashtext($2))", BUILD_LOCK, server):
            return []
        used = await control.fetchval("SELECT database FROM templates WHERE server = $1", server)
        if used is None:
            return []
        async with opened(servers.address(server)) as connection:
            names = [str(row["datname"]) for row in await connection.fetch(FORMER, used)]
            for name in names:
                await drop_database(connection, name)
        return names


async def rebuild(servers: Servers, server: str, name: str) -> None:
    async with opened(servers.address(server)) as connection:
        await drop_database(connection, name)  # what a killed build left behind
        await connection.execute(f'CREATE DATABASE "{name}"')
        await connection.execute(f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC')
    async with opened(servers.database(server, name)) as connection:
        await fill(connection, server)
    async with opened(servers.address(server)) as connection:
        await connection.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false IS_TEMPLATE true')


async def add_vectors(connection: asyncpg.Connection, server: str) -> None:
    """Raises `Fault` where pgvector is missing and cannot be added: that takes a superuser."""
    if await connection.fetchval("SELECT true FROM pg_extension WHERE extname = 'vector'"):
        return
    if not await connection.fetchval("SELECT rolsuper FROM pg_roles WHERE rolname = current_user"):
        raise Fault(
            f"the template1 of PostgreSQL server {server!r} has no pgvector, which its databases get from there. "
            'As a superuser of that server: psql -d template1 -c "CREATE EXTENSION vector"'
        )
    await connection.execute("CREATE EXTENSION vector")


async def fill(connection: asyncpg.Connection, server: str = DEFAULT_SERVER) -> None:
    await add_vectors(connection, server)
    await apply(connection, available("tenant"))
    await grant_data(connection)


async def grant_data(connection: asyncpg.Connection) -> None:
    """Let the tenant's role work with rows, not with tables; sealed audit records can be added and read only."""
    await connection.execute(DATA_GRANTS)
    for row in await connection.fetch(APPEND_ONLY):
        await connection.execute(f'REVOKE UPDATE, DELETE, TRUNCATE ON "{row["tablename"]}" FROM PUBLIC')


async def fence_data(connection: asyncpg.Connection) -> None:
    """Take back from the tenant's role what changes rows. `grant_data` gives it again."""
    await connection.execute(FENCE)
