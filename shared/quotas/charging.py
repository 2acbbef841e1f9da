"""What a call is charged: what it may take at most before it is made, and what it took once it has ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from datetime import date
from functools import lru_cache

from shared.quotas.counters import Refused
from shared.quotas.limits import Quota
from shared.usage import Charge, Ended, OpenCall, Outcome, Price, Tokens, cost_micro_usd, price_of
from shared.usage.prices import most_micro_usd, most_output

DAY_US = 86_400_000_000
EPOCH = date(1970, 1, 1).toordinal()


def refusing(quota: Quota) -> bool:
    return quota.hard and quota.enforced


def stopping(quotas: Iterable[Quota]) -> bool:
    """Whether there is a hard limit on money or tokens, and each of them stops a stream that reaches it."""
    budgets = [quota for quota in quotas if refusing(quota) and quota.metric in ("micro_usd", "tokens")]
    return bool(budgets) and all(quota.at_limit == "stop" for quota in budgets)


def charge_of(call: OpenCall, most: Tokens) -> Charge:
    return Charge(most_micro_usd(price_at(call), most), most.input + most.output)


def price_at(call: OpenCall) -> Price | None:
    return price_on(call.model, call.prices, call.started_us // DAY_US)


@lru_cache(maxsize=2000)
def price_on(model: str, prices: str, day: int) -> Price | None:
    """The price in force on a day, by its number since 1970."""
    return price_of(model, date.fromordinal(EPOCH + day), provider=prices)


def output_that_fits(call: OpenCall, quota: Quota, refused: Refused, most: Tokens) -> int:
    """How many output tokens the refusing limit has room for beside the input; 0 when output is not what it counts."""
    room = quota.amount - refused.used - refused.reserved
    if quota.metric == "tokens":
        return max(0, room - most.input)
    price = price_at(call)
    if quota.metric != "micro_usd" or price is None:
        return 0
    return max(0, most_output(price, most.input, room - most_micro_usd(price, replace(most, output=0)) - 1))


def ended_of(call: OpenCall, outcome: Outcome, used: Tokens | None) -> Ended:
    """How the call ended. What is not known of its cost and tokens is charged as reserved."""
    price = price_at(call)
    cost = cost_micro_usd(price, used)
    price_known = price is not None and (used is None or cost is not None)
    charge = Charge(
        call.reserved.micro_usd if cost is None else cost,
        call.reserved.tokens if used is None else used.input + used.output,
    )
    return Ended(outcome, used, price_known, cost, charge)
