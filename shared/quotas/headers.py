"""How a caller's limits stand, in the headers that OpenAI's API has for that, and one of ours for money."""

from __future__ import annotations

import math
from collections.abc import Iterator

from shared.quotas.counters import State
from shared.quotas.limits import EVER, Quota
from shared.quotas.metered import Metered


def limit_headers(metered: Metered) -> dict[str, str]:
    """`x-ratelimit-*` of the tightest limit on requests and on tokens, and what is left of the tightest budget."""
    pairs = list(zip(metered.quotas, metered.states, strict=False))  # no states while Redis is away
    headers = dict(pair for metric in ("requests", "tokens") for pair in rate_of(metric, pairs))
    budgets = [left(quota, state) for quota, state in pairs if quota.metric == "micro_usd"]
    if budgets:
        headers["x-dcoder-budget-remaining-micro-usd"] = str(min(budgets))
    return headers


def rate_of(metric: str, pairs: list[tuple[Quota, State]]) -> Iterator[tuple[str, str]]:
    rates = [pair for pair in pairs if pair[0].metric == metric and pair[0].window != EVER]
    if rates:
        quota, state = min(rates, key=lambda pair: left(*pair))
        yield f"x-ratelimit-limit-{metric}", str(quota.amount)
        yield f"x-ratelimit-remaining-{metric}", str(left(quota, state))
        yield f"x-ratelimit-reset-{metric}", f"{math.ceil(state.ends_ms / 1000)}s"


def left(quota: Quota, state: State) -> int:
    return max(0, quota.amount - state.used - state.reserved)
