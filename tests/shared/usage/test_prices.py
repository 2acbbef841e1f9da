"""Prices by date, and costs in whole micro-USD."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.usage.prices import Price, Tokens, cost_micro_usd, indexed, price_of, price_table

TODAY = date(2026, 11, 24)
COUNTS = st.integers(0, 10**9)
PRICES = st.decimals(min_value=0, max_value=1000, places=4)


def price(since: date = TODAY, each: str = "1", limit: int | None = None) -> Price:
    return Price("m", since, Decimal(each), Decimal(each), Decimal(each), limit)


@given(COUNTS, COUNTS, COUNTS, PRICES, PRICES, PRICES)
def test_a_cost_is_the_exact_product_rounded_once(
    sent: int, written: int, cached: int, of_input: Decimal, of_cached: Decimal, of_output: Decimal
) -> None:
    cached = min(cached, sent)
    exact = (sent - cached) * Fraction(of_input) + cached * Fraction(of_cached) + written * Fraction(of_output)
    cost = cost_micro_usd(Price("m", TODAY, of_input, of_cached, of_output), Tokens(sent, written, cached))
    assert cost == round(exact)


@given(COUNTS, COUNTS)
def test_more_tokens_never_cost_less(sent: int, written: int) -> None:
    table = price_of("gpt-4o-mini", TODAY)
    less, more = (cost_micro_usd(table, Tokens(sent, count)) for count in (written, written + 1))
    assert less is not None
    assert more is not None
    assert less <= more


@given(st.lists(st.integers(0, 1000), min_size=1, unique=True), st.integers(0, 1100))
def test_the_price_of_a_day_is_the_last_one_that_came_into_force(days: list[int], asked: int) -> None:
    start = date(2024, 1, 1)
    table = indexed(price(start + timedelta(days=day), str(day)) for day in days)
    found = price_of("m", start + timedelta(days=asked), table)
    in_force = [day for day in days if day <= asked]
    assert (found and found.input) == (Decimal(max(in_force)) if in_force else None)


def test_an_unknown_model_has_no_price_and_its_call_no_cost() -> None:
    assert price_of("no-such-model", TODAY) is None
    assert cost_micro_usd(None, Tokens(1, 1)) is None


def test_unknown_usage_has_no_cost() -> None:
    assert cost_micro_usd(price(), None) is None


def test_beyond_the_known_tier_the_cost_is_unknown() -> None:
    assert cost_micro_usd(price(limit=10), Tokens(10, 5)) == 15
    assert cost_micro_usd(price(limit=10), Tokens(11, 5)) is None


def test_more_cached_than_sent_is_all_of_it_cached() -> None:
    assert cost_micro_usd(Price("m", TODAY, Decimal(2), Decimal(1), Decimal(0)), Tokens(10, 0, 50)) == 10


@pytest.mark.parametrize(
    ("model", "known"),
    [
        ("gpt-4o", True),
        ("gpt-4o-2029-01-31", True),
        ("gpt-4o-20290131", True),
        ("gpt-4o-2029", False),
        ("claude-sonnet-4-5-20250929", True),
        ("doc-chat", True),
        ("doc-chat/no-such-model", True),
        ("all-minilm-l6-v2", True),
        ("someone/gpt-4o", False),
    ],
)
def test_a_date_at_the_end_of_a_name_is_looked_past_and_nothing_else(model: str, known: bool) -> None:
    assert (price_of(model, TODAY) is not None) == known


def test_a_dated_name_with_a_price_of_its_own_keeps_it() -> None:
    old, current = price_of("gpt-4o-2024-05-13", TODAY), price_of("gpt-4o", TODAY)
    assert old is not None
    assert current is not None
    assert old.input > current.input


def test_a_price_that_changed_is_found_by_its_day() -> None:
    before, after = price_of("o3", date(2025, 6, 9)), price_of("o3", date(2025, 6, 10))
    assert before is not None
    assert after is not None
    assert (before.input, after.input) == (Decimal(10), Decimal(2))


def test_the_table_holds_only_prices_that_can_be_one() -> None:
    for prices in price_table().values():
        assert len({one.since for one in prices}) == len(prices)
        for one in prices:
            assert one.cached >= 0
            assert 0 <= one.input < 1000
            assert 0 <= one.output < 1000
            assert one.since <= TODAY
