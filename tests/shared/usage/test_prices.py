"""Prices by date, and costs in whole micro-USD."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import fields, replace
from datetime import date, timedelta
from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.usage import prices
from shared.usage.own_prices import cards_text, own_price
from shared.usage.prices import (
    FALLS_BACK,
    INPUT_PARTS,
    OUTPUT_PARTS,
    TABLE,
    TIERS,
    Card,
    Price,
    Rates,
    Tier,
    Tokens,
    complete,
    cost_micro_usd,
    cost_pico_usd,
    half_even,
    lines_in,
    price_for,
    price_in,
    price_of,
    price_text,
)

TODAY = date(2026, 11, 24)
COUNTS = st.integers(0, 10**9)
RATES = st.builds(Rates, **{field.name: st.integers(0, 10**9) for field in fields(Rates)})
PARTS = st.fixed_dictionaries({name: st.integers(0, 10**6) for name in (*INPUT_PARTS, *OUTPUT_PARTS)})


def price(*cards: Card, since: date = TODAY) -> Price:
    return Price("m", since, cards)


def card(each: int, *, tier: Tier = "standard", above: int = 0) -> Card:
    return Card(tier, above, complete({"input": each, "output": each}))


@given(RATES, PARTS, COUNTS, COUNTS)
def test_a_cost_is_the_exact_product_rounded_once(
    rates: Rates, parts: dict[str, int], plain_in: int, plain_out: int
) -> None:
    sent = plain_in + sum(parts[name] for name in INPUT_PARTS)
    written = plain_out + sum(parts[name] for name in OUTPUT_PARTS)
    used = Tokens(sent, written, tier="standard", **parts)
    exact = plain_in * rates.input + plain_out * rates.output
    exact += sum(count * getattr(rates, name) for name, count in parts.items())
    priced = price(Card("standard", 0, rates))
    assert cost_pico_usd(priced, used) == exact
    assert cost_micro_usd(priced, used) == round(Fraction(exact, 10**6))


@given(st.integers(0, 10**18))
def test_half_a_micro_usd_goes_to_the_even_one(pico: int) -> None:
    assert half_even(pico) == round(Fraction(pico, 10**6))


@given(RATES, PARTS, st.integers(0, 1000), st.integers(0, 1000))
def test_parts_larger_than_their_whole_are_charged_up_to_it(
    rates: Rates, parts: dict[str, int], sent: int, written: int
) -> None:
    cost = rates.of(Tokens(sent, written, tier="standard", **parts))
    dearest_in = max(rates.input, *(getattr(rates, name) for name in INPUT_PARTS))
    dearest_out = max(rates.output, *(getattr(rates, name) for name in OUTPUT_PARTS))
    assert 0 <= cost <= sent * dearest_in + written * dearest_out


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
    table = tuple(price(card(day), since=start + timedelta(days=day)) for day in days)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prices, "prices_of", lambda name: table if name == "m" else ())
        found = price_of("m", start + timedelta(days=asked))
    in_force = [day for day in days if day <= asked]
    assert (found and found.cards[0].rates.input) == (max(in_force) if in_force else None)


def test_an_unknown_model_has_no_price_and_its_call_no_cost() -> None:
    assert price_of("no-such-model", TODAY) is None
    assert cost_micro_usd(None, Tokens(1, 1)) is None


def test_unknown_usage_has_no_cost() -> None:
    assert cost_micro_usd(price(card(1)), None) is None


def test_a_tier_without_a_price_has_no_cost() -> None:
    priced = price(card(1_000_000), card(2_000_000, tier="flex"))
    used = Tokens(1, 1)
    costs = [cost_micro_usd(priced, replace(used, tier=tier)) for tier in TIERS]
    assert dict(zip(TIERS, costs, strict=True)) == {"standard": 2, "batch": None, "flex": 4, "priority": None}


def test_above_a_threshold_all_tokens_have_the_other_price() -> None:
    priced = price(card(1_000_000), card(2_000_000, above=10), card(3_000_000, above=20))
    assert [cost_micro_usd(priced, Tokens(sent, 1)) for sent in (0, 10, 11, 20, 21)] == [1, 11, 24, 42, 66]


def test_what_has_no_price_of_its_own_costs_what_it_falls_back_to() -> None:
    rates = complete({"input": 1, "output": 2, "written_5m": 3})
    assert rates == Rates(1, 2, 1, 3, 3, 1, 1, 2, 2, 2)


@given(st.lists(st.tuples(st.sampled_from(TIERS), st.integers(0, 10**6), RATES), min_size=1, max_size=4))
def test_a_price_is_read_as_it_was_written(cards: list[tuple[Tier, int, Rates]]) -> None:
    written = price(*(Card(*one) for one in cards))
    assert price_in(price_text(written)) == written


def test_a_model_that_could_break_the_table_has_no_price() -> None:
    assert [price_of(name, TODAY) for name in ("", "gpt-4o\t2023-01-01", "x\ngpt-4o", "#", "gpt-4o\0")] == [None] * 5


def test_a_reseller_s_model_goes_by_the_reseller_s_name() -> None:
    own, resold = price_of("gpt-4o", TODAY), price_of("gpt-4o", TODAY, provider="azure")
    assert own is not None
    assert resold is not None
    assert (own.model, resold.model) == ("gpt-4o", "azure/gpt-4o")
    assert price_of("gpt-4o", TODAY, provider="my-own") == own


def test_importing_the_ledger_reads_no_price() -> None:
    code = "from shared.usage import prices, Ledger; raise SystemExit(prices.table_bytes.cache_info().currsize)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


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
    assert old.cards[0].rates.input > current.cards[0].rates.input


def test_a_price_that_changed_is_found_by_its_day() -> None:
    before, after = price_of("o3", date(2025, 6, 9)), price_of("o3", date(2025, 6, 10))
    assert before is not None
    assert after is not None
    assert [one.cards[0].rates.input for one in (before, after)] == [10_000_000, 2_000_000]


def test_the_table_holds_only_prices_that_can_be_one() -> None:
    found = [price_in(line) for line in lines_in(TABLE.read_bytes())]
    assert len({(one.model, one.since) for one in found}) == len(found) > 1000
    usd_per_million_max = 1000
    for one in found:
        assert one.since <= TODAY
        for of_tier in one.cards:
            for field in fields(Rates):
                assert 0 <= getattr(of_tier.rates, field.name) <= usd_per_million_max * 10**6, one.model


def test_only_built_in_models_are_free() -> None:
    free = [
        one.model
        for one in map(price_in, lines_in(TABLE.read_bytes()))
        if not any(of_tier.rates.input or of_tier.rates.output for of_tier in one.cards)
    ]
    assert sorted(free) == ["all-minilm-l6-v2", "dcoder-moderation", "doc-chat"]


def test_every_kind_of_token_falls_back_to_one_that_is_told_first() -> None:
    known = {"input", "output"}
    for name, other in FALLS_BACK.items():
        assert other in known
        known.add(name)


def own(model: str, since: date, each: int) -> Price:
    return Price(model, since, (card(each),), own=True)


def found_for(prices: dict[str, tuple[Price, ...]], model: str, *, sold_by: str = "p") -> int | str | None:
    """What the own price asks for input, or whose the price is."""
    found = price_for(prices, model, TODAY, sold_by=sold_by)
    return None if found is None else found.cards[0].rates.input if found.own else "published"


def test_own_prices_go_before_the_published_one_from_their_day_on() -> None:
    past, later = own("gpt-4o", TODAY, 1), own("gpt-4o", TODAY + timedelta(days=1), 2)
    assert found_for({"gpt-4o": (past, later)}, "gpt-4o") == 1
    assert found_for({"gpt-4o": (later,)}, "gpt-4o") == "published"
    assert found_for({}, "gpt-4o") == "published"
    assert found_for({"mine": (past,)}, "mine") == 1


def test_the_closest_name_decides() -> None:
    at_p, anywhere, dated = (own(name, TODAY, each) for name, each in (("p/gpt-4o", 1), ("gpt-4o", 2), ("x", 3)))
    assert found_for({"p/gpt-4o": (at_p,), "gpt-4o": (anywhere,)}, "gpt-4o") == 1
    assert found_for({"p/gpt-4o": (at_p,), "gpt-4o": (anywhere,)}, "gpt-4o", sold_by="q") == 2
    assert found_for({"gpt-4o": (anywhere,)}, "gpt-4o-2031-01-01") == 2
    assert found_for({"gpt-4o": (anywhere,)}, "gpt-4o-2024-05-13") == "published"
    assert found_for({"gpt-4o": (anywhere,), "gpt-4o-2024-05-13": (dated,)}, "gpt-4o-2024-05-13") == 3


@given(RATES, st.sampled_from(TIERS))
def test_an_own_price_is_read_as_it_was_written(rates: Rates, tier: Tier) -> None:
    written = Price("m", TODAY, (Card("standard", 0, rates), Card(tier, 5, rates)), own=True)
    assert own_price("m", TODAY, cards_text(written)) == written
