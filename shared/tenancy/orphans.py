"""What has no tenant's row any more: roles, keys and databases, on every server.

A row is written first and deleted last, and names every server on which something of its tenant is, so nothing of a
tenant at work is an orphan. What holds no data is removed. A database is reported only: after the control database was
restored from a backup, every tenant made since looks so. A server that is away keeps no other from being swept, but
keys are kept until all have been looked at: the one that is away may hold the database that they open.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from shared.errors import Problem
from shared.ids import TenantId
from shared.telemetry import log
from shared.tenancy.saga import Ground, destroy_keys, drop_role_on, exclusively
from shared.tenancy.template import drop_former

SWEPT_MAX = 100
ON_SERVER = """
SELECT r.rolname AS name, d.datname IS NOT NULL AS with_database
  FROM pg_roles r LEFT JOIN pg_database d ON d.datname = r.rolname AND d.datdba = r.oid
 WHERE r.rolname ~ '^t_[a-z][a-z0-9_]*$'
   AND EXISTS (SELECT FROM pg_auth_members m WHERE m.roleid = r.oid AND m.member = current_user::regrole)
 ORDER BY r.rolname
"""
"""Only roles that this platform's role made: other platforms may live on the same server."""
UNCLAIMED = """
SELECT name FROM unnest($1::text[]) name
 WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.database = name AND $2 IN (t.server, t.moving_to, t.leftover))
 ORDER BY name LIMIT $3
"""
KEYS = """
SELECT tenant FROM (SELECT tenant FROM data_keys UNION SELECT tenant FROM role_passwords) kept
 WHERE NOT EXISTS (SELECT FROM tenants t WHERE t.id = kept.tenant)
   AND 't_' || replace(tenant, '-', '_') <> ALL($1::text[])
 ORDER BY tenant LIMIT $2
"""


@dataclass(frozen=True)
class Orphans:
    """What a sweep found: databases that were left alone; tenants whose role or keys, and templates, that went; servers
    that could not be looked at, with the reason."""

    databases: tuple[str, ...]
    removed: tuple[TenantId, ...]
    templates: tuple[str, ...]
    failed: dict[str, str] = field(default_factory=dict)


async def sweep(ground: Ground) -> Orphans:
    """Look once, at every server. A tenant that is being worked on is looked at by the next sweep."""
    databases: set[str] = set()
    removed: set[TenantId] = set()
    templates: list[str] = []
    failed: dict[str, str] = {}
    there: set[str] = set()
    for server in ground.servers.names:
        try:
            rows = await on_server(ground, server)
            there |= {name for name, with_database in rows.items() if with_database}
            orphans = await unclaimed(ground, server, rows)
            databases |= {name for name in orphans if rows[name]}
            removed |= {
                tenant_of(name) for name in orphans if not rows[name] and await remove_role(ground, server, name)
            }
            templates += await drop_former(ground.servers, server)
        except Problem as failure:
            failed[server] = failure.detail
            log("server_not_swept", server=server, error=failure.detail)
    for name in sorted(databases):
        log("tenant_database_without_row", database=name)
    if not failed:
        removed |= await remove_keys(ground, there)
    return Orphans(tuple(sorted(databases)), tuple(sorted(removed)), tuple(templates), failed)


async def on_server(ground: Ground, server: str) -> dict[str, bool]:
    """The tenants' roles on that server, and whether each has its database."""
    async with ground.on(server) as connection:
        return {str(row["name"]): bool(row["with_database"]) for row in await connection.fetch(ON_SERVER)}


async def unclaimed(ground: Ground, server: str, names: dict[str, bool]) -> list[str]:
    """Those of the names that no tenant's row has on that server."""
    return [str(row["name"]) for row in await ground.control.fetch(UNCLAIMED, list(names), server, SWEPT_MAX)]


def tenant_of(name: str) -> TenantId:
    return TenantId(name.removeprefix("t_").replace("_", "-"))


async def remove_role(ground: Ground, server: str, name: str) -> bool:
    """Remove a role that has neither a row nor a database there. Looks again, with nobody else at work on it."""
    tenant = tenant_of(name)
    async with exclusively(ground.control, tenant):
        again = await on_server(ground, server)
        if again.get(name, True) or not await unclaimed(ground, server, {name: False}):
            return False
        await drop_role_on(ground, tenant, server)
        log("tenant_orphan_removed", tenant=tenant, server=server)
        return True


async def remove_keys(ground: Ground, databases: set[str]) -> set[TenantId]:
    """Remove the keys of tenants that have neither a row nor one of the databases. Returns whose."""
    removed = set()
    for row in await ground.control.fetch(KEYS, sorted(databases), SWEPT_MAX):
        tenant = TenantId(row["tenant"])
        async with exclusively(ground.control, tenant):
            if await ground.control.fetchval("SELECT true FROM tenants WHERE id = $1", tenant):
                continue
            await destroy_keys(ground, tenant)
            log("tenant_orphan_removed", tenant=tenant)
            removed.add(tenant)
    return removed
