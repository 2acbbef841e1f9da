"""Creating and deleting a tenant, as steps that can be killed anywhere and run again.

`CREATE DATABASE` cannot run inside a transaction, so neither saga can be one. Each step can tell whether it was done
already, and does nothing then, so a saga begins anew at its first step and no progress has to be kept.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Protocol

from shared.errors import Conflict, Unavailable
from shared.ids import PLATFORM, TenantId
from shared.postgres import (
    ControlDatabase,
    ControlTransaction,
    TenantDatabase,
    address,
    drop_database,
    quoted,
    scram_verifier,
)
from shared.secrets import DataKey, new_data_key, wrap
from shared.secrets.envelope import seal, unseal
from shared.settings import DEFAULT_SERVER
from shared.tenancy.migrations import apply, available, newest
from shared.tenancy.servers import Servers, connected, opened
from shared.tenancy.template import build_template, grant_data

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    import asyncpg

    from shared.objects import ObjectKey

ROLE_CONNECTIONS_MAX = 20
ROLE_LIMITS = {"statement_timeout": "60s", "idle_in_transaction_session_timeout": "60s", "lock_timeout": "20s"}
PASSWORD_PURPOSE = "role-password"  # noqa: S105  names a place, not a password


class Buckets(Protocol):
    """What the sagas need of the object store."""

    async def ensure_bucket(self, tenant: TenantId) -> None: ...
    async def destroy_bucket(self, tenant: TenantId) -> None: ...

    async def make_key(self, tenant: TenantId) -> ObjectKey | None:
        """A new key of the tenant's bucket alone, in place of all that were made before; None where none can be."""

    async def end_key(self, tenant: TenantId) -> None:
        """End what `make_key` made, if anything. Safe to call again."""

    async def accepts(self, tenant: TenantId, key: ObjectKey) -> bool:
        """Whether the store lets this key into the tenant's bucket."""

    async def shown(self, key: ObjectKey) -> list[str]:
        """The buckets that the store lists for this key."""


class Forgetful(Protocol):
    """A store that keeps something for every tenant and can forget one: the cache, the event stream."""

    async def forget(self, tenant: TenantId) -> None: ...


@dataclass(frozen=True)
class Ground:
    """What the steps work on."""

    control: ControlDatabase
    servers: Servers
    root_key: bytes = field(repr=False)
    buckets: Buckets
    database_of: Callable[[TenantId], Awaitable[TenantDatabase]]
    forgetful: Sequence[Forgetful] = ()

    def on(self, server: str) -> AbstractAsyncContextManager[asyncpg.Connection]:
        """A connection to that server, for statements about its roles and databases."""
        return connected(self.control.databases, self.servers.address(server))


Step = Callable[[Ground, TenantId], Awaitable[None]]


@dataclass(frozen=True)
class Saga:
    """Named steps in their order, and the states of a tenant in which they may run. One without a row may always."""

    steps: tuple[tuple[str, Step], ...]
    states: frozenset[str]


def database_name(tenant: TenantId) -> str:
    return f"t_{tenant.replace('-', '_')}"


async def server_of(ground: Ground, tenant: TenantId) -> str:
    """The server that the tenant's row names."""
    found = await ground.control.fetchval("SELECT server FROM tenants WHERE id = $1", tenant)
    return str(found or DEFAULT_SERVER)


async def make_row(ground: Ground, tenant: TenantId) -> None:
    """On the default server, unless the row was made before on another one."""
    await insert_row(ground, tenant, DEFAULT_SERVER)


async def insert_row(ground: Ground, tenant: TenantId, server: str) -> None:
    await ground.control.execute(
        "INSERT INTO tenants (id, state, server, database, role) VALUES ($1, 'creating', $2, $3, $3)"
        " ON CONFLICT (id) DO NOTHING",
        tenant,
        server,
        database_name(tenant),
    )


async def make_role(ground: Ground, tenant: TenantId) -> None:
    await make_role_on(ground, tenant, await server_of(ground, tenant))


async def make_role_on(ground: Ground, tenant: TenantId, server_name: str) -> None:
    """The password is stored before the role has it, so a role never has one that nobody knows.

    The server is told its SCRAM verifier only: a statement that fails stands in the server's log as it was sent.
    """
    await ground.control.execute(
        "INSERT INTO role_passwords (tenant, sealed) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        tenant,
        seal(DataKey(tenant, ground.root_key), PASSWORD_PURPOSE, secrets.token_urlsafe(24).encode()),
    )
    password = await role_password(ground, tenant)
    role, verifier = database_name(tenant), quoted(scram_verifier(password, salt=secrets.token_bytes(16)))
    async with ground.on(server_name) as server, server.transaction():
        exists = await server.fetchval("SELECT true FROM pg_roles WHERE rolname = $1", role)
        verb = "ALTER" if exists else "CREATE"
        await server.execute(f'{verb} ROLE "{role}" LOGIN CONNECTION LIMIT {ROLE_CONNECTIONS_MAX} PASSWORD {verifier}')
        await server.execute(f'GRANT "{role}" TO CURRENT_USER WITH INHERIT TRUE, SET TRUE')
        for setting, value in ROLE_LIMITS.items():
            await server.execute(f"ALTER ROLE \"{role}\" SET {setting} = '{value}'")


