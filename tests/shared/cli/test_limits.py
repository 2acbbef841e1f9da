"""Limits on the command line become what the platform is asked for."""

from __future__ import annotations

from typing import Any

import pytest

from shared.cli.failures import Misused
from shared.cli.limits import limits_in, micro_usd

NOTHING: dict[str, Any] = {
    **dict.fromkeys(("budget_usd", "token_budget", "rpm", "tpm", "parallel")),
    "window": "month",
    "rolling": False,
    "soft": False,
    "at_limit": "finish",
}


def test_nothing_asked_is_nothing() -> None:
    assert limits_in(NOTHING) == []


def test_a_budget_and_rates() -> None:
    given = NOTHING | {"budget_usd": "5", "rpm": 60, "tpm": 1000, "parallel": 4}
    assert limits_in(given) == [
        {"metric": "micro_usd", "amount": 5_000_000, "hard": True, "window": "month"},
        {"metric": "requests", "amount": 60, "hard": True, "window": "minute"},
        {"metric": "tokens", "amount": 1000, "hard": True, "window": "minute"},
        {"metric": "parallel", "amount": 4, "hard": True},
    ]


def test_a_soft_rolling_budget_of_tokens() -> None:
    given = NOTHING | {"token_budget": 9, "window": "hour", "rolling": True, "soft": True}
    assert limits_in(given) == [{"metric": "tokens", "amount": 9, "hard": False, "window": "hour", "rolling": True}]


def test_only_money_and_tokens_stop_streams() -> None:
    given = NOTHING | {"budget_usd": "5", "rpm": 60, "at_limit": "stop"}
    assert [one.get("at_limit") for one in limits_in(given)] == ["stop", None]


@pytest.mark.parametrize(("text", "amount"), [("0", 0), ("0.000001", 1), ("1e3", 10**9), ("0.1", 100_000)])
def test_dollars_are_exact(text: str, amount: int) -> None:
    assert micro_usd(text) == amount


@pytest.mark.parametrize("text", ["", "five", "-1", "0.0000001", "inf", "nan"])
def test_what_is_no_amount_of_dollars_is_refused(text: str) -> None:
    with pytest.raises(Misused):
        micro_usd(text)
