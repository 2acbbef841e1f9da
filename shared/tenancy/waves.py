"""Migrating every tenant's database: one canary, then a tenth, then the rest; each tenant's failure is its own.

The waves go over all servers at once. The tenants of a server that is away are failures of their own, told before the
first wave, so that none of them is the canary.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.errors import Fault, Problem
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.telemetry import log
from shared.tenancy.migrations import apply, available, newest
from shared.tenancy.saga import AtWork, database_name, exclusively
from shared.tenancy.servers import Servers, opened
from shared.tenancy.template import grant_data

AT_ONCE = 4


@dataclass
class Outcome:
    """Which tenants were brought up to date, and which not and why."""

    migrated: list[TenantId] = field(default_factory=list)
    failed: dict[TenantId, str] = field(default_factory=dict)


def waves(tenants: Sequence[TenantId]) -> list[list[TenantId]]:
    """One canary, then a tenth of all, then the others."""
    tenth = 1 + math.ceil(len(tenants) / 10)
    return [wave for wave in (list(tenants[:1]), list(tenants[1:tenth]), list(tenants[tenth:])) if wave]


async def migrate_tenants(control: ControlDatabase, servers: Servers) -> Outcome:
    """Bring every ready tenant up to date. Nothing to do is one query. Raises `Fault` when the canary fails.

    A tenant whose migration failed before comes last and is no canary: it must not keep the others waiting for ever.
    """
    rows = await control.fetch(
        "SELECT id, server, migration_failure IS NOT NULL AS failed_before FROM tenants"
        " WHERE state = 'ready' AND version < $1 ORDER BY failed_before, id",
        newest("tenant"),
    )
    outcome = Outcome()
    away = await servers_away(servers, {str(row["server"]) for row in rows})
    for row in rows:
        if row["server"] in away:
            outcome.failed[TenantId(row["id"])] = away[row["server"]]
    rows = [row for row in rows if row["server"] not in away]
    unreached = len(outcome.failed)
    canary_fit = bool(rows) and not rows[0]["failed_before"]
    for wave in waves([TenantId(row["id"]) for row in rows]):
        slots = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(migrate_one(control, servers, tenant, outcome, slots) for tenant in wave))
        if canary_fit and len(outcome.failed) > unreached and not outcome.migrated:
            canary, reason = list(outcome.failed.items())[unreached]
            raise Fault(f"the migration failed for the canary tenant {canary!r}, so no other was touched: {reason}")
    return outcome


async def servers_away(servers: Servers, names: set[str]) -> dict[str, str]:
    """Those of the servers that cannot be reached, and why."""
    away = {}
    for name in sorted(names):
        try:
            async with opened(servers.address(name)) as connection:
                await connection.fetchval("SELECT 1")
        except Problem as failure:
            away[name] = failure.detail
            log("server_not_migrated", server=name, error=failure.detail)
    return away


async def migrate_one(
    control: ControlDatabase, servers: Servers, tenant: TenantId, outcome: Outcome, slots: asyncio.Semaphore
) -> None:
    """Migrate one tenant where its row says it is. One that is created, moved or deleted is left to that."""
    async with slots:
        try:
            async with exclusively(control, tenant):
                row = await control.fetchrow("SELECT server, state FROM tenants WHERE id = $1", tenant)
                if row is None or row["state"] != "ready":
                    return
                await migrate_on(control, servers, tenant=tenant, server=row["server"])
            outcome.migrated.append(tenant)
        except AtWork:
            log("tenant_migration_left_to_others", tenant=tenant)
        except Exception as failure:  # noqa: BLE001  one tenant's failure must not keep the others waiting
            outcome.failed[tenant] = repr(failure)[:500]
            log("tenant_migration_failed", tenant=tenant, error=repr(failure)[:500])
            await control.execute(
                "UPDATE tenants SET migration_failure = $2 WHERE id = $1", tenant, repr(failure)[:500]
            )


async def migrate_on(control: ControlDatabase, servers: Servers, *, tenant: TenantId, server: str) -> None:
    """Bring the tenant's database on that server up to date, and say so in its row."""
    async with opened(servers.database(server, database_name(tenant))) as connection:
        await apply(connection, available("tenant"))
        await grant_data(connection)
    await control.execute(
        "UPDATE tenants SET version = greatest(version, $2), migration_failure = NULL WHERE id = $1",
        tenant,
        newest("tenant"),
    )