async def make_database(ground: Ground, tenant: TenantId) -> None:
    """Cloned by copying blocks through the log: the template is small, and no checkpoint is forced.

    The row's version is the template's, noted before the clone is made: an upgrade may come before the tenant is ready.
    """
    name, server_name = database_name(tenant), await server_of(ground, tenant)
    async with ground.on(server_name) as server:
        if await server.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            return
    template = await note_template(ground, tenant)
    if template is None:
        await build_template(ground.servers, server_name)
        template = await note_template(ground, tenant)
    async with ground.on(server_name) as server:
        await clone(server, name, str(template))


async def note_template(ground: Ground, tenant: TenantId) -> str | None:
    """The name of the template on the tenant's server; its version is noted in the tenant's row."""
    found = await ground.control.fetchval(
        "UPDATE tenants SET version = templates.version FROM templates"
        " WHERE id = $1 AND templates.server = tenants.server RETURNING templates.database",
        tenant,
    )
    return None if found is None else str(found)


async def clone(server: asyncpg.Connection, name: str, template: str) -> None:
    await server.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" OWNER "{name}" STRATEGY wal_log')


async def make_grants(ground: Ground, tenant: TenantId) -> None:
    await make_grants_on(ground, tenant, await server_of(ground, tenant))


async def make_grants_on(ground: Ground, tenant: TenantId, server_name: str) -> None:
    """Neither grants nor their absence are copied from a template: PUBLIC could connect until this is done."""
    name = database_name(tenant)
    async with ground.on(server_name) as server, server.transaction():
        await server.execute(f'REVOKE ALL ON DATABASE "{name}" FROM PUBLIC')
        await server.execute(f'GRANT CONNECT ON DATABASE "{name}" TO "{name}"')


async def make_data_key(ground: Ground, tenant: TenantId) -> None:
    await ground.control.execute(
        "INSERT INTO data_keys (tenant, wrapped) VALUES ($1, $2) ON CONFLICT DO NOTHING",
        tenant,
        wrap(ground.root_key, new_data_key(tenant)),
    )


async def make_bucket(ground: Ground, tenant: TenantId) -> None:
    await ground.buckets.ensure_bucket(tenant)


async def make_genesis(ground: Ground, tenant: TenantId) -> None:
    """The tenant's first audit record, once."""
    database = await ground.database_of(tenant)
    async with database.transaction() as transaction:
        if await transaction.first_time("tenancy.genesis", tenant):
            await transaction.audit("tenancy.create", f"tenant/{tenant}", actor="platform")


async def make_ready(ground: Ground, tenant: TenantId) -> None:
    """Up to date first: the clone's template may be older than this code."""
    row = await ground.control.fetchrow("SELECT server, version FROM tenants WHERE id = $1", tenant)
    if row is not None and row["version"] < newest("tenant"):
        async with opened(ground.servers.database(row["server"], database_name(tenant))) as connection:
            await apply(connection, available("tenant"))
            await grant_data(connection)
    await ground.control.execute(
        "UPDATE tenants SET state = 'ready', version = greatest(version, $2), changed_at = now()"
        " WHERE id = $1 AND state = 'creating'",
        tenant,
        newest("tenant"),
    )


CREATION = Saga(
    (
        ("row", make_row),
        ("role", make_role),
        ("database", make_database),
        ("grants", make_grants),
        ("data-key", make_data_key),
        ("bucket", make_bucket),
        ("genesis", make_genesis),
        ("ready", make_ready),
    ),
    states=frozenset({"creating", "ready", "suspended"}),
)


async def close_doors(ground: Ground, tenant: TenantId) -> None:
    """From here on the tenant's keys are refused, and nothing new begins."""
    await ground.control.execute("UPDATE tenants SET state = 'deleting', changed_at = now() WHERE id = $1", tenant)
    await ground.control.execute("DELETE FROM virtual_keys WHERE tenant = $1", tenant)
    await ground.control.execute("DELETE FROM dedications WHERE tenant = $1", tenant)
    await ground.control.execute("DELETE FROM own_functions WHERE tenant = $1", tenant)
    await ground.control.execute("DELETE FROM quotas WHERE tenant = $1", tenant)
    await ground.control.execute("DELETE FROM own_prices WHERE tenant = $1", tenant)
    await ground.control.execute("DELETE FROM allowed_models WHERE tenant = $1", tenant)


