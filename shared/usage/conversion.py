"""Makes `prices.tsv` of LiteLLM's published price map: `python -m shared.usage.conversion MAP --version V --day D`.

MAP is `model_prices_and_context_window_backup.json` of a LiteLLM release (MIT, Copyright (c) 2023 Berri AI). A price
that is not what it was gets a line of its own, in force from D on; the older line stays, so what was charged can be
told again. What is left out, and has no known price then: whatever is not priced by tokens, asks another price at
another time of the day, is a class of models and not a model, is too dear to be true, or costs nothing, which in that
map also stands for a price nobody entered.
"""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Iterable, Iterator, Mapping
from datetime import date
from decimal import Decimal
from pathlib import Path

from shared.usage.prices import TABLE, Card, Price, Rates, Tier, complete, lines_in, price_in, price_text

Entry = Mapping[str, object]
PICO = Decimal(10) ** 12
RATE_MAX = 1_000_000_000
"""Pico-USD per token: 1,000 USD per million. More is a price per thousand tokens that was entered as one per token."""
EARLIEST = date(2023, 1, 1)
PUBLISHERS = ("openai", "anthropic", "gemini", "mistral", "xai", "deepseek", "groq", "voyage", "cohere", "cohere_chat")
"""Who sell their own models: these go by the model's name alone. Where two have the same name, the first one."""
RESELLERS = ("azure", "azure_ai", "bedrock", "bedrock_converse", "vertex_ai", "together_ai", "deepinfra", "cerebras")
"""These go by `<provider>/<model>`."""
MODES = ("chat", "responses", "completion", "embedding", "realtime", "audio_transcription", "image_generation")
SUFFIXES: Mapping[Tier, str] = {"standard": "", "batch": "_batches", "flex": "_flex", "priority": "_priority"}
ABOVE = re.compile(r"_above_(\d+)(k?)_tokens")
INCLUSIVE = ("xai",)
"""At the threshold itself, the higher price is asked already."""
HEADER = """\
# The prices of models, from the file model_prices_and_context_window_backup.json of LiteLLM {version}
# (MIT, Copyright (c) 2023 Berri AI), as of {day}; the history of o3 from OpenAI's announcement of 2025-06-10.
# One price a line: model, the day from which it is in force ({earliest}: no earlier price is known), and its rates in
# pico-USD per token for each service tier, `>n` for calls of more than n input tokens. Made by conversion.py.
"""


def prices_in(entries: Mapping[str, Entry], day: date = EARLIEST) -> dict[str, Price]:
    """The prices of a published map, by our names."""
    found: dict[str, Price] = {}
    for provider in (*PUBLISHERS, *RESELLERS):
        for name, key in keys_of(entries, provider).items():
            cards = cards_of(entries[key])
            if cards:
                found.setdefault(name, Price(name, day, cards))
    return found


def keys_of(entries: Mapping[str, Entry], provider: str) -> dict[str, str]:
    """A provider's models that are told whole: our name → the map's. Of two for one, that with the provider's name."""
    keys = [key for key, entry in entries.items() if provider_of(entry) == provider and is_told_whole(key, entry)]
    return {name_of(key, provider): key for key in sorted(keys, key=lambda key: key.startswith(f"{provider}/"))}


def provider_of(entry: Entry) -> str:
    """`vertex_ai-anthropic_models` and the like are one provider."""
    return str(entry.get("litellm_provider")).partition("-")[0]


def name_of(key: str, provider: str) -> str:
    bare = key.removeprefix(f"{provider}/")
    return bare if provider in PUBLISHERS else f"{provider}/{bare}"


def is_told_whole(key: str, entry: Entry) -> bool:
    elsewhere = "off_peak_pricing" in entry or "tiered_pricing" in entry or key.startswith("together-ai-")
    return entry.get("mode") in MODES and not elsewhere


def cards_of(entry: Entry) -> tuple[Card, ...]:
    """All tiers' cards, or none when calls would cost nothing, or more than can be."""
    cards = tuple(card for tier in SUFFIXES for card in cards_of_tier(entry, tier))
    dearest = max((max(card.rates.input, card.rates.output) for card in cards), default=0)
    return cards if 0 < dearest <= RATE_MAX else ()


def cards_of_tier(entry: Entry, tier: Tier) -> Iterator[Card]:
    """The card of a tier, and one for each threshold at which a price changes."""
    suffix = SUFFIXES[tier]
    half_told = rate(entry, f"output_cost_per_token{suffix}") is None and rate(entry, "output_cost_per_token")
    images_only = tier == "batch" and not rate(entry, "output_cost_per_token") and rate(entry, KINDS["image_output"])
    if rate(entry, f"input_cost_per_token{suffix}") is None or half_told or images_only:
        return
    reached: dict[str, int] = {}
    previous: Rates | None = None
    for threshold in (0, *thresholds(entry, tier)):
        told = base_rates(entry, tier, threshold)
        reached |= told if threshold else {"input": 0, "output": 0} | told
        rates = complete(with_kinds(entry, tier, reached))
        if rates != previous:
            inclusive = threshold > 0 and provider_of(entry) in INCLUSIVE
            yield Card(tier, threshold - inclusive, rates)
        previous = rates


