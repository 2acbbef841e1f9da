"""Limits on the command line: the options of `key create` and `quota add`, and what they are over HTTP."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal, InvalidOperation
from typing import Any, TypeVar

import click

from shared.cli.failures import Misused

F = TypeVar("F", bound=Callable[..., Any])  # Any: a command's own parameters
MICRO = 1_000_000
AT_LIMIT = ("finish", "stop")
WINDOWS = ("minute", "hour", "day", "week", "month", "ever")


def limit_options(command: F) -> F:
    """Adds the options, whose values `limits_in` understands."""
    for option in reversed(
        (
            click.option("--budget-usd", metavar="USD", help="Dollars in the window."),
            click.option("--tokens", "token_budget", type=click.IntRange(0), help="Tokens in the window."),
            click.option(
                "--window", type=click.Choice(WINDOWS), default="month", show_default=True,
                help="Of --budget-usd and --tokens: by the calendar, in UTC.",
            ),
            click.option("--rolling", is_flag=True, help="Let that window roll instead."),
            click.option("--soft", is_flag=True, help="Count only; refuse nothing."),
            click.option(
                "--at-limit", type=click.Choice(AT_LIMIT), default="finish", show_default=True,
                help="Of --budget-usd, --tokens and --tpm: what becomes of a stream that reaches it.",
            ),
            click.option("--rpm", type=click.IntRange(0), help="Calls in any minute."),
            click.option("--tpm", type=click.IntRange(0), help="Tokens in any minute."),
            click.option("--parallel", type=click.IntRange(0), help="Calls at once."),
        )
    ):  # fmt: skip
        command = option(command)
    return command


def limits_in(given: Mapping[str, Any]) -> list[dict[str, object]]:  # Any: the options' values
    """The limits that the options ask for. Raises `Misused`."""
    budget = {"window": given["window"], **({"rolling": True} if given["rolling"] else {})}
    wanted: list[tuple[str, int | None, dict[str, object]]] = [
        ("micro_usd", micro_usd(given["budget_usd"]), budget),
        ("tokens", given["token_budget"], budget | {"rolling": given["rolling"]}),
        ("requests", given["rpm"], {"window": "minute"}),
        ("tokens", given["tpm"], {"window": "minute"}),
        ("parallel", given["parallel"], {}),
    ]
    return [
        {"metric": metric, "amount": amount, "hard": not given["soft"], **window, **policy_of(metric, given)}
        for metric, amount, window in wanted
        if amount is not None
    ]


def policy_of(metric: str, given: Mapping[str, Any]) -> dict[str, object]:  # Any: the options' values
    """Calls cannot stop a stream; only where `stop` is asked for, something is said of it."""
    stops = given["at_limit"] == "stop" and metric in ("micro_usd", "tokens")
    return {"at_limit": "stop"} if stops else {}


def micro_usd(text: str | None) -> int | None:
    """Dollars as written, in millionths; exact. Raises `Misused`."""
    if text is None:
        return None
    try:
        amount = Decimal(text) * MICRO
    except InvalidOperation:
        amount = Decimal(-1)
    if not amount.is_finite() or amount < 0 or amount != amount.to_integral_value():
        raise Misused(f"{text!r} is no amount of dollars", why="expected something like 5 or 0.25, to a millionth")
    return int(amount)