async def servers_of(ground: Ground, tenant: TenantId) -> list[str]:
    """Every server on which something of the tenant may be: one that is being moved has two."""
    row = await ground.control.fetchrow("SELECT server, moving_to, leftover FROM tenants WHERE id = $1", tenant)
    return sorted({name for name in row.values() if name}) if row is not None else []


async def destroy_database(ground: Ground, tenant: TenantId) -> None:
    for server in await servers_of(ground, tenant):
        await drop_database_on(ground, tenant, server)


async def drop_role(ground: Ground, tenant: TenantId) -> None:
    for server in await servers_of(ground, tenant):
        await drop_role_on(ground, tenant, server)


async def drop_database_on(ground: Ground, tenant: TenantId, server_name: str) -> None:
    async with opened(ground.servers.address(server_name)) as server:
        await drop_database(server, database_name(tenant))


async def drop_role_on(ground: Ground, tenant: TenantId, server_name: str) -> None:
    async with ground.on(server_name) as server:
        await server.execute(f'DROP ROLE IF EXISTS "{database_name(tenant)}"')


async def end_object_key(ground: Ground, tenant: TenantId) -> None:
    """Before the bucket: a process that still runs puts nothing into it any more."""
    from shared.tenancy import object_keys

    await object_keys.destroy(ground, tenant)


async def drop_bucket(ground: Ground, tenant: TenantId) -> None:
    await ground.buckets.destroy_bucket(tenant)


async def forget_elsewhere(ground: Ground, tenant: TenantId) -> None:
    """Cached values and undelivered events go too: a tenant of the same name must find nothing of this one."""
    for store in ground.forgetful:
        await store.forget(tenant)


async def destroy_keys(ground: Ground, tenant: TenantId) -> None:
    """Without its data key, every sealed secret of the tenant is noise, in backups too."""
    await ground.control.execute("DELETE FROM data_keys WHERE tenant = $1", tenant)
    await ground.control.execute("DELETE FROM role_passwords WHERE tenant = $1", tenant)


async def leave_tombstone(ground: Ground, tenant: TenantId) -> None:
    async with ground.control.transaction() as transaction:
        for table in ("dead_letters", "idempotency_keys", "audit_outbox", "schedule_ticks"):
            await transaction.execute(f"DELETE FROM {table} WHERE tenant = $1", tenant)
        gone = await transaction.fetchval("DELETE FROM tenants WHERE id = $1 RETURNING true", tenant)
        if gone:
            await transaction.audit("tenancy.delete", f"tenant/{tenant}", actor="platform", tenant=PLATFORM)


DELETION = Saga(
    (
        ("doors", close_doors),
        ("database-gone", destroy_database),
        ("role-gone", drop_role),
        ("object-key-gone", end_object_key),
        ("bucket-gone", drop_bucket),
        ("rest-gone", forget_elsewhere),
        ("keys-gone", destroy_keys),
        ("tombstone", leave_tombstone),
    ),
    states=frozenset({"creating", "ready", "moving", "suspended", "deleting"}),
)


async def run(ground: Ground, tenant: TenantId, saga: Saga) -> None:
    """Run the steps in their order. One saga a tenant at a time; a second caller is told to wait.

    Raises `Conflict` when the tenant's state does not allow it: what is being deleted is not created at the same time.
    """
    async with exclusively(ground.control, tenant):
        state = await ground.control.fetchval("SELECT state FROM tenants WHERE id = $1", tenant)
        if state is not None and state not in saga.states:
            raise Conflict(f"tenant {tenant!r} is {state}; wait until that has ended, then create it again")
        for _, step in saga.steps:
            await step(ground, tenant)


class AtWork(Unavailable):
    """Another process creates, moves, migrates or deletes the tenant at this moment."""


@asynccontextmanager
async def exclusively(control: ControlDatabase, tenant: TenantId) -> AsyncIterator[ControlTransaction]:
    """Nobody else creates, deletes, migrates or moves the tenant while the transaction that is given lasts."""
    async with control.transaction() as transaction:
        free = await transaction.fetchval(
            "SELECT pg_try_advisory_xact_lock(hashtextextended($1, 5))", f"tenant:{tenant}"
        )
        if not free:
            raise AtWork(f"tenant {tenant!r} is being created, moved or deleted at this moment", retry_after_s=1)
        yield transaction


async def role_password(ground: Ground, tenant: TenantId) -> str:
    sealed = await ground.control.fetchval("SELECT sealed FROM role_passwords WHERE tenant = $1", tenant)
    return opened_password(ground, tenant, bytes(sealed))


def opened_password(ground: Ground, tenant: TenantId, sealed: bytes) -> str:
    return unseal(DataKey(tenant, ground.root_key), PASSWORD_PURPOSE, sealed).decode()


def tenant_address(ground: Ground, tenant: TenantId, *, server: str, password: str) -> str:
    name = database_name(tenant)
    return address(ground.servers.address(server), database=name, user=name, password=password)
