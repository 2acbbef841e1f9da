"""Prices by model and date, and a call's cost in whole micro-USD.

`prices.tsv` says where its figures come from and which day they are of (`conversion.py` makes it). Nothing of it is
read at import, and of its lines only those of the models that are asked for are parsed. A model that is not in it has
no known price: a cost that is not known is None, never zero.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from functools import cache, lru_cache
from pathlib import Path
from typing import Literal, get_args

DOC_CHAT = "doc-chat"
TABLE = Path(__file__).with_name("prices.tsv")
KEPT_MAX = 4096
PICO_PER_MICRO = 1_000_000

Tier = Literal["standard", "batch", "flex", "priority"]
TIERS: tuple[Tier, ...] = get_args(Tier)


@dataclass(frozen=True)
class Tokens:
    """What a call used. All but the first two are parts of `input` or of `output`, and no token is in two of them."""

    input: int = 0
    output: int = 0
    cached: int = 0
    """Read from the provider's prompt cache."""
    written_5m: int = 0
    """Written to the provider's prompt cache, to stay for five minutes; `written_1h` for an hour."""
    written_1h: int = 0
    audio_input: int = 0
    image_input: int = 0
    reasoning: int = 0
    audio_output: int = 0
    image_output: int = 0
    tier: Tier = "standard"
    """How the provider served the call."""


@dataclass(frozen=True, slots=True)
class Rates:
    """Pico-USD per token: whole numbers down to a millionth of a USD per million tokens."""

    input: int
    output: int
    cached: int
    written_5m: int
    written_1h: int
    audio_input: int
    image_input: int
    reasoning: int
    audio_output: int
    image_output: int

    def of(self, used: Tokens) -> int:
        """Pico-USD, exact. Parts that exceed their whole are counted up to it, in the order of their fields."""
        left, cost = used.input, 0
        for name in INPUT_PARTS:
            part = min(getattr(used, name), left)
            left -= part
            cost += part * getattr(self, name)
        cost += left * self.input
        left = used.output
        for name in OUTPUT_PARTS:
            part = min(getattr(used, name), left)
            left -= part
            cost += part * getattr(self, name)
        return int(cost + left * self.output)


INPUT_PARTS = ("cached", "written_5m", "written_1h", "audio_input", "image_input")
OUTPUT_PARTS = ("reasoning", "audio_output", "image_output")
FALLS_BACK: Mapping[str, str] = {
    "cached": "input",
    "written_5m": "input",
    "written_1h": "written_5m",
    "audio_input": "input",
    "image_input": "input",
    "reasoning": "output",
    "audio_output": "output",
    "image_output": "output",
}
"""What is asked for a kind of token that has no price of its own: a publisher that names none asks the ordinary one."""


@dataclass(frozen=True)
class Card:
    """The rates of one service tier for calls with more than `above` input tokens."""

    tier: Tier
    above: int
    rates: Rates


@dataclass(frozen=True)
class Charge:
    """What a call takes, or reserves, of each metric of quotas. Requests and parallel calls count one by one."""

    micro_usd: int = 0
    tokens: int = 0

    def of(self, metric: str) -> int:
        return self.micro_usd if metric == "micro_usd" else self.tokens if metric == "tokens" else 1


@dataclass(frozen=True)
class Price:
    """What a model costs from a day on. `cards` are in ascending order of `above` within a tier."""

    model: str
    since: date
    cards: tuple[Card, ...]
    own: bool = False
    """Whether it is a tenant's own and not the publisher's."""

    def rates(self, tier: Tier, input_tokens: int) -> Rates | None:
        """None when the publisher's price for the tier is not known."""
        fitting = [
            card.rates for card in self.cards if card.tier == tier and (input_tokens > card.above or not card.above)
        ]
        return fitting[-1] if fitting else None


OwnPrices = Mapping[str, tuple[Price, ...]]
"""A tenant's own prices, by `<model>` or `<the tenant's provider>/<model>`."""
NO_OWN: OwnPrices = {}
FREE = Price("", date.min, (Card("standard", 0, Rates(**dict.fromkeys([field.name for field in fields(Rates)], 0))),))
"""Of what costs nothing whatever it used: an answer that is given again."""


def price_of(model: str, day: date, *, provider: str = "") -> Price | None:
    """The published price in force that day, or None when it is not known.

    A model of a reseller is found as `<provider>/<model>`. A date at the end of the name (`gpt-4o-2024-11-20`) is
    looked past unless it has a price of its own. What `doc-chat/<model>` costs is the cost of the model's own call.
    """
    for name in names_of(model):
        for called in closest_first(provider, name):
            if found := in_force(prices_of(called), day):
                return found
    return None


def price_for(own: OwnPrices, model: str, day: date, *, sold_by: str, provider: str = "") -> Price | None:
    """The price in force that day for a tenant: its own, else the published one.

    `sold_by` is the tenant's name of the provider, `provider` the one of the table. A name with a date has the price
    that is its own or published under that very name, before any price of the name without it.
    """
    if not own:
        return price_of(model, day, provider=provider)
    for name in names_of(model):
        for called in closest_first(sold_by, name):
            if found := in_force(own.get(called, ()), day):
                return found
        for called in closest_first(provider, name):
            if found := in_force(prices_of(called), day):
                return found
    return None


