"""The tenants there are, and the way to each one's database and secrets."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from shared.errors import Conflict, NotFound, Problem
from shared.ids import TenantId
from shared.ids import tenant_id as checked
from shared.postgres import ControlDatabase, ControlTransaction, TenantDatabase
from shared.secrets import DataKey, TenantSecrets, unwrap
from shared.settings import DEFAULT_SERVER
from shared.telemetry import log
from shared.tenancy import moving, orphans, saga
from shared.tenancy.dedications import Credentials
from shared.tenancy.saga import CREATION, DELETION, AtWork, Buckets, Forgetful, Ground
from shared.tenancy.servers import Servers

if TYPE_CHECKING:
    from shared.objects import ObjectKey

KNOWN_S = 5.0
KNOWN_MAX = 5000
STUCK_AFTER_S = 60
STUCK_MAX = 100
COLUMNS = "id, state, version, created_at, server, moving_to, leftover, move_failure"
SERVED = ("ready", "moving")
"""States in which a tenant's database answers; one that is moved takes no writes."""


@dataclass(frozen=True)
class Tenant:
    """A tenant as operators see it."""

    id: TenantId
    state: str
    version: int
    created_at: datetime
    server: str
    moving_to: str | None
    leftover: str | None
    """The server on which an old copy is still to be dropped."""
    move_failure: str | None


@dataclass(frozen=True)
class Known:
    """What is needed to work for a tenant, remembered for seconds."""

    database: TenantDatabase
    secrets: TenantSecrets
    until: float


