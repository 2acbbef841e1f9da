"""The table of prices from a published map."""

from __future__ import annotations

from datetime import date
from typing import Any

import pytest

from shared.usage.conversion import EARLIEST, merged, prices_in, table_text
from shared.usage.prices import Price, Tokens, cost_pico_usd, lines_in, price_in

PLAIN: dict[str, Any] = {  # Any: JSON of the map
    "litellm_provider": "openai", "mode": "chat", "input_cost_per_token": 2e-06, "output_cost_per_token": 8e-06,
}  # fmt: skip
LATER = date(2026, 11, 1)


def cost(entry: dict[str, Any], used: Tokens) -> int | None:
    """Pico-USD."""
    return cost_pico_usd(prices_in({"m": entry}).get("m"), used)


def test_a_price_is_exact_down_to_a_pico_usd() -> None:
    assert cost(PLAIN | {"input_cost_per_token": 4.125e-08}, Tokens(3, 1)) == 3 * 41_250 + 8_000_000


@pytest.mark.parametrize(
    "more",
    [
        {"input_cost_per_token": 0, "output_cost_per_token": 0},
        {"input_cost_per_token": None},
        {"input_cost_per_token": True},
        {"input_cost_per_token": "dear"},
        {"mode": "video_generation"},
        {"litellm_provider": "somebody"},
        {"input_cost_per_token": 0.0032},
        {"off_peak_pricing": {}},
        {"tiered_pricing": []},
    ],
    ids=["free", "untold", "bool", "text", "video", "stranger", "too dear", "off-peak", "tiered"],
)
def test_what_is_not_told_whole_has_no_price(more: dict[str, Any]) -> None:
    assert cost(PLAIN | more, Tokens(1, 1)) is None


def test_a_half_told_batch_price_is_none() -> None:
    half = PLAIN | {"input_cost_per_token_batches": 1e-06}
    assert cost(half, Tokens(1, 1, tier="batch")) is None
    assert cost(half | {"output_cost_per_token_batches": 4e-06}, Tokens(1, 1, tier="batch")) == 5_000_000


def test_a_threshold_changes_what_it_names_and_keeps_the_rest() -> None:
    entry = PLAIN | {"input_cost_per_token_above_200k_tokens": 4e-06, "cache_read_input_token_cost": 2e-07}
    at, above = (cost(entry, Tokens(sent, 1, cached=100_000)) for sent in (200_000, 200_001))
    assert at == 100_000 * 2_000_000 + 100_000 * 200_000 + 8_000_000
    assert above == 100_001 * 4_000_000 + 100_000 * 200_000 + 8_000_000


def test_xai_asks_the_higher_price_at_the_threshold() -> None:
    entry = PLAIN | {"litellm_provider": "xai", "input_cost_per_token_above_200k_tokens": 4e-06}
    assert [cost(entry, Tokens(sent, 0)) for sent in (199_999, 200_000)] == [199_999 * 2_000_000, 200_000 * 4_000_000]


def test_the_entry_under_the_provider_s_name_counts() -> None:
    own, other = (
        PLAIN | {"litellm_provider": "gemini"},
        PLAIN | {"litellm_provider": "gemini", "input_cost_per_token": 1},
    )
    for entries in ({"gemini/m": own, "m": other}, {"m": other, "gemini/m": own}):
        assert prices_in(entries)["m"].cards[0].rates.input == 2_000_000


def test_a_changed_price_gets_a_line_of_its_own_and_the_older_one_stays() -> None:
    before = list(prices_in({"same": PLAIN, "changed": PLAIN, "gone": PLAIN}).values())
    published = prices_in({"same": PLAIN, "changed": PLAIN | {"input_cost_per_token": 1e-06}, "added": PLAIN})
    after = merged(before, published, LATER)
    assert [(one.model, one.since) for one in after] == [
        ("added", LATER), ("changed", EARLIEST), ("changed", LATER), ("gone", EARLIEST), ("same", EARLIEST),
    ]  # fmt: skip
    assert merged(after, published, LATER) == after


def test_the_table_is_read_as_it_was_written() -> None:
    prices = merged([], prices_in({"a": PLAIN, "b": PLAIN | {"input_cost_per_audio_token": 4e-05}}), LATER)
    text = table_text(prices, version="1.2.3", day=LATER)
    read: list[Price] = [price_in(line) for line in lines_in(text.encode())]
    assert read == prices
    assert "1.2.3" in text
    assert "2026-11-01" in text
