"""The control database: its role and database, its migrations, the tenants' template, the operator's first key.

`python -m shared.host.control` does all of it, each start, and changes only what is missing.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from urllib.parse import urlsplit

from shared.errors import Problem
from shared.host.home import Home, find_home
from shared.host.stack import ADMIN_URL
from shared.ids import PLATFORM
from shared.settings import Settings


async def prepare_control_database(admin_url: str, name: str, password: str) -> str:
    """Create the platform's role and database where they are missing, and migrate. Returns the role's address."""
    url = await prepare_server(admin_url, name, password)
    await migrate(url)
    return url


async def prepare_server(admin_url: str, name: str, password: str) -> str:
    """What the platform needs of a PostgreSQL server: a role, a database of that name, pgvector. Returns the address.

    The role is no superuser: it may create databases and roles. pgvector asks for a superuser, so the server's
    own template gets it once, and every database made later has it.
    """
    from shared.postgres import address, open_connection
    from shared.postgres.connections import quoted

    async with open_connection(admin_url) as server:
        exists = await server.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", name)
        verb = "ALTER" if exists else "CREATE"
        await server.execute(f'{verb} ROLE "{name}" LOGIN CREATEROLE CREATEDB PASSWORD {quoted(password)}')
        await server.execute(f"ALTER ROLE \"{name}\" SET createrole_self_grant = 'set, inherit'")
    async with open_connection(address(admin_url, database="template1")) as template:
        await template.execute("CREATE EXTENSION IF NOT EXISTS vector")
    async with open_connection(admin_url) as server:
        if not await server.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            await server.execute(f'CREATE DATABASE "{name}" OWNER "{name}"')
        for database in (name, "postgres", "template1"):  # a tenant's role can connect to its own database only
            await server.execute(f'REVOKE CONNECT ON DATABASE "{database}" FROM PUBLIC')
    return address(admin_url, database=name, user=name, password=password)


async def holds_tables(settings: Settings, administrator: str) -> bool:
    """Whether the control database is there and was migrated once."""
    from shared.postgres import address, open_connection

    url, name = settings.postgres_url, urlsplit(settings.postgres_url).path.lstrip("/")
    if administrator:
        async with open_connection(administrator) as server:
            if not await server.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
                return False
        url = address(administrator, database=name)
    async with open_connection(url) as database:
        return bool(await database.fetchval("SELECT to_regclass('schema_migrations') IS NOT NULL"))


async def migrate(url: str) -> None:
    """The control database up to date, and the template for new tenants."""
    from shared.tenancy import Servers, build_template, migrate_control

    await migrate_control(url)
    await build_template(Servers(url))


async def migrate_old_tenants(settings: Settings) -> list[str]:
    """Bring every tenant up to date. Returns those that could not be, which keeps none of the others from starting."""
    from shared.postgres import ControlDatabase, Databases
    from shared.tenancy import Servers
    from shared.tenancy.waves import AT_ONCE, migrate_tenants

    databases = Databases(connections_max=2 * AT_ONCE)  # each tenant's turn holds one and needs another
    servers = Servers(settings.postgres_url, settings.postgres_servers)
    try:
        return list((await migrate_tenants(ControlDatabase(settings.postgres_url, databases), servers)).failed)
    finally:
        await databases.close()


async def prepare_servers(settings: Settings) -> dict[str, str]:
    """The template on every further server. Returns why it could not be made, by server."""
    from shared.tenancy import Servers, build_templates

    return await build_templates(Servers(settings.postgres_url, settings.postgres_servers))


async def operator_key(settings: Settings, kept: str) -> str:
    """The kept operator's key if the database still knows it, else a fresh one."""
    from shared.postgres import ControlDatabase, Databases
    from shared.secrets import read_key
    from shared.virtual_keys import VirtualKeys, insert_key, new_key

    pepper = read_key(settings, "pepper")
    databases = Databases(connections_max=2)
    control = ControlDatabase(settings.postgres_url, databases)
    try:
        if kept and await VirtualKeys(control, pepper).caller(kept) is not None:
            return kept
        made = new_key(pepper)
        async with control.transaction() as transaction:
            await insert_key(
                transaction, made, tenant=PLATFORM, name="operator", role="operator", created_by="host:first-start"
            )
            await transaction.audit("keys.create", f"key/{made.id}", actor="host:first-start", tenant=PLATFORM)
        return made.text
    finally:
        await databases.close()


async def prepare(settings: Settings, administrator: str, home: Home) -> dict[str, list[str] | dict[str, str]]:
    """All of it, for a server of which `administrator` is the superuser's address; without one the role, its database
    and pgvector must be there. Returns the tenants and the servers that could not be brought up to date.
    """
    if administrator:
        own = urlsplit(settings.postgres_url)
        await prepare_control_database(administrator, own.path.lstrip("/"), own.password or "")
    else:
        await migrate(settings.postgres_url)
    unprepared = await prepare_servers(settings)
    failed = await migrate_old_tenants(settings)
    keys = home.read("secrets/keys.json")
    key = await operator_key(settings, str(keys.get("admin_key", "")))
    if key != keys.get("admin_key"):
        home.write("secrets/keys.json", {**keys, "admin_key": key})
    return {"failed_tenants": failed, "failed_servers": unprepared}


async def main() -> dict[str, list[str] | dict[str, str]]:
    return await prepare(Settings.from_environment(), os.environ.get(ADMIN_URL, ""), find_home())


def emit(**message: object) -> None:
    sys.stdout.write(json.dumps(message) + "\n")


if __name__ == "__main__":
    try:
        outcome = asyncio.run(main())
        for one in outcome["failed_tenants"] if isinstance(outcome["failed_tenants"], list) else []:
            emit(event="warning", text=f"tenant {one} could not be migrated; see `dcoder logs control`")
        for server, reason in outcome["failed_servers"].items() if isinstance(outcome["failed_servers"], dict) else ():
            emit(event="warning", text=f"PostgreSQL server {server} takes no tenants: {reason}")
        emit(event="result", **outcome)
    except Problem as problem:
        emit(event="result", message=problem.detail)
        sys.exit(1)
