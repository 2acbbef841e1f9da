"""Quotas: what a tenant, its keys, members, groups, tags and models may use; set, changed, and how they stand."""

from __future__ import annotations

from datetime import UTC
from typing import Any

from functions.governance.quotas import mirror, reconciling
from functions.governance.quotas.owners import check_changeable, name_of
from functions.governance.quotas.reconciling import Reconciled
from functions.governance.quotas.views import (
    Change,
    NewQuota,
    QuotaList,
    QuotaState,
    QuotaStates,
    QuotaView,
    StandingQuota,
    Updated,
)
from shared.clock import Clock
from shared.errors import Invalid
from shared.events import CloudEvent
from shared.function import Call, DomainEvent, Function, Scale, Tick
from shared.function.process import Process
from shared.function.tenants import database_of
from shared.identity import Caller
from shared.ids import PLATFORM
from shared.postgres import ControlDatabase, ControlTransaction, TenantDatabase, TenantTransaction
from shared.quotas import Meter
from shared.quotas.making import COLUMNS, check_unlimited, insert_quota
from shared.quotas.standing import UPDATED, resets_at
from shared.quotas.telling import quota_of, tell_removed
from shared.tenancy.meant import meant

quotas = Function(scale=Scale(max=5), timeout_s=300)

COMMITTED_S = 0.25
"""After so long a change of a call is committed as a rule; what is not is told within a minute."""
CHANGE = f"""
UPDATE quotas SET amount = coalesce($2, amount), at_limit = coalesce($3, at_limit)
 WHERE id = $1 AND ($3 IS DISTINCT FROM 'stop' OR (hard AND metric IN ('micro_usd', 'tokens'))) RETURNING {COLUMNS}
"""


def view(row: dict[str, Any]) -> dict[str, Any]:  # Any: a database row
    return {**row, "window": row["span"]}


@quotas.post("/v1/quotas", permission="quotas:write", success=201)
async def create_quota(
    body: NewQuota, transaction: ControlTransaction, caller: Caller, call: Call, meter: Meter, tenant: str = ""
) -> QuotaView:
    """Set a limit. It holds in every process within a second, and counts what was used in its window before."""
    of = await meant(transaction, caller, tenant)
    await check_unlimited(transaction, caller)
    row = await insert_quota(transaction, caller, of, body.scope, await name_of(transaction, of, body), body)
    call.note(resource=f"quota/{row['id']}", tenant=of, scope=body.scope, metric=body.metric, amount=body.amount)
    meter.telling.ask(of, row["id"], after_s=COMMITTED_S)
    return QuotaView(**view(row))


@quotas.get("/v1/quotas", permission="quotas:read")
async def list_quotas(
    control: ControlDatabase, caller: Caller, meter: Meter, clock: Clock, tenant: str = ""
) -> QuotaList:
    """List a tenant's quotas and how each stands."""
    of = await meant(control, caller, tenant)
    rows = [dict(row) for row in await control.fetch(f"SELECT {COLUMNS} FROM quotas WHERE tenant = $1 ORDER BY id", of)]
    known = [quota_of(row) for row in rows]
    states = await meter.building.states(of, known) if known else []
    return QuotaList(
        quotas=[
            StandingQuota(
                **view(row),
                used=state.used,
                reserved=state.reserved,
                resets_at=resets_at(state, clock.now().astimezone(UTC)),
            )
            for row, state in zip(rows, states, strict=True)
        ]
    )


@quotas.get("/v1/quotas/states", permission="quotas:read")
async def list_states(control: ControlDatabase, process: Process, caller: Caller, tenant: str = "") -> QuotaStates:
    """List how a tenant's quotas stand as events last told, from the mirror in its database. Needs no Redis."""
    of = await meant(control, caller, tenant)
    rows = [] if of == PLATFORM else await mirror.states(await database_of(process, of))
    return QuotaStates(states=[QuotaState(**row) for row in rows])


@quotas.on(DomainEvent(UPDATED))
async def keep_state(event: CloudEvent, transaction: TenantTransaction) -> None:
    """Keep in the tenant's mirror what an event tells, unless a newer version is there."""
    await mirror.keep(transaction, Updated.model_validate(event.data))


@quotas.every("* * * * *", catch_up="skip")
async def tell_due(tick: Tick, meter: Meter) -> None:
    """Tell how quotas stand that nobody calls for: new and changed ones, and those whose window has passed."""
    await meter.telling.tell_due()


@quotas.patch("/v1/quotas/{quota}", permission="quotas:write")
async def change_quota(
    quota: int,
    body: Change,
    transaction: ControlTransaction,
    caller: Caller,
    call: Call,
    meter: Meter,
    tenant: str = "",
) -> QuotaView:
    """Change a limit's amount, or what becomes of a stream that reaches it. What was used so far stays counted."""
    of = await meant(transaction, caller, tenant)
    await check_changeable(transaction, caller, of, quota)
    if body.amount is None and body.at_limit is None:
        raise Invalid("say the new amount, or what becomes of a stream")
    row = await transaction.fetchrow(CHANGE, quota, body.amount, body.at_limit)
    if row is None:
        raise Invalid("only a hard limit on money or tokens can stop a stream")
    call.note(resource=f"quota/{quota}", tenant=of, amount=row["amount"], at_limit=row["at_limit"])
    meter.telling.ask(of, quota, after_s=COMMITTED_S)
    return QuotaView(**view(dict(row)))


@quotas.delete("/v1/quotas/{quota}", permission="quotas:write")
async def delete_quota(
    quota: int, transaction: ControlTransaction, caller: Caller, call: Call, tenant: str = ""
) -> None:
    """Take a limit away."""
    of = await meant(transaction, caller, tenant)
    await check_changeable(transaction, caller, of, quota)
    await tell_removed(transaction, of, quota)
    await transaction.execute("DELETE FROM quotas WHERE id = $1", quota)
    call.note(resource=f"quota/{quota}", tenant=of)


@quotas.post("/v1/quotas/reconcile", permission="quotas:write")
async def reconcile(
    control: ControlDatabase, process: Process, caller: Caller, call: Call, meter: Meter, tenant: str = ""
) -> Reconciled:
    """Compare a tenant's ledger, counters and mirror now, and mend what differs from the ledger. It takes seconds."""
    of = await meant(control, caller, tenant)
    if of == PLATFORM:
        raise Invalid("name the tenant whose quotas are meant")
    found = await reconciling.reconcile(control, await database_of(process, of), meter)
    call.note(resource="quotas", tenant=of, **reconciling.summary(found))
    return found


@quotas.every("20 3 * * *", per="tenant")
async def reconcile_nightly(tick: Tick, tenant: TenantDatabase, control: ControlDatabase, meter: Meter) -> None:
    """Compare ledger, counters and mirror, mend what differs, and put it in the tenant's audit log."""
    found = await reconciling.reconcile(control, tenant, meter)
    async with control.transaction() as transaction:
        details = reconciling.summary(found)
        await transaction.audit(
            "quotas.reconcile", "quotas", actor=tick.schedule, tenant=tenant.tenant, details=details
        )
