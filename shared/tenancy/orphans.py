"""What has no tenant's row any more: roles, keys and databases.

A row is written first and deleted last, so nothing of a tenant at work is an orphan. What holds no data is removed. A
database is reported only: after the control database was restored from a backup, every tenant made since looks so.
"""

from __future__ import annotations

from dataclasses import dataclass

from shared.ids import TenantId
from shared.telemetry import log
from shared.tenancy.saga import Ground, destroy_keys, drop_role, exclusively
from shared.tenancy.template import drop_former

SWEPT_MAX = 100
NAME = "'^t_[a-z][a-z0-9_]*$'"
OWN = "EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member = current_user::regrole)"
"""Only roles that this platform's role made: other platforms may live on the same server."""

DATABASES = f"""
SELECT d.datname FROM pg_database d JOIN pg_roles r ON r.oid = d.datdba
 WHERE d.datname ~ {NAME} AND d.datname = r.rolname AND {OWN}
   AND NOT EXISTS (SELECT FROM tenants t WHERE t.database = d.datname)
 ORDER BY d.datname LIMIT $1
"""
WITHOUT_DATABASE = f"""
SELECT left_over.tenant FROM (
    SELECT replace(substr(r.rolname, 3), '_', '-') AS tenant FROM pg_roles r WHERE r.rolname ~ {NAME} AND {OWN}
    UNION SELECT tenant FROM data_keys
    UNION SELECT tenant FROM role_passwords
) left_over
 WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.id = left_over.tenant)
   AND NOT EXISTS (SELECT FROM pg_database d WHERE d.datname = 't_' || replace(left_over.tenant, '-', '_'))
 ORDER BY left_over.tenant LIMIT $1
"""


@dataclass(frozen=True)
class Orphans:
    """What a sweep found: databases that were left alone; tenants whose role and keys, and templates, that went."""

    databases: tuple[str, ...]
    removed: tuple[TenantId, ...]
    templates: tuple[str, ...]


async def sweep(ground: Ground) -> Orphans:
    """Look once. Raises `Unavailable` when one of the tenants is being worked on: the next sweep sees again."""
    databases = tuple(str(row["datname"]) for row in await ground.control.fetch(DATABASES, SWEPT_MAX))
    for name in databases:
        log("tenant_database_without_row", database=name)
    left_over = [TenantId(row["tenant"]) for row in await ground.control.fetch(WITHOUT_DATABASE, SWEPT_MAX)]
    removed = [tenant for tenant in left_over if await remove(ground, tenant)]
    return Orphans(databases, tuple(removed), tuple(await drop_former(ground.dsn)))


async def remove(ground: Ground, tenant: TenantId) -> bool:
    """Remove the role and the keys of a tenant that has no row. Looks again, with nobody else at work on it."""
    async with exclusively(ground, tenant):
        if await ground.control.fetchval("SELECT true FROM tenants WHERE id = $1", tenant):
            return False
        await drop_role(ground, tenant)
        await destroy_keys(ground, tenant)
        log("tenant_orphan_removed", tenant=tenant)
        return True
