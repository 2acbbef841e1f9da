"""Prices: what a tenant pays for a model from a day on, where that is not the published price."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from typing import Any

from pydantic import BaseModel

from functions.governance.prices.rates import CardBody, PriceBody, cards_of
from shared.clock import Clock
from shared.errors import Conflict, Forbidden, Invalid, NotFound
from shared.function import Call, Function, Scale
from shared.identity import Caller
from shared.ids import TenantId
from shared.postgres import ControlDatabase, ControlTransaction
from shared.quotas.making import check_unlimited
from shared.tenancy.meant import meant
from shared.usage.own_prices import PRICES_MAX, cards_text, own_price
from shared.usage.prices import Price

prices = Function(scale=Scale(max=5))

MODEL = re.compile(r"[^\s\x00-\x1f\x7f]{1,300}")
DAYS_AHEAD_MAX = 3660
COLUMNS = "model, since, cards, by_operator, created_by, created_at"


class PriceView(BaseModel):
    """In force from `since` (UTC) until the model's next one."""

    model: str
    since: date
    cards: list[CardBody]
    by_operator: bool
    """Set by an operator: the tenant cannot change it."""
    created_by: str
    created_at: datetime


class PriceList(BaseModel):
    prices: list[PriceView]


def view(row: dict[str, Any]) -> PriceView:  # Any: a database row
    return PriceView(**{**row, "cards": cards_of(own_price(row["model"], row["since"], row["cards"]))})


@prices.get("/v1/prices", permission="prices:read")
async def list_prices(control: ControlDatabase, caller: Caller, tenant: str = "") -> PriceList:
    """A tenant's own prices. Every other model has the published one."""
    of = await meant(control, caller, tenant)
    rows = await control.fetch(f"SELECT {COLUMNS} FROM own_prices WHERE tenant = $1 ORDER BY model, since", of)
    return PriceList(prices=[view(dict(row)) for row in rows])


@prices.put("/v1/prices/{model:path}", permission="prices:write")
async def put_price(
    model: str,
    body: PriceBody,
    transaction: ControlTransaction,
    caller: Caller,
    call: Call,
    clock: Clock,
    since: date | None = None,
    tenant: str = "",
) -> PriceView:
    """Set what a model costs from a day (UTC) on, today if none is named; in dollars per million tokens.

    `model` is a provider's name of a model, for all providers, or `<provider>/<model>` for one. It holds for calls that
    begin within a second or later; what was charged before stays.
    """
    of = await meant(transaction, caller, tenant)
    await check_may_set(transaction, caller, of)
    since = checked(model, since or today(clock), clock)
    before = await standing(transaction, caller, of, model, since)
    await check_count(transaction, of, adding=before is None)
    text = cards_text(Price(model, since, body.in_cards()))
    row = await transaction.fetchrow(
        "INSERT INTO own_prices (tenant, model, since, cards, by_operator, created_by) VALUES ($1, $2, $3, $4, $5, $6)"
        " ON CONFLICT (tenant, model, since) DO UPDATE SET cards = excluded.cards, by_operator = excluded.by_operator,"
        f" created_by = excluded.created_by, created_at = clock_timestamp() RETURNING {COLUMNS}",
        of, model, since, text, caller.role == "operator", caller.subject,
    )  # fmt: skip
    assert row is not None
    call.note(resource=f"price/{model}", tenant=of, since=since.isoformat(), before=before, now=text)
    return view(dict(row))


@prices.delete("/v1/prices/{model:path}", permission="prices:write")
async def delete_price(
    model: str,
    transaction: ControlTransaction,
    caller: Caller,
    call: Call,
    clock: Clock,
    since: date | None = None,
    tenant: str = "",
) -> None:
    """Take away the price that is in force from that day on, today if none is named; the one before it, or the
    published one, holds again."""
    of = await meant(transaction, caller, tenant)
    await check_may_set(transaction, caller, of)
    since = since or today(clock)
    before = await standing(transaction, caller, of, model, since)
    if before is None:
        raise NotFound(f"there is no price of {model[:100]!r} from {since} on")
    await transaction.execute(
        "DELETE FROM own_prices WHERE tenant = $1 AND model = $2 AND since = $3", of, model, since
    )
    call.note(resource=f"price/{model}", tenant=of, since=since.isoformat(), before=before)


def today(clock: Clock) -> date:
    return clock.now().astimezone(UTC).date()


def checked(model: str, since: date, clock: Clock) -> date:
    """The day. Raises `Invalid` for a name or a day that cannot be one."""
    if not MODEL.fullmatch(model):
        raise Invalid(f"{model[:100]!r} is no model's name: 1 to 300 characters without white space")
    if since > today(clock) + timedelta(days=DAYS_AHEAD_MAX):
        raise Invalid(f"{since} is more than ten years from now")
    return since


async def check_may_set(transaction: ControlTransaction, caller: Caller, tenant: TenantId) -> None:
    """What a tenant pays decides how far a budget in money reaches. So nobody who is limited sets it: no limited key,
    and no tenant that an operator has given a budget. Raises `Forbidden`."""
    if caller.role == "operator":
        return
    await check_unlimited(transaction, caller)
    if await transaction.fetchval(
        "SELECT true FROM quotas WHERE tenant = $1 AND metric = 'micro_usd' AND by_operator LIMIT 1", tenant
    ):
        raise Forbidden("an operator has set a budget in money for this tenant; operators set its prices")


async def standing(
    transaction: ControlTransaction, caller: Caller, tenant: TenantId, model: str, since: date
) -> str | None:
    """The cards of the price that is there, or None. Raises `Forbidden` for an operator's."""
    row = await transaction.fetchrow(
        "SELECT cards, by_operator FROM own_prices WHERE tenant = $1 AND model = $2 AND since = $3 FOR UPDATE",
        tenant,
        model,
        since,
    )
    if row is None:
        return None
    if row["by_operator"] and caller.role != "operator":
        raise Forbidden("an operator has set this price; operators change it")
    return str(row["cards"])


async def check_count(transaction: ControlTransaction, tenant: TenantId, *, adding: bool) -> None:
    count = await transaction.fetchval("SELECT count(*) FROM own_prices WHERE tenant = $1", tenant)
    if adding and count >= PRICES_MAX:
        raise Conflict(f"tenant {tenant!r} has {PRICES_MAX} prices of its own, which is the most")
