"""Prices by model and date, and a call's cost in whole micro-USD."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import date
from decimal import ROUND_HALF_EVEN, Decimal
from functools import cache
from pathlib import Path


@dataclass(frozen=True)
class Price:
    """USD per million tokens, which is micro-USD per token, from a day on."""

    model: str
    since: date
    input: Decimal
    cached: Decimal
    output: Decimal


def price_of(model: str, day: date, table: tuple[Price, ...] | None = None) -> Price | None:
    """The price in force that day, or None when it is not known. A date suffix (`gpt-4o-2024-08-06`) is looked past."""
    prices = price_table() if table is None else table
    for name in (model, without_date(model)):
        fitting = [price for price in prices if price.model == name and price.since <= day]
        if fitting:
            return max(fitting, key=lambda price: price.since)
    return None


def without_date(model: str) -> str:
    head, _, tail = model.rpartition("-20")
    return head if head and len(tail) in (2, 6, 8) and tail.replace("-", "").isdigit() else model


def cost_micro_usd(price: Price, *, input_tokens: int, cached_tokens: int, output_tokens: int) -> int:
    """Whole micro-USD, rounded once, half to even. Cached tokens are part of the input tokens and cost their own price."""
    cached = min(cached_tokens, input_tokens)
    exact = (input_tokens - cached) * price.input + cached * price.cached + output_tokens * price.output
    return int(exact.to_integral_value(ROUND_HALF_EVEN))


@cache
def price_table() -> tuple[Price, ...]:
    content = json.loads((Path(__file__).with_name("prices.json")).read_text())
    return tuple(
        Price(
            row["model"],
            date.fromisoformat(row["from"]),
            Decimal(row["input"]),
            Decimal(row["cached"]),
            Decimal(row["output"]),
        )
        for row in content["prices"]
    )