class TenantRegistry:
    """Finds, creates and deletes tenants. Sealed passwords and data keys are opened here and leave as types only."""

    def __init__(
        self,
        control: ControlDatabase,
        root_key: bytes,
        *,
        buckets: Buckets,
        forgetful: Sequence[Forgetful] = (),
        servers: Mapping[str, str] | None = None,
    ) -> None:
        self._control = control
        self._root_key = root_key
        self._known: OrderedDict[TenantId, Known] = OrderedDict()
        self.ground = Ground(
            control, Servers(control.dsn, servers or {}), root_key, buckets, self._unready_database, forgetful
        )

    async def database(self, tenant: TenantId) -> TenantDatabase:
        """That tenant's own database. Raises `NotFound` when there is no such tenant, or it is not ready."""
        return (await self._find(tenant)).database

    async def secrets(self, tenant: TenantId) -> TenantSecrets:
        """What seals and opens that tenant's secrets. Raises `NotFound`."""
        return (await self._find(tenant)).secrets

    async def credentials(self, tenant: TenantId, issuer_key: bytes) -> Credentials:
        """All that a process of that tenant alone holds. `issuer_key` is the public half of the platform's token key.

        Raises `NotFound` when there is no such tenant, or it is not ready.
        """
        opened = await self._opened(tenant)
        if opened is None:
            raise NotFound(f"there is no tenant {tenant!r}")
        from shared.tenancy import object_keys

        object_key = await object_keys.kept(self.ground, self._control, tenant)
        return Credentials(opened[0], opened[1].key, issuer_key, object_key)

    async def ensure_object_key(self, transaction: ControlTransaction, tenant: TenantId) -> None:
        """Let there be a key of the tenant's bucket, in a transaction that holds its row: see `object_keys.ensure`."""
        from shared.tenancy import object_keys

        await object_keys.ensure(self.ground, transaction, tenant)

    async def bring_object_key(self, transaction: ControlTransaction, tenant: TenantId, key: ObjectKey) -> None:
        """Keep a key of the tenant's bucket that an operator made: see `object_keys.bring`."""
        from shared.tenancy import object_keys

        await object_keys.bring(self.ground, transaction, tenant, key)

    async def create(self, name: str, server: str = "") -> Tenant:
        """Create the tenant, or complete its creation. A tenant that is ready already is returned as it is.

        Without a `server` it is on the default one. Raises `Invalid` for either name, `Conflict` while a tenant of that
        name is being deleted or when it is on another server, `Unavailable`.
        """
        tenant = checked(name)
        wanted = self.ground.servers.checked(server or DEFAULT_SERVER)
        found = await self._row(tenant)
        if found is None:
            async with self.ground.on(wanted):  # before there is a row: on a server that is away it would get stuck
                await saga.insert_row(self.ground, tenant, wanted)
        elif server and server != found.server:
            raise Conflict(
                f"tenant {tenant!r} is on server {found.server!r}. "
                f"Move it: dcoder tenant move {tenant} --server {server}"
            )
        if found is None or found.state not in (*SERVED, "suspended"):
            await saga.run(self.ground, tenant, CREATION)
        return await self.get(tenant)

    async def begin_move(self, transaction: ControlTransaction, tenant: TenantId, server: str) -> Tenant:
        """Ask in `transaction` for a move: see `moving.begin`."""
        await moving.begin(self.ground, transaction, tenant, server)
        return await of_row(transaction, tenant)

    async def call_off_move(self, transaction: ControlTransaction, tenant: TenantId) -> Tenant:
        """Ask in `transaction` that the tenant stays: see `moving.call_off`."""
        await moving.call_off(transaction, tenant)
        return await of_row(transaction, tenant)

    async def move(self, tenant: TenantId) -> None:
        """Do what was asked for. A failure is noted in the tenant's row, and raised."""
        try:
            await moving.run(self.ground, tenant)
        except AtWork:
            raise
        except Exception as failure:
            said = failure.detail if isinstance(failure, Problem) else type(failure).__name__
            await self._control.execute("UPDATE tenants SET move_failure = $2 WHERE id = $1", tenant, said[:500])
            raise
        finally:
            self._known.pop(tenant, None)

    async def delete(self, tenant: TenantId) -> None:
        """Delete the tenant and everything of it for good. Raises `NotFound`."""
        if await self._row(tenant) is None:
            raise NotFound(f"there is no tenant {tenant!r}")
        self._known.pop(tenant, None)
        await saga.run(self.ground, tenant, DELETION)
        self._known.pop(tenant, None)

    async def get(self, tenant: TenantId) -> Tenant:
        return await of_row(self._control, tenant)

    async def page(self, *, after: str = "", limit: int = 200) -> list[Tenant]:
        """Tenants by name, those after `after`, at most `limit`."""
        rows = await self._control.fetch(
            f"SELECT {COLUMNS} FROM tenants WHERE id > $1 ORDER BY id LIMIT $2", after, limit
        )
        return [Tenant(**row) for row in rows]

    async def ready(self) -> list[TenantId]:
        """Every tenant that is ready."""
        rows = await self._control.fetch("SELECT id FROM tenants WHERE state = 'ready' ORDER BY id")
        return [TenantId(row["id"]) for row in rows]

    async def resume_stuck(self) -> list[TenantId]:
        """Complete the creations, moves and deletions that a killed process left behind. Returns whose."""
        rows = await self._control.fetch(
            "SELECT id, state FROM tenants WHERE (state IN ('creating', 'deleting', 'moving') OR leftover IS NOT NULL)"
            " AND changed_at < now() - make_interval(secs => $1) ORDER BY changed_at LIMIT $2",
            STUCK_AFTER_S,
            STUCK_MAX,
        )
        resumed = []
        for row in rows:
            tenant = TenantId(row["id"])
            try:
                await self._resume(tenant, row["state"])
                resumed.append(tenant)
            except Exception as failure:  # noqa: BLE001  one tenant's failure must not keep the others waiting
                log("tenant_not_resumed", tenant=tenant, error=repr(failure)[:500])
                await self._control.execute("UPDATE tenants SET changed_at = now() WHERE id = $1", tenant)
        return resumed

    async def _resume(self, tenant: TenantId, state: str) -> None:
        if state in ("creating", "deleting"):
            await saga.run(self.ground, tenant, CREATION if state == "creating" else DELETION)
        else:
            await self.move(tenant)

    async def sweep_orphans(self) -> orphans.Orphans:
        """Remove roles, keys and templates that belong to nothing. Databases without a tenant are reported only."""
        return await orphans.sweep(self.ground)

    async def _row(self, tenant: TenantId) -> Tenant | None:
        try:
            return await of_row(self._control, tenant)
        except NotFound:
            return None

    async def _find(self, tenant: TenantId) -> Known:
        known = self._known.get(tenant)
        if known is not None and known.until > time.monotonic():
            return known
        opened = await self._opened(tenant)
        if opened is None:
            self._known.pop(tenant, None)
            raise NotFound(f"there is no tenant {tenant!r}")
        dsn, data_key = opened
        database = TenantDatabase(tenant, dsn, self._control.databases)
        self._known[tenant] = found = Known(database, TenantSecrets(data_key), time.monotonic() + KNOWN_S)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return found

    async def _opened(self, tenant: TenantId) -> tuple[str, DataKey] | None:
        """The address of the tenant's database, with its password, and its data key; None when it is not served."""
        row = await self._control.fetchrow(
            "SELECT t.server, d.wrapped, p.sealed FROM tenants t JOIN data_keys d ON d.tenant = t.id"
            " JOIN role_passwords p ON p.tenant = t.id WHERE t.id = $1 AND t.state = ANY($2)",
            tenant,
            SERVED,
        )
        if row is None:
            return None
        password = saga.opened_password(self.ground, tenant, bytes(row["sealed"]))
        dsn = saga.tenant_address(self.ground, tenant, server=row["server"], password=password)
        return dsn, unwrap(self._root_key, tenant, bytes(row["wrapped"]))

    async def _unready_database(self, tenant: TenantId) -> TenantDatabase:
        server = await saga.server_of(self.ground, tenant)
        password = await saga.role_password(self.ground, tenant)
        dsn = saga.tenant_address(self.ground, tenant, server=server, password=password)
        return TenantDatabase(tenant, dsn, self._control.databases)


async def of_row(source: ControlDatabase | ControlTransaction, tenant: TenantId) -> Tenant:
    row = await source.fetchrow(f"SELECT {COLUMNS} FROM tenants WHERE id = $1", tenant)
    if row is None:
        raise NotFound(f"there is no tenant {tenant!r}")
    return Tenant(**row)
