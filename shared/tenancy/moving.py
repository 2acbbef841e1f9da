"""Moving a tenant to another PostgreSQL server, as steps that can be killed anywhere and run again.

The tenant is read, but not written, while it is copied. Its row says where it is (`server`) and where it goes
(`moving_to`); one statement switches, and everything before it can be done again from the start or called off. What is
left behind is named in the row too (`leftover`), until it is dropped.

    begin     row: ready → moving                    the old server serves everything
    schema    the old database is brought up to date
    role      on the new server, same password
    empty     a fresh clone of the new server's template
    fence     the tenant's role may write no more    the old server serves reads; writes are 503
    copy      every row, counted and compared
    grants    on the new database
    doors     the old database takes no connections  everything is 503, for an instant
    switch    row: moving → ready, on the new server the new server serves everything
    (then)    the old database and role are dropped
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

from shared.errors import Conflict, NotFound, Unavailable
from shared.events import CloudEvent
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlTransaction, drop_database, end_sessions
from shared.postgres.copying import copy_rows
from shared.telemetry import log
from shared.tenancy.dedications import refuse_any
from shared.tenancy.migrations import apply, available
from shared.tenancy.saga import (
    Ground,
    clone,
    database_name,
    drop_database_on,
    drop_role_on,
    exclusively,
    make_grants_on,
    make_role_on,
)
from shared.tenancy.servers import opened
from shared.tenancy.template import build_template, fence_data, grant_data
from shared.tenancy.waves import migrate_on

if TYPE_CHECKING:
    import asyncpg

MOVE_ASKED = "dcoder.tenancy.move"
"""An event of the platform's; its subject is the tenant."""
IDENTITY = """
SELECT system_identifier::text || ' ' || extract(epoch FROM pg_postmaster_start_time())::text FROM pg_control_system()
"""
NOT_COPIED = frozenset({"schema_migrations"})
"""Compared instead: the clone has its own rows."""


@dataclass(frozen=True)
class Move:
    """One tenant's way from one server to another, for as long as `holding` keeps everybody else away from it."""

    tenant: TenantId
    source: str
    target: str
    holding: ControlTransaction

    @property
    def name(self) -> str:
        """The database's name, and the role's."""
        return database_name(self.tenant)


Step = Callable[[Ground, Move], Awaitable[None]]


async def begin(ground: Ground, transaction: ControlTransaction, tenant: TenantId, target: str) -> None:
    """Note in `transaction` where the tenant is to go, with the event that sets it going. Raises as `note` does."""
    if await note(ground, transaction, tenant, target):
        await transaction.emit(asked(tenant))


async def note(ground: Ground, transaction: ControlTransaction, tenant: TenantId, target: str) -> bool:
    """Note in `transaction` where the tenant is to go. Returns whether there is anything to do.

    Asking again, or for the server that the tenant is on, changes nothing.
    Raises `Invalid` for an unknown server, `NotFound`, `Conflict` (also while the tenant has processes of its own),
    and `Unavailable` for a server that is away.
    """
    row = await transaction.fetchrow(
        "SELECT state, server, moving_to, leftover FROM tenants WHERE id = $1 FOR UPDATE", tenant
    )
    if row is None:
        raise NotFound(f"there is no tenant {tenant!r}")
    await refuse_any(transaction, tenant)
    ground.servers.checked(target)
    if row["state"] not in ("ready", "moving"):
        raise Conflict(f"tenant {tenant!r} is {row['state']}; only one that is ready can be moved")
    if row["state"] == "moving" and target != row["moving_to"]:
        raise Conflict(
            f"tenant {tenant!r} is on its way to server {row['moving_to']!r}. "
            f"Call that off first: dcoder tenant move {tenant} --cancel"
        )
    if row["state"] == "ready" and target == row["server"]:
        return False
    if row["state"] == "ready":
        await check_target(ground, tenant, row["server"], target, is_leftover=row["leftover"] == target)
    await transaction.execute(
        "UPDATE tenants SET state = 'moving', moving_to = $2, move_failure = NULL, changed_at = now() WHERE id = $1",
        tenant,
        target,
    )
    return True


async def call_off(transaction: ControlTransaction, tenant: TenantId) -> None:
    """Note in `transaction` that the tenant is to stay where it is: possible until the move has switched.

    What was copied becomes the leftover. Nothing was copied while there still is an older one.
    Raises `NotFound`, and `Conflict` when the tenant is not being moved.
    """
    row = await transaction.fetchrow("SELECT state, server FROM tenants WHERE id = $1 FOR UPDATE", tenant)
    if row is None:
        raise NotFound(f"there is no tenant {tenant!r}")
    if row["state"] != "moving":
        raise Conflict(f"tenant {tenant!r} is not being moved; it is {row['state']} on server {row['server']!r}")
    await transaction.execute(
        "UPDATE tenants SET leftover = coalesce(leftover, nullif(moving_to, server)), moving_to = server,"
        " move_failure = NULL, changed_at = now() WHERE id = $1",
        tenant,
    )
    await transaction.emit(asked(tenant))


