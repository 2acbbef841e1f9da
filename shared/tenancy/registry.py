"""The tenants there are, and the way to each one's database and secrets."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from shared.errors import NotFound
from shared.ids import TenantId
from shared.ids import tenant_id as checked
from shared.postgres import ControlDatabase, TenantDatabase
from shared.secrets import TenantSecrets, unwrap
from shared.telemetry import log
from shared.tenancy import orphans, saga
from shared.tenancy.saga import CREATION, DELETION, Buckets, Forgetful, Ground

KNOWN_S = 5.0
KNOWN_MAX = 5000
STUCK_AFTER_S = 60
STUCK_MAX = 100


@dataclass(frozen=True)
class Tenant:
    """A tenant as operators see it."""

    id: TenantId
    state: str
    version: int
    created_at: datetime


@dataclass(frozen=True)
class Known:
    """What is needed to work for a tenant, remembered for seconds."""

    database: TenantDatabase
    secrets: TenantSecrets
    until: float


class TenantRegistry:
    """Finds, creates and deletes tenants. Sealed passwords and data keys are opened here and leave as types only."""

    def __init__(
        self, control: ControlDatabase, root_key: bytes, buckets: Buckets, forgetful: Sequence[Forgetful] = ()
    ) -> None:
        self._control = control
        self._root_key = root_key
        self._known: OrderedDict[TenantId, Known] = OrderedDict()
        self.ground = Ground(control, control.dsn, root_key, buckets, self._unready_database, forgetful)

    async def database(self, tenant: TenantId) -> TenantDatabase:
        """That tenant's own database. Raises `NotFound` when there is no such tenant, or it is not ready."""
        return (await self._find(tenant)).database

    async def secrets(self, tenant: TenantId) -> TenantSecrets:
        """What seals and opens that tenant's secrets. Raises `NotFound`."""
        return (await self._find(tenant)).secrets

    async def create(self, name: str) -> Tenant:
        """Create the tenant, or complete its creation. A tenant that is ready already is returned as it is.

        Raises `Invalid` for the name, `Conflict` while a tenant of that name is being deleted, `Unavailable`.
        """
        tenant = checked(name)
        found = await self._row(tenant)
        if found is None or found.state not in ("ready", "suspended"):
            await saga.run(self.ground, tenant, CREATION)
        return await self.get(tenant)

    async def delete(self, tenant: TenantId) -> None:
        """Delete the tenant and everything of it for good. Raises `NotFound`."""
        if await self._row(tenant) is None:
            raise NotFound(f"there is no tenant {tenant!r}")
        self._known.pop(tenant, None)
        await saga.run(self.ground, tenant, DELETION)
        self._known.pop(tenant, None)

    async def get(self, tenant: TenantId) -> Tenant:
        found = await self._row(tenant)
        if found is None:
            raise NotFound(f"there is no tenant {tenant!r}")
        return found

    async def page(self, *, after: str = "", limit: int = 200) -> list[Tenant]:
        """Tenants by name, those after `after`, at most `limit`."""
        rows = await self._control.fetch(
            "SELECT id, state, version, created_at FROM tenants WHERE id > $1 ORDER BY id LIMIT $2", after, limit
        )
        return [Tenant(TenantId(row["id"]), row["state"], row["version"], row["created_at"]) for row in rows]

    async def ready(self) -> list[TenantId]:
        """Every tenant that is ready."""
        rows = await self._control.fetch("SELECT id FROM tenants WHERE state = 'ready' ORDER BY id")
        return [TenantId(row["id"]) for row in rows]

    async def resume_stuck(self) -> list[TenantId]:
        """Complete the creations and deletions that a killed process left behind. Returns whose."""
        rows = await self._control.fetch(
            "SELECT id, state FROM tenants WHERE state IN ('creating', 'deleting')"
            " AND changed_at < now() - make_interval(secs => $1) ORDER BY changed_at LIMIT $2",
            STUCK_AFTER_S,
            STUCK_MAX,
        )
        resumed = []
        for row in rows:
            tenant = TenantId(row["id"])
            try:
                await saga.run(self.ground, tenant, CREATION if row["state"] == "creating" else DELETION)
                resumed.append(tenant)
            except Exception as failure:  # noqa: BLE001  one tenant's failure must not keep the others waiting
                log("tenant_not_resumed", tenant=tenant, error=repr(failure)[:500])
                await self._control.execute("UPDATE tenants SET changed_at = now() WHERE id = $1", tenant)
        return resumed

    async def sweep_orphans(self) -> orphans.Orphans:
        """Remove roles, keys and templates that belong to nothing. Databases without a tenant are reported only."""
        return await orphans.sweep(self.ground)

    async def _row(self, tenant: TenantId) -> Tenant | None:
        row = await self._control.fetchrow("SELECT id, state, version, created_at FROM tenants WHERE id = $1", tenant)
        if row is None:
            return None
        return Tenant(TenantId(row["id"]), row["state"], row["version"], row["created_at"])

    async def _find(self, tenant: TenantId) -> Known:
        known = self._known.get(tenant)
        if known is not None and known.until > time.monotonic():
            return known
        row = await self._control.fetchrow(
            "SELECT d.wrapped, p.sealed FROM tenants t JOIN data_keys d ON d.tenant = t.id"
            " JOIN role_passwords p ON p.tenant = t.id WHERE t.id = $1 AND t.state = 'ready'",
            tenant,
        )
        if row is None:
            self._known.pop(tenant, None)
            raise NotFound(f"there is no tenant {tenant!r}")
        data_key = unwrap(self._root_key, tenant, bytes(row["wrapped"]))
        database = self._database(tenant, saga.opened_password(self.ground, tenant, bytes(row["sealed"])))
        self._known[tenant] = found = Known(database, TenantSecrets(data_key), time.monotonic() + KNOWN_S)
        while len(self._known) > KNOWN_MAX:
            self._known.popitem(last=False)
        return found

    async def _unready_database(self, tenant: TenantId) -> TenantDatabase:
        return self._database(tenant, await saga.role_password(self.ground, tenant))

    def _database(self, tenant: TenantId, password: str) -> TenantDatabase:
        return TenantDatabase(tenant, saga.tenant_address(self.ground, tenant, password), self._control.databases)
