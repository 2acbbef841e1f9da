"""Rates on the command line become the cards that the platform is asked for."""

from __future__ import annotations

from dataclasses import fields

import pytest

from shared.cli.failures import Misused
from shared.cli.prices import KINDS, cards_in
from shared.usage.prices import Rates


def test_every_kind_of_token_can_be_named() -> None:
    assert list(KINDS) == [field.name for field in fields(Rates)]


def test_rates_of_a_tier_and_length_are_one_card() -> None:
    given = ["input=2.5", "output=10", "reasoning=12", "batch.input=1", "batch.output=2", "standard@200000.input=5"]
    assert cards_in([*given, "standard@200000.output=15"]) == [
        {"tier": "standard", "above": 0, "input": "2.5", "output": "10", "reasoning": "12"},
        {"tier": "batch", "above": 0, "input": "1", "output": "2"},
        {"tier": "standard", "above": 200_000, "input": "5", "output": "15"},
    ]


@pytest.mark.parametrize("rate", ["", "input", "input=", "input=-1", "video=1", "night.input=1", "batch@x.input=1"])
def test_what_is_no_rate_is_told(rate: str) -> None:
    with pytest.raises(Misused, match="is no rate"):
        cards_in([rate])


def test_a_card_without_input_or_output_is_told() -> None:
    with pytest.raises(Misused, match="output of batch"):
        cards_in(["input=1", "output=1", "batch.input=1"])