def asked(tenant: TenantId) -> CloudEvent:
    return CloudEvent(
        id=f"move-{uuid4()}",
        source="/dcoder/tenancy",
        type=MOVE_ASKED,
        subject=str(tenant),
        tenant=PLATFORM,
        time=datetime.now(UTC),
        data={},
    )


async def check_target(ground: Ground, tenant: TenantId, source: str, target: str, *, is_leftover: bool) -> None:
    """Nothing on the target may have the database's name: what has it later on is the move's own, and is dropped."""
    await check_different(ground, source, target)
    async with ground.on(target) as server:
        name = database_name(tenant)
        if not is_leftover and await server.fetchval("SELECT true FROM pg_database WHERE datname = $1", name):
            raise Conflict(
                f"server {target!r} has a database {name!r} already, which is no tenant's of this platform. "
                "Look at it, and rename or drop it; then move the tenant"
            )


async def check_different(ground: Ground, one: str, other: str) -> None:
    """Raise `Conflict` when two names mean one running server: what is dropped on the one would be gone on the other.

    A running server is told apart by its data's identifier and the moment of its start. Raises `Unavailable`.
    """
    found = []
    for name in (one, other):
        async with ground.on(name) as server:
            found.append(await server.fetchval(IDENTITY))
    if found[0] == found[1]:
        raise Conflict(f"{one!r} and {other!r} are one and the same PostgreSQL server; correct DCODER_POSTGRES_SERVERS")


async def update_schema(ground: Ground, move: Move) -> None:
    """Both databases get the schema of this release, so that they can be compared."""
    await open_doors(ground, move)
    await migrate_on(ground.control, ground.servers, tenant=move.tenant, server=move.source)


async def open_doors(ground: Ground, move: Move) -> None:
    async with ground.on(move.source) as server:
        await server.execute(f'ALTER DATABASE "{move.name}" WITH ALLOW_CONNECTIONS true')


async def fence(ground: Ground, move: Move) -> None:
    """The role's new sessions get an error that says why they may not write, and the old ones are ended.

    Then the right to write is taken away for good: a session that slipped through the first two is refused too.
    """
    async with opened(ground.servers.database(move.source, move.name)) as source:
        await source.execute(
            f'ALTER ROLE "{move.name}" IN DATABASE "{move.name}" SET default_transaction_read_only = on'
        )
        await end_sessions(source, move.name)
        await fence_data(source)


async def make_role_there(ground: Ground, move: Move) -> None:
    await make_role_on(ground, move.tenant, move.target)


async def make_empty(ground: Ground, move: Move) -> None:
    """What an attempt before this one copied goes: the tenant may have been written since."""
    await check_different(ground, move.source, move.target)
    template = await build_template(ground.servers, move.target)
    async with opened(ground.servers.address(move.target)) as server:
        await drop_database(server, move.name)
        await clone(server, move.name, template)
        await server.execute(f'REVOKE ALL ON DATABASE "{move.name}" FROM PUBLIC')


async def copy(ground: Ground, move: Move) -> None:
    source_dsn, target_dsn = (ground.servers.database(one, move.name) for one in (move.source, move.target))
    async with opened(source_dsn) as source, opened(target_dsn) as target:
        await apply(target, available("tenant"))
        await grant_data(target)
        if await applied(source) != await applied(target):
            raise Unavailable(
                f"the databases on {move.source!r} and {move.target!r} have different schemas. "
                "Move the tenant when the upgrade that is under way has ended",
                retry_after_s=60,
            )
        copied = await copy_rows(source, target, leave_out=NOT_COPIED, go_on=lambda: still_wanted(ground, move))
    log(
        "tenant_copied",
        tenant=move.tenant,
        server=move.target,
        tables=len(copied),
        rows=sum(one.rows for one in copied.values()),
    )


async def applied(connection: asyncpg.Connection) -> list[int]:
    return [row["number"] for row in await connection.fetch("SELECT number FROM schema_migrations ORDER BY number")]


async def still_wanted(ground: Ground, move: Move) -> None:
    """Raises `Conflict` when the move was called off meanwhile."""
    wanted = await ground.control.fetchval("SELECT moving_to FROM tenants WHERE id = $1", move.tenant)
    if wanted != move.target:
        raise called_off(move)


