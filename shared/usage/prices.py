"""Prices by model and date, and a call's cost in whole micro-USD.

`prices.json` says where its figures come from and which day they are of. A model that is not in it has no known price.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_CEILING, ROUND_HALF_EVEN, Decimal
from functools import cache
from pathlib import Path

DOC_CHAT = "doc-chat"


@dataclass(frozen=True)
class Tokens:
    """What a call used. `cached` is the part of `input` that the provider had cached."""

    input: int = 0
    output: int = 0
    cached: int = 0


@dataclass(frozen=True)
class Charge:
    """What a call takes, or reserves, of each metric of quotas. Requests and parallel calls count one by one."""

    micro_usd: int = 0
    tokens: int = 0

    def of(self, metric: str) -> int:
        return {"micro_usd": self.micro_usd, "tokens": self.tokens}.get(metric, 1)


@dataclass(frozen=True)
class Price:
    """USD per million tokens, which is micro-USD per token, from a day on.

    Beyond `input_tokens_max` the publisher asks another price, which is not known here.
    """

    model: str
    since: date
    input: Decimal
    cached: Decimal
    output: Decimal
    input_tokens_max: int | None = None


PriceTable = Mapping[str, tuple[Price, ...]]


def price_of(model: str, day: date, table: PriceTable | None = None) -> Price | None:
    """The price in force that day, or None when it is not known.

    A date at the end of the name (`gpt-4o-2024-11-20`) is looked past unless it has a price of its own. What
    `doc-chat/<model>` costs is the cost of the model's own call.
    """
    prices = price_table() if table is None else table
    if model.startswith(f"{DOC_CHAT}/"):
        model = DOC_CHAT
    for name in (model, without_date(model)):
        fitting = [price for price in prices.get(name, ()) if price.since <= day]
        if fitting:
            return max(fitting, key=lambda price: price.since)
    return None


def without_date(model: str) -> str:
    head, _, tail = model.rpartition("-20")
    return head if head and len(tail) in (6, 8) and tail.replace("-", "").isdigit() else model


def cost_micro_usd(price: Price | None, used: Tokens | None) -> int | None:
    """Whole micro-USD: multiplied exactly, rounded once, half to even. None when price or usage is not known.

    Cached tokens are part of the input tokens and have a price of their own.
    """
    if price is None or used is None:
        return None
    if price.input_tokens_max is not None and used.input > price.input_tokens_max:
        return None
    cached = min(used.cached, used.input)
    exact = (used.input - cached) * price.input + cached * price.cached + used.output * price.output
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


def most_micro_usd(price: Price | None, tokens: Tokens) -> int:
    """What so many tokens cost at most, rounded up, whatever is cached; tiers left aside. Zero for no known price."""
    if price is None:
        return 0
    exact = tokens.input * max(price.input, price.cached) + tokens.output * price.output
    return int(exact.to_integral_value(ROUND_CEILING))


@cache
def price_table() -> PriceTable:
    """The table that comes with this version."""
    content = json.loads(Path(__file__).with_name("prices.json").read_text(encoding="utf-8"))
    return indexed(price_in(row) for row in content["prices"])


def indexed(prices: Iterable[Price]) -> PriceTable:
    found: dict[str, tuple[Price, ...]] = {}
    for price in prices:
        found[price.model] = (*found.get(price.model, ()), price)
    return found


def price_in(row: Mapping[str, str | int]) -> Price:
    limit = row.get("input_tokens_max")
    return Price(
        str(row["model"]),
        date.fromisoformat(str(row["from"])),
        Decimal(row["input"]),
        Decimal(row["cached"]),
        Decimal(row["output"]),
        None if limit is None else int(limit),
    )
