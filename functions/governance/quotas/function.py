"""Quotas: what a tenant, its keys, members, groups, tags and models may use; set, changed, and how they stand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from pydantic import BaseModel, Field

from shared.clock import Clock
from shared.errors import Forbidden, Invalid, NotFound
from shared.function import Call, Function, Scale
from shared.identity import Caller
from shared.ids import TenantId
from shared.postgres import ControlDatabase, ControlTransaction
from shared.quotas import Meter
from shared.quotas.counters import State
from shared.quotas.limits import AMOUNT_MAX, Metric, Quota, Scope
from shared.quotas.making import COLUMNS, TAG, Limit, check_unlimited, checked_owner, insert_quota, root_key

quotas = Function(scale=Scale(max=5))

ID_MAX = 2**63 - 1


class NewQuota(Limit):
    """A limit and whose it is: the tenant's, or that of a key (its id), a member or group that keys belong to, a tag,
    or a model by its provider's name."""

    scope: Scope
    name: str = Field(default="", max_length=200)


class Change(BaseModel):
    amount: int | None = Field(default=None, ge=0, le=AMOUNT_MAX)


class QuotaView(BaseModel):
    """`window` is `calendar:<unit>`, `rolling:<seconds>` or `ever`."""

    id: int
    scope: Scope
    name: str
    metric: Metric
    window: str
    amount: int
    hard: bool
    by_operator: bool
    """Set by an operator: the tenant cannot change it."""
    created_by: str
    created_at: datetime


class StandingQuota(QuotaView):
    used: int
    reserved: int
    """By calls in flight."""
    resets_at: datetime | None


class QuotaList(BaseModel):
    quotas: list[StandingQuota]


async def owner(queries: ControlDatabase | ControlTransaction, caller: Caller, named: str) -> TenantId:
    """The tenant whose quotas are meant: the caller's own, or for operators the named one. Raises `NotFound`."""
    if not named or named == caller.tenant:
        return caller.tenant
    known = caller.role == "operator" and await queries.fetchval(
        "SELECT true FROM tenants WHERE id = $1 AND state IN ('ready', 'moving')", named
    )
    if not known:
        raise NotFound(f"there is no tenant {named[:40]!r}")
    return TenantId(named)


def view(row: dict[str, Any]) -> dict[str, Any]:  # Any: a database row
    return {**row, "window": row["span"]}


@quotas.post("/v1/quotas", permission="quotas:write", success=201)
async def create_quota(
    body: NewQuota, transaction: ControlTransaction, caller: Caller, call: Call, tenant: str = ""
) -> QuotaView:
    """Set a limit. It holds in every process within a second, and counts what was used in its window before."""
    of = await owner(transaction, caller, tenant)
    await check_unlimited(transaction, caller)
    row = await insert_quota(transaction, caller, of, body.scope, await name_of(transaction, of, body), body)
    call.note(resource=f"quota/{row['id']}", tenant=of, scope=body.scope, metric=body.metric, amount=body.amount)
    return QuotaView(**view(row))


async def name_of(transaction: ControlTransaction, tenant: TenantId, wanted: NewQuota) -> str:
    """The name as it is stored. Raises `Invalid` or `NotFound`."""
    if (wanted.scope == "tenant") != (wanted.name == ""):
        raise Invalid("a quota of the tenant has no name; every other one has")
    if wanted.scope == "key":
        return await root_key(transaction, tenant, wanted.name)
    if wanted.scope in ("member", "group"):
        return checked_owner(wanted.name, wanted.scope)
    if wanted.scope == "tag" and not TAG.fullmatch(wanted.name):
        raise Invalid(f"{wanted.name[:64]!r} is not a tag: 1 to 63 of a-z, 0-9, dot, hyphen and underscore")
    return wanted.name


@quotas.get("/v1/quotas", permission="quotas:read")
async def list_quotas(
    control: ControlDatabase, caller: Caller, meter: Meter, clock: Clock, tenant: str = ""
) -> QuotaList:
    """List a tenant's quotas and how each stands."""
    of = await owner(control, caller, tenant)
    rows = [dict(row) for row in await control.fetch(f"SELECT {COLUMNS} FROM quotas WHERE tenant = $1 ORDER BY id", of)]
    known = [
        Quota(row["id"], row["scope"], row["name"], row["metric"], row["span"], row["amount"], row["hard"])
        for row in rows
    ]
    states = await meter.states(of, known) if known else []
    return QuotaList(
        quotas=[
            StandingQuota(**view(row), used=state.used, reserved=state.reserved, resets_at=reset(state, clock))
            for row, state in zip(rows, states, strict=True)
        ]
    )


def reset(state: State, clock: Clock) -> datetime | None:
    return None if state.ends_ms < 0 else clock.now().astimezone(UTC) + timedelta(milliseconds=state.ends_ms)


@quotas.patch("/v1/quotas/{quota}", permission="quotas:write")
async def change_quota(
    quota: int, body: Change, transaction: ControlTransaction, caller: Caller, call: Call, tenant: str = ""
) -> QuotaView:
    """Change a limit's amount. What was used so far stays counted."""
    of = await owner(transaction, caller, tenant)
    await check_changeable(transaction, caller, of, quota)
    if body.amount is None:
        raise Invalid("say the new amount")
    row = await transaction.fetchrow(
        f"UPDATE quotas SET amount = $2 WHERE id = $1 RETURNING {COLUMNS}", quota, body.amount
    )
    assert row is not None
    call.note(resource=f"quota/{quota}", tenant=of, amount=body.amount)
    return QuotaView(**view(dict(row)))


@quotas.delete("/v1/quotas/{quota}", permission="quotas:write")
async def delete_quota(
    quota: int, transaction: ControlTransaction, caller: Caller, call: Call, tenant: str = ""
) -> None:
    """Take a limit away."""
    of = await owner(transaction, caller, tenant)
    await check_changeable(transaction, caller, of, quota)
    await transaction.execute("DELETE FROM quotas WHERE id = $1", quota)
    call.note(resource=f"quota/{quota}", tenant=of)


async def check_changeable(transaction: ControlTransaction, caller: Caller, tenant: TenantId, quota: int) -> None:
    """Raises `NotFound`, or `Forbidden` for an operator's quota and for a caller who is limited."""
    if not 0 < quota <= ID_MAX:
        raise NotFound(f"there is no quota {quota}")
    by_operator = await transaction.fetchval(
        "SELECT by_operator FROM quotas WHERE id = $1 AND tenant = $2 FOR UPDATE", quota, tenant
    )
    if by_operator is None:
        raise NotFound(f"there is no quota {quota}")
    if by_operator and caller.role != "operator":
        raise Forbidden("an operator has set this quota; operators change it")
    await check_unlimited(transaction, caller)
