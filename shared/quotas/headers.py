"""How a caller's limits stand, in the headers that OpenAI's API has for that, and one of ours for money."""

from __future__ import annotations

import math

from shared.quotas.counters import State
from shared.quotas.limits import EVER, Quota
from shared.quotas.metered import Metered


def limit_headers(metered: Metered) -> dict[str, str]:
    """`x-ratelimit-*` of the tightest limit on requests and on tokens, and what is left of the tightest budget."""
    tightest: dict[str, tuple[int, Quota, State]] = {}
    for quota, state in zip(metered.quotas, metered.states, strict=False):  # no states while Redis is away
        metric = quota.metric
        if metric == "parallel" or (quota.window == EVER and metric != "micro_usd"):
            continue
        left = max(0, quota.amount - state.used - state.reserved)
        if metric not in tightest or left < tightest[metric][0]:
            tightest[metric] = left, quota, state
    headers = {}
    for metric in ("requests", "tokens"):
        if metric in tightest:
            left, quota, state = tightest[metric]
            headers[f"x-ratelimit-limit-{metric}"] = str(quota.amount)
            headers[f"x-ratelimit-remaining-{metric}"] = str(left)
            headers[f"x-ratelimit-reset-{metric}"] = f"{math.ceil(state.ends_ms / 1000)}s"
    if "micro_usd" in tightest:
        headers["x-dcoder-budget-remaining-micro-usd"] = str(tightest["micro_usd"][0])
    return headers
