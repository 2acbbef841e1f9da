"""How a call is refused that would go beyond a limit: when there is room again, in a form that SDKs act on."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

from shared.errors import Problem, Refusal, TooManyRequests
from shared.quotas.counters import Refused
from shared.quotas.limits import Quota

SHORT_MS = 60_000
"""Up to so long it is worth an SDK's while to wait and try again."""


class QuotaExceeded(TooManyRequests):
    """A limit leaves no room for the call. Nothing was charged, nothing was forwarded."""

    code, title = "quota_exceeded", "Quota exceeded"


class BeyondQuota(Refusal):
    """The call alone takes more than the whole limit: waiting does not help, a smaller call does."""

    status, code, title = 429, "beyond_quota", "Larger than the quota"


class Unpriced(Refusal):
    """A budget in money holds for the call, and what the model costs is not known."""

    status, code, title = 403, "price_unknown", "Price unknown"


def unpriced(model: str) -> Problem:
    return Unpriced(
        f"the price of {model[:100]!r} is not known, so a budget in USD cannot be kept;"
        " limit tokens or requests instead",
        param="model",
    )


def refusal(quota: Quota, refused: Refused, wanted: int, at_s: float) -> Problem:
    """The problem that says which limit it is, how it stands, and when it has room."""
    stands = f"{refused.used} used and {refused.reserved} reserved of {quota.amount}; this call may take {wanted}"
    code = "rate_limit_exceeded" if quota.metric in ("requests", "parallel") else "insufficient_quota"
    members: dict[str, Any] = {  # Any: JSON

        "scope": quota.scope, "name": quota.name, "metric": quota.metric, "window": quota.window,
        "limit": quota.amount, "used": refused.used, "reserved": refused.reserved, "wanted": wanted,
        "openai_code": code,
    }  # fmt: skip
    if refused.wait_ms < 0:
        problem: Problem = BeyondQuota(f"{quota.said()}: {stands}. It does not fit, now or later", **members)
        problem.headers = {"x-should-retry": "false"}
        return problem
    again = datetime.fromtimestamp(at_s + refused.wait_ms / 1000, UTC)
    problem = QuotaExceeded(
        f"{quota.said()}: {stands}. There is room at {again:%Y-%m-%dT%H:%M:%SZ}",
        retry_after_s=max(1, math.ceil(refused.wait_ms / 1000)),
        resets_at=f"{again:%Y-%m-%dT%H:%M:%SZ}",
        **members,
    )
    problem.headers = {
        "retry-after-ms": str(refused.wait_ms),
        "x-should-retry": "true" if refused.wait_ms <= SHORT_MS else "false",
    }
    return problem