def called_off(move: Move) -> Conflict:
    return Conflict(f"the move of tenant {move.tenant!r} to server {move.target!r} was called off")


async def make_grants_there(ground: Ground, move: Move) -> None:
    await make_grants_on(ground, move.tenant, move.target)


async def close_doors(ground: Ground, move: Move) -> None:
    """Nobody reads the old copy when the new one is being written."""
    async with ground.on(move.source) as server:
        await server.execute(f'ALTER DATABASE "{move.name}" WITH ALLOW_CONNECTIONS false')
        await end_sessions(server, move.name)


async def switch(ground: Ground, move: Move) -> None:
    """In the transaction that keeps others away: whoever lost that cannot switch to a copy that another has begun."""
    switched = await move.holding.fetchval(
        "UPDATE tenants SET state = 'ready', server = $3, moving_to = NULL, leftover = $2, move_failure = NULL,"
        " changed_at = now() WHERE id = $1 AND state = 'moving' AND server = $2 AND moving_to = $3 RETURNING true",
        move.tenant,
        move.source,
        move.target,
    )
    if not switched:
        raise called_off(move)
    await move.holding.audit(
        "tenancy.move",
        f"tenant/{move.tenant}",
        actor="platform",
        tenant=PLATFORM,
        details={"from": move.source, "to": move.target},
    )


STEPS: tuple[tuple[str, Step], ...] = (
    ("schema", update_schema),
    ("role", make_role_there),
    ("empty", make_empty),
    ("fence", fence),
    ("copy", copy),
    ("grants", make_grants_there),
    ("doors", close_doors),
    ("switch", switch),
)
DropStep = Callable[[Ground, TenantId, str], Awaitable[None]]
LEFTOVER: tuple[tuple[str, DropStep], ...] = (("database-gone", drop_database_on), ("role-gone", drop_role_on))


async def run(
    ground: Ground,
    tenant: TenantId,
    steps: Sequence[tuple[str, Step]] = STEPS,
    leftover: Sequence[tuple[str, DropStep]] = LEFTOVER,
) -> None:
    """Do what the tenant's row asks for: move it, take the move back, drop what a move left behind. Ends whole when run
    again after a kill. Raises `Unavailable` while another is at work on the tenant, or a server is away."""
    async with asked_for(ground, tenant) as move:
        if move is not None and move.source == move.target:
            await take_back(ground, move)
    await drop_leftover(ground, tenant, leftover)
    async with asked_for(ground, tenant) as move:
        if move is not None and move.source != move.target:
            for _, step in steps:
                await step(ground, move)
    await drop_leftover(ground, tenant, leftover)


@asynccontextmanager
async def asked_for(ground: Ground, tenant: TenantId) -> AsyncIterator[Move | None]:
    """The move in the tenant's row, if there is one, with everybody else kept away."""
    async with exclusively(ground.control, tenant) as holding:
        row = await holding.fetchrow("SELECT state, server, moving_to FROM tenants WHERE id = $1", tenant)
        moving = row is not None and row["state"] == "moving"
        yield Move(tenant, row["server"], row["moving_to"], holding) if row is not None and moving else None


async def take_back(ground: Ground, move: Move) -> None:
    """The tenant stays where it is, and may write again. What was copied is a leftover by now."""
    await open_doors(ground, move)
    async with opened(ground.servers.database(move.source, move.name)) as source:
        await source.execute(f'ALTER ROLE "{move.name}" IN DATABASE "{move.name}" RESET default_transaction_read_only')
        await grant_data(source)
        await end_sessions(source, move.name)
    await move.holding.execute(
        "UPDATE tenants SET state = 'ready', moving_to = NULL, move_failure = NULL, changed_at = now() WHERE id = $1",
        move.tenant,
    )


async def drop_leftover(ground: Ground, tenant: TenantId, steps: Sequence[tuple[str, DropStep]]) -> None:
    """Drop the database and the role on the server that the row names as left. Does nothing when it names none.

    While a move is called off, the copy that is under way is left to whoever makes it: it ends by itself.
    """
    if not await ground.control.fetchval("SELECT leftover FROM tenants WHERE id = $1", tenant):
        return
    async with exclusively(ground.control, tenant) as holding:
        row = await holding.fetchrow("SELECT server, leftover FROM tenants WHERE id = $1", tenant)
        if row is None or not row["leftover"]:
            return
        await check_different(ground, row["server"], row["leftover"])
        for _, step in steps:
            await step(ground, tenant, row["leftover"])
        await holding.execute("UPDATE tenants SET leftover = NULL, move_failure = NULL WHERE id = $1", tenant)
