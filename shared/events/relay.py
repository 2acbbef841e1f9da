"""From outbox to stream: rows are published, acknowledged by the stream, and only then deleted.

A relay killed between the two publishes again, and the stream drops the duplicate by its message id. Several relays
share an outbox without waiting for each other: each skips the rows that another has locked.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from shared.errors import Problem
from shared.events.cloudevent import CloudEvent
from shared.events.publishing import Events
from shared.ids import PLATFORM, TenantId
from shared.telemetry import log

if TYPE_CHECKING:
    from shared.postgres import ControlDatabase, TenantDatabase

BATCH_ROWS_MAX = 100
BATCHES_MAX = 1000
TAKE = "SELECT id, event FROM outbox ORDER BY id LIMIT $1 FOR UPDATE SKIP LOCKED"
DELETE = "DELETE FROM outbox WHERE id = ANY($1::bigint[])"


class Relay:
    """Empties outboxes. Safe to run anywhere, at any time, as often as wanted."""

    def __init__(self, events: Events) -> None:
        self._events = events

    async def drain(self, database: TenantDatabase | ControlDatabase) -> int:
        """Publish what is in the outbox; the number of rows gone. Raises `Unavailable` with unpublished rows kept."""
        gone = 0
        for _ in range(BATCHES_MAX):
            taken, published, failure = await self._batch(database)
            gone += published
            if failure is not None:
                raise failure
            if taken < BATCH_ROWS_MAX:
                break
        return gone

    async def _batch(self, database: TenantDatabase | ControlDatabase) -> tuple[int, int, Problem | None]:
        async with database.transaction() as transaction:
            rows = await transaction.fetch(TAKE, BATCH_ROWS_MAX)
            outcomes = await asyncio.gather(*(self._publish(row["event"], database.tenant) for row in rows))
            done = [row["id"] for row, failure in zip(rows, outcomes, strict=True) if failure is None]
            if done:
                await transaction.execute(DELETE, done)
        failures = [failure for failure in outcomes if failure is not None]
        return len(rows), len(done), failures[0] if failures else None

    async def _publish(self, document: object, home: TenantId) -> Problem | None:
        """Why it could not be published. What a tenant's outbox says for somebody else is dropped: publishing signs."""
        try:
            event = CloudEvent.from_json(document)
            if home not in (PLATFORM, event.tenant):
                log("event_of_another_tenant", outbox=home, tenant=event.tenant, event_id=event.id)
                return None
            await self._events.publish(event)
        except Problem as failure:
            log("event_not_published", error=failure.detail)
            return failure
        return None
