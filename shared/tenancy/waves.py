"""Migrating every tenant's database: one canary, then a tenth, then the rest; each tenant's failure is its own."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.errors import Fault
from shared.ids import TenantId
from shared.postgres import ControlDatabase, address, open_connection
from shared.telemetry import log
from shared.tenancy.migrations import apply, available, newest
from shared.tenancy.saga import database_name
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


async def migrate_tenants(control: ControlDatabase) -> Outcome:
    """Bring every ready tenant up to date. Nothing to do is one query. Raises `Fault` when the canary fails.

    A tenant whose migration failed before comes last and is no canary: it must not keep the others waiting for ever.
    """
    rows = await control.fetch(
        "SELECT id, migration_failure IS NOT NULL AS failed_before FROM tenants"
        " WHERE state = 'ready' AND version < $1 ORDER BY failed_before, id",
        newest("tenant"),
    )
    outcome = Outcome()
    canary_fit = bool(rows) and not rows[0]["failed_before"]
    for wave in waves([TenantId(row["id"]) for row in rows]):
        slots = asyncio.Semaphore(AT_ONCE)
        await asyncio.gather(*(migrate_one(control, tenant, outcome, slots) for tenant in wave))
        if canary_fit and outcome.failed and not outcome.migrated:
            canary, reason = next(iter(outcome.failed.items()))
            raise Fault(f"the migration failed for the canary tenant {canary!r}, so no other was touched: {reason}")
    return outcome


async def migrate_one(control: ControlDatabase, tenant: TenantId, outcome: Outcome, slots: asyncio.Semaphore) -> None:
    async with slots:
        try:
            async with open_connection(address(control.dsn, database=database_name(tenant))) as connection:
                await apply(connection, available("tenant"))
                await grant_data(connection)
            await control.execute(
                "UPDATE tenants SET version = $2, migration_failure = NULL WHERE id = $1", tenant, newest("tenant")
            )
            outcome.migrated.append(tenant)
        except Exception as failure:  # noqa: BLE001  one tenant's failure must not keep the others waiting
            outcome.failed[tenant] = repr(failure)[:500]
            log("tenant_migration_failed", tenant=tenant, error=repr(failure)[:500])
            await control.execute(
                "UPDATE tenants SET migration_failure = $2 WHERE id = $1", tenant, repr(failure)[:500]
            )
