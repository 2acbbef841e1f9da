"""Answers and events are remembered as long as they may be sent again, and no longer."""

from __future__ import annotations

from secrets import token_hex

import pytest

from functions.governance.events.forgetting import ANSWERS_KEPT_H, EVENTS_KEPT_DAYS, forget_past
from shared.ids import TenantId
from shared.postgres import ControlDatabase, TenantDatabase
from shared.tenancy import TenantRegistry


@pytest.mark.parametrize("where", ["tenant", "control"])
async def test_only_what_is_past_its_time_is_forgotten(
    where: str, registry: TenantRegistry, control: ControlDatabase, tenant: TenantId
) -> None:
    database: TenantDatabase | ControlDatabase = await registry.database(tenant) if where == "tenant" else control
    run = token_hex(4)
    for age, hours, days in (("old", ANSWERS_KEPT_H + 1, EVENTS_KEPT_DAYS + 1), ("new", 1, 1)):
        await database.execute(
            "INSERT INTO idempotency_keys (tenant, operation, key, fingerprint, created_at)"
            " VALUES ($1, 'of-a-test', $2, '', now() - make_interval(hours => $3))",
            tenant, f"{age}-{run}", hours,
        )  # fmt: skip
        await database.execute(
            "INSERT INTO processed_events VALUES ('of-a-test', $1, now() - make_interval(days => $2))",
            f"{age}-{run}", days,
        )  # fmt: skip
    async with database.transaction() as transaction:
        await forget_past(transaction)
    keys = await database.fetch("SELECT key FROM idempotency_keys WHERE key LIKE $1", f"%-{run}")
    events = await database.fetch("SELECT event_id FROM processed_events WHERE event_id LIKE $1", f"%-{run}")
    assert ([row["key"] for row in keys], [row["event_id"] for row in events]) == ([f"new-{run}"], [f"new-{run}"])