def thresholds(entry: Entry, tier: Tier) -> list[int]:
    """Input tokens above which another price is asked in the tier."""
    ours = (SUFFIXES[tier],) if tier == "batch" else ("", SUFFIXES[tier])
    found = {
        int(match[1]) * (1000 if match[2] else 1)
        for name in entry
        if (match := ABOVE.search(name)) and name[match.end() :] in ours
    }
    return sorted(found)


BASE: Mapping[str, str] = {
    "input": "input_cost_per_token",
    "output": "output_cost_per_token",
    "cached": "cache_read_input_token_cost",
    "written_5m": "cache_creation_input_token_cost",
    "written_1h": "cache_creation_input_token_cost_above_1hr",
}
KINDS: Mapping[str, str] = {
    "audio_input": "input_cost_per_audio_token",
    "image_input": "input_cost_per_image_token",
    "audio_output": "output_cost_per_audio_token",
    "image_output": "output_cost_per_image_token",
}


def base_rates(entry: Entry, tier: Tier, threshold: int) -> dict[str, int]:
    """The rates told for calls above the threshold. Flex and priority ask the ordinary price where they tell none."""
    above = f"_above_{threshold // 1000}k_tokens" if threshold else ""
    suffixes = (SUFFIXES[tier],) if tier == "batch" else (SUFFIXES[tier], "")
    found: dict[str, int] = {}
    for name, field in BASE.items():
        told = [value for suffix in suffixes if (value := rate(entry, field + above + suffix)) is not None]
        if told:
            found[name] = told[0]
    return found


def with_kinds(entry: Entry, tier: Tier, told: Mapping[str, int]) -> dict[str, int]:
    """The rates with those of audio, images and reasoning, which do not depend on the length.

    Written images cost half in a batch where no price is told, as LiteLLM has it.
    """
    found = dict(told)
    suffix = SUFFIXES[tier]
    for name, field in KINDS.items():
        own = rate(entry, field + suffix)
        ordinary = rate(entry, field) if tier != "batch" else None
        if own is not None or ordinary is not None:
            found[name] = own if own is not None else ordinary or 0
    images = rate(entry, KINDS["image_output"])
    if tier == "batch" and images is not None:
        found.setdefault("image_output", images // 2)
    if not found["output"] and "image_output" in found:
        found["output"] = found["image_output"]
    reasoning = rate(entry, f"output_cost_per_reasoning_token{suffix}")
    if reasoning is None and rate(entry, f"output_cost_per_token{suffix}") is None:
        reasoning = rate(entry, "output_cost_per_reasoning_token")
    if reasoning is not None:
        found["reasoning"] = reasoning
    return found


def rate(entry: Entry, field: str) -> int | None:
    """Pico-USD per token."""
    value = entry.get(field)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return int((Decimal(repr(value)) * PICO).to_integral_value())


def merged(before: Iterable[Price], published: Mapping[str, Price], day: date) -> list[Price]:
    """What was known before and what is published that day. A model no longer published keeps its last price."""
    known: dict[str, list[Price]] = {}
    for price in before:
        known.setdefault(price.model, []).append(price)
    for name, price in published.items():
        of_model = known.setdefault(name, [])
        newest = max(of_model, key=lambda one: one.since, default=None)
        if newest is None or newest.cards != price.cards:
            known[name] = [one for one in of_model if one.since != day] + [Price(name, day, price.cards)]
    return [price for name in sorted(known) for price in sorted(known[name], key=lambda one: one.since)]


def table_text(prices: Iterable[Price], *, version: str, day: date) -> str:
    header = HEADER.format(version=version, day=day, earliest=EARLIEST)
    return header + "".join(f"{price_text(price)}\n" for price in prices)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("map", type=Path)
    parser.add_argument("--version", required=True, help="the LiteLLM release the map is of")
    parser.add_argument("--day", type=date.fromisoformat, required=True, help="the day of that release")
    options = parser.parse_args()
    before = [price_in(line) for line in lines_in(TABLE.read_bytes())]
    prices = merged(before, prices_in(json.loads(options.map.read_text(encoding="utf-8"))), options.day)
    TABLE.write_text(table_text(prices, version=options.version, day=options.day), encoding="utf-8")
    print(f"{len(prices)} prices of {len({price.model for price in prices})} models")


if __name__ == "__main__":
    main()
