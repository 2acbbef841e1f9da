"""What a call is charged: what it may take at most before it is made, and what it took once it has ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date, datetime
from functools import lru_cache

from shared.quotas.counters import Refused
from shared.quotas.limits import Quota
from shared.usage import Charge, Ended, OpenCall, Outcome, Price, Tokens, cost_micro_usd, price_of
from shared.usage.prices import OwnPrices, most_micro_usd, most_output, price_for


def stopping(quotas: Iterable[Quota]) -> bool:
    """Whether there is a hard limit on money or tokens, and each of them stops a stream that reaches it."""
    budgets = [quota for quota in quotas if quota.refuses and quota.metric in ("micro_usd", "tokens")]
    return bool(budgets) and all(quota.at_limit == "stop" for quota in budgets)


def charge_of(price: Price | None, most: Tokens) -> Charge:
    return Charge(most_micro_usd(price, most), most.input + most.output)


def price_at(own: OwnPrices, model: str, sold_by: str, prices: str, at: datetime) -> Price | None:
    """The price for a tenant with these own prices. `prices`: whose published ones hold, if not the publisher's."""
    if own:
        return price_for(own, model, at.date(), sold_by=sold_by, provider=prices)
    return published(model, prices, at.date())


@lru_cache(maxsize=2000)
def published(model: str, prices: str, day: date) -> Price | None:
    return price_of(model, day, provider=prices)


def output_that_fits(call: OpenCall, quota: Quota, refused: Refused, most: Tokens) -> int:
    """How many output tokens the refusing limit has room for beside the input; 0 when output is not what it counts."""
    room = quota.amount - refused.used - refused.reserved
    if quota.metric == "tokens":
        return max(0, room - most.input)
    price = call.price
    if quota.metric != "micro_usd" or price is None:
        return 0
    return max(0, most_output(price, most.input, room - most_micro_usd(price, replace(most, output=0)) - 1))


def ended_of(call: OpenCall, outcome: Outcome, used: Tokens | None, *, saved_micro_usd: int | None = None) -> Ended:
    """How the call ended. What is not known of its cost and tokens is charged as reserved."""
    cost = cost_micro_usd(call.price, used)
    price_known = call.price is not None and (used is None or cost is not None)
    charge = Charge(
        call.reserved.micro_usd if cost is None else cost,
        call.reserved.tokens if used is None else used.input + used.output,
    )
    return Ended(outcome, used, price_known, cost, charge, saved_micro_usd)
