"""The way to a tenant's database and secrets, in a process of all tenants and in one of a single tenant."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import NotFound
from shared.ids import TenantId
from shared.postgres import ControlDatabase, TenantDatabase
from shared.secrets import TenantSecrets
from shared.tenancy import TenantRegistry

if TYPE_CHECKING:
    from shared.function.process import Process


async def database_of(process: Process, tenant: TenantId) -> TenantDatabase:
    """That tenant's own database. Raises `NotFound` when there is no such tenant here."""
    if not process.settings.dedicated_tenant:
        return await (await process.get(TenantRegistry)).database(tenant)
    found = await process.get(TenantDatabase)
    if found.tenant != tenant:
        raise NotFound(f"there is no tenant {tenant!r}")
    return found


async def secrets_of(process: Process, tenant: TenantId) -> TenantSecrets:
    """What seals and opens that tenant's secrets. Raises `NotFound`."""
    if not process.settings.dedicated_tenant:
        return await (await process.get(TenantRegistry)).secrets(tenant)
    found = await process.get(TenantSecrets)
    if found.tenant != tenant:
        raise NotFound(f"there is no tenant {tenant!r}")
    return found


async def own_database(process: Process) -> ControlDatabase | TenantDatabase:
    """The database that the process itself is at home in: the platform's, or its one tenant's."""
    if process.settings.dedicated_tenant:
        return await process.get(TenantDatabase)
    return await process.get(ControlDatabase)
