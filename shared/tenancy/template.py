"""The template that a tenant's database is cloned from: the newest schema, no connections, replaced as a whole.

A new schema makes a new template under a new name; one statement then switches to it. Cloning needs a source
without connections, so nothing ever connects to a finished template.
"""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from shared.postgres import address, drop_database, open_connection
from shared.tenancy.migrations import apply, available, newest

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
   AND datname <> (SELECT database FROM template)
"""
APPEND_ONLY = (
    "SELECT tablename FROM pg_tables WHERE schemaname = 'public' AND tablename IN ('audit_log', 'audit_checkpoints')"
)


def wanted_name() -> str:
    """The name says what is in it, so a template that exists is the right one."""
    parts = (*(migration.sql for migration in available("tenant")), DATA_GRANTS)
    digest = hashlib.sha256("".join(parts).encode()).hexdigest()
    return f"tpl_{newest('tenant')}_{digest[:10]}"


async def build_template(dsn: str) -> str:
    """Make the template for the newest schema unless there is that one, or a newer release's. Returns its name.

    The one before stays until the sweep: a clone of it may be under way.
    """
    name = wanted_name()
    async with open_connection(dsn) as control:
        if kept := await current(control, name):
            return kept
        async with control.transaction():
            await control.execute("SELECT pg_advisory_xact_lock($1)", BUILD_LOCK)
            kept = await current(control, name)
            if not kept:
                await rebuild(dsn, name)
                await control.execute(
                    "INSERT INTO template (database, version) VALUES ($1, $2)"
                    " ON CONFLICT (single) DO UPDATE SET database = excluded.database, version = excluded.version",
                    name,
                    newest("tenant"),
                )
    return kept or name


async def current(control: asyncpg.Connection, wanted: str) -> str:
    """The template in use if it need not be replaced, else an empty text."""
    row = await control.fetchrow("SELECT database, version FROM template")
    if row is None or (row["database"] != wanted and row["version"] <= newest("tenant")):
        return ""
    return str(row["database"])


async def drop_former(dsn: str) -> list[str]:
    """Drop the templates that are not in use. Returns their names; none while one is being built."""
    async with open_connection(dsn) as control, control.transaction():
        if not await control.fetchval("SELECT pg_try_advisory_xact_lock($1)", BUILD_LOCK):
            return []
        rows = await control.fetch(FORMER)
        for row in rows:
            await drop(dsn, row["datname"])
        return [str(row["datname"]) for row in rows]


async def rebuild(dsn: str, name: str) -> None:
    await drop(dsn, name)  # what a killed build left behind
    async with open_connection(dsn) as server:
        await server.execute(f'CREATE DATABASE "{name}"')
        await server.execute(f'REVOKE CONNECT ON DATABASE "{name}" FROM PUBLIC')
    async with open_connection(address(dsn, database=name)) as connection:
        await fill(connection)
    async with open_connection(dsn) as server:
        await server.execute(f'ALTER DATABASE "{name}" WITH ALLOW_CONNECTIONS false IS_TEMPLATE true')


async def fill(connection: asyncpg.Connection) -> None:
    await connection.execute("CREATE EXTENSION IF NOT EXISTS vector")
    await apply(connection, available("tenant"))
    await grant_data(connection)


async def grant_data(connection: asyncpg.Connection) -> None:
    """Let the tenant's role work with rows, not with tables; sealed audit records can be added and read only."""
    await connection.execute(DATA_GRANTS)
    for row in await connection.fetch(APPEND_ONLY):
        await connection.execute(f'REVOKE UPDATE, DELETE, TRUNCATE ON "{row["tablename"]}" FROM PUBLIC')


async def drop(dsn: str, name: str) -> None:
    async with open_connection(dsn) as server:
        await drop_database(server, name)