def names_of(model: str) -> tuple[str, ...]:
    """The names under which a model's price is looked for, the closest first."""
    if model.startswith(f"{DOC_CHAT}/"):
        model = DOC_CHAT
    return tuple(dict.fromkeys((model, without_date(model))))


def closest_first(provider: str, name: str) -> tuple[str, ...]:
    return (f"{provider}/{name}", name) if provider else (name,)


def in_force(prices: Iterable[Price], day: date) -> Price | None:
    """The last one that came into force until that day."""
    return max((price for price in prices if price.since <= day), key=lambda price: price.since, default=None)


def without_date(model: str) -> str:
    head, _, tail = model.rpartition("-20")
    return head if head and len(tail) in (6, 8) and tail.replace("-", "").isdigit() else model


def cost_pico_usd(price: Price | None, used: Tokens | None) -> int | None:
    """The exact cost. None when usage, price or the price of the tier is not known."""
    rates = price.rates(used.tier, used.input) if price is not None and used is not None else None
    return None if rates is None or used is None else rates.of(used)


def cost_micro_usd(price: Price | None, used: Tokens | None) -> int | None:
    """Whole micro-USD: multiplied exactly, rounded once, half to even. None when the cost is not known."""
    exact = cost_pico_usd(price, used)
    return None if exact is None else half_even(exact)


def half_even(pico: int) -> int:
    """Pico-USD as whole micro-USD."""
    whole, rest = divmod(pico, PICO_PER_MICRO)
    return whole + (2 * rest + whole % 2 > PICO_PER_MICRO)


@lru_cache(maxsize=KEPT_MAX)
def prices_of(name: str) -> tuple[Price, ...]:
    """All prices that the table has under this very name."""
    if not name or "\n" in name or "\t" in name:
        return ()
    table, found = table_bytes(), []
    at = table.find(b"\n" + name.encode() + b"\t")
    while at >= 0:
        found.append(price_in(table[at + 1 : table.index(b"\n", at + 1)].decode()))
        at = table.find(b"\n" + name.encode() + b"\t", at + 1)
    return tuple(found)


def most_micro_usd(price: Price | None, tokens: Tokens) -> int:
    """What so many tokens cost at most, rounded up, whatever is cached; tiers left aside. Zero for no known price."""
    if price is None:
        return 0
    each_input, each_output = dearest(price, tokens.input)
    return -(-(tokens.input * each_input + tokens.output * each_output) // PICO_PER_MICRO)


def most_output(price: Price, tokens_input: int, micro_usd: int) -> int:
    """How many output tokens that much pays for at least, beside so many of input that are paid for already."""
    _, each = dearest(price, tokens_input)
    return micro_usd * PICO_PER_MICRO // each if each else 0


def dearest(price: Price, tokens_input: int) -> tuple[int, int]:
    """Pico-USD for an input and an output token of text at the standard tier, at most: of those cards that a call of no
    more input can have, whatever is read from a cache or written to it."""
    cards = [one.rates for one in price.cards if one.tier == "standard" and (not one.above or one.above < tokens_input)]
    if not cards:
        return 0, 0
    inputs = (max(one.input, one.cached, one.written_5m, one.written_1h) for one in cards)
    return max(inputs), max(max(one.output, one.reasoning) for one in cards)


@cache
def table_bytes() -> bytes:
    return TABLE.read_bytes()


def lines_in(table: bytes) -> list[str]:
    """The table's prices, one a line, without the lines that say where they are from."""
    return [line for line in table.decode().splitlines() if line and not line.startswith("#")]


def price_in(line: str) -> Price:
    """`model<TAB>since<TAB>tier>above rate=pico-USD …<TAB>…`"""
    model, since, *cards = line.split("\t")
    return Price(model, date.fromisoformat(since), tuple(card_in(card) for card in cards))


def card_in(text: str) -> Card:
    head, *rates = text.split(" ")
    tier, _, above = head.partition(">")
    if tier not in TIERS:
        raise ValueError(f"{tier!r} is no service tier; there are {', '.join(TIERS)}")
    given = {name: int(value) for name, _, value in (rate.partition("=") for rate in rates)}
    return Card(tier, int(above or 0), complete(given))


def complete(given: Mapping[str, int]) -> Rates:
    """Rates from those that have a price of their own."""
    rates = dict(given)
    for name, other in FALLS_BACK.items():
        rates.setdefault(name, rates[other])
    return Rates(**rates)


def card_text(card: Card) -> str:
    """The shortest text that `card_in` reads as this card."""
    rates = {field.name: getattr(card.rates, field.name) for field in fields(Rates)}
    own = [f"{name}={rate}" for name, rate in rates.items() if rates.get(FALLS_BACK.get(name, "")) != rate]
    return " ".join([f"{card.tier}>{card.above}" if card.above else card.tier, *own])


def price_text(price: Price) -> str:
    return "\t".join([price.model, price.since.isoformat(), *map(card_text, price.cards)])
