"""Events that were given up (dead letters), and the sweep of what crashes left in outboxes."""

from __future__ import annotations

from uuid import UUID

from functions.governance.events.forgetting import forget_past
from functions.governance.events.letters import DeadLetter, DeadLetters, page_of, read_one, redrive_one
from shared.events import CloudEvent, Relay
from shared.events.dead_letters import Undelivered, bury
from shared.function import DeadLettered, Function, Tick
from shared.identity import Caller
from shared.postgres import ControlDatabase, ControlTransaction, TenantDatabase, TenantTransaction

events = Function(timeout_s=60)


@events.get("/v1/dead-letters", permission="events:read")
async def list_dead_letters(
    caller: Caller, control: ControlDatabase, limit: int = 50, before: UUID | None = None
) -> DeadLetters:
    """The caller's dead letters, newest first; an operator sees every tenant's. `before` continues a list."""
    return await page_of(control, caller.tenant, limit=limit, before=before)


@events.get("/v1/dead-letters/{letter_id}", permission="events:read")
async def read_dead_letter(letter_id: UUID, caller: Caller, control: ControlDatabase) -> DeadLetter:
    """One dead letter with its event and the reason it was given up."""
    return await read_one(control, caller.tenant, letter_id)


@events.post("/v1/dead-letters/{letter_id}/redrive", permission="events:write", success=202)
async def redrive(letter_id: UUID, caller: Caller, control: ControlTransaction) -> DeadLetter:
    """Deliver the event again, to the function that gave it up and to no other."""
    return await redrive_one(control, caller.tenant, letter_id)


@events.on(DeadLettered())
async def keep(event: CloudEvent, gone: Undelivered, control: ControlDatabase) -> None:
    """Keep what a broker gave up, with its reason, once per function and event."""
    await bury(
        control, event, function=gone.function, reason=gone.reason, attempts=gone.attempts, last_status=gone.status
    )


@events.every("*/5 * * * *", per="tenant", catch_up="skip")
async def sweep_tenant(tick: Tick, tenant: TenantDatabase, relay: Relay) -> None:
    """Publish what a crash left in the tenant's outbox."""
    await relay.drain(tenant)


@events.every("17 * * * *", per="tenant")
async def forget_tenants_past(tick: Tick, tenant: TenantTransaction) -> None:
    """Forget the tenant's answers and events that nobody will send again."""
    await forget_past(tenant)


@events.every("17 * * * *")
async def forget_platforms_past(tick: Tick, control: ControlTransaction) -> None:
    """Forget the platform's answers and events that nobody will send again."""
    await forget_past(control)
