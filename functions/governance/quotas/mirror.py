"""The mirror: how a tenant's quotas stand, in its own database, as events told. What reads it asks no other server."""

from __future__ import annotations

from typing import Any

from functions.governance.quotas.views import Updated
from shared.postgres import TenantDatabase, TenantTransaction

KEEP = """
INSERT INTO quota_mirror (id, version, scope, name, metric, span, hard, amount, used, reserved, standing, resets_at,
                          told_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)
ON CONFLICT (id) DO UPDATE SET
    version = excluded.version, scope = excluded.scope, name = excluded.name, metric = excluded.metric,
    span = excluded.span, hard = excluded.hard, amount = excluded.amount, used = excluded.used,
    reserved = excluded.reserved, standing = excluded.standing, resets_at = excluded.resets_at,
    told_at = excluded.told_at
WHERE quota_mirror.version < excluded.version
"""
STATES = """
SELECT id, version, scope, name, metric, span AS window, hard, amount AS limit, used, reserved, standing AS state,
       resets_at, told_at
  FROM quota_mirror WHERE standing <> 'removed' ORDER BY id
"""


async def keep(transaction: TenantTransaction, told: Updated) -> None:
    """Keep what was told, unless something newer was."""
    await transaction.execute(
        KEEP, told.id, told.version, told.scope, told.name, told.metric, told.window, told.hard, told.limit, told.used,
        told.reserved, told.state, told.resets_at, told.told_at,
    )  # fmt: skip


async def states(tenant: TenantDatabase) -> list[dict[str, Any]]:  # Any: database rows
    return [dict(row) for row in await tenant.fetch(STATES)]
