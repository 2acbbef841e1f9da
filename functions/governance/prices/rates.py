"""Prices as they are asked for over HTTP: dollars per million tokens, exact to a millionth."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import fields
from decimal import Decimal
from typing import Annotated

from pydantic import Field, field_validator, model_validator

from shared.function.schema import Body
from shared.usage.prices import FALLS_BACK, Card, Price, Rates, Tier, complete

MILLION = 1_000_000
USD_MAX = 1000
CARDS_MAX = 16
ABOVE_MAX = 2**31
Usd = Annotated[Decimal, Field(ge=0, le=USD_MAX, decimal_places=6)]
"""Dollars per million tokens."""


class CardBody(Body):
    """What the tokens of a call cost that is served in the tier and has more than `above` input tokens.

    A kind of token that is left out costs what its nearest kind does: cached, written and attached input as `input`,
    what is written for an hour as `written_5m`, reasoning and attachments in the answer as `output`.
    """

    tier: Tier = "standard"
    above: int = Field(default=0, ge=0, le=ABOVE_MAX)
    input: Usd
    output: Usd
    cached: Usd | None = None
    written_5m: Usd | None = None
    written_1h: Usd | None = None
    audio_input: Usd | None = None
    image_input: Usd | None = None
    reasoning: Usd | None = None
    audio_output: Usd | None = None
    image_output: Usd | None = None

    def card(self) -> Card:
        told = {field.name: getattr(self, field.name) for field in fields(Rates)}
        pico = {name: int(usd * MILLION) for name, usd in told.items() if usd is not None}
        return Card(self.tier, self.above, complete(pico))


class PriceBody(Body):
    """All that a model costs: a card for the standard tier at least, and one without `above` for each other one."""

    cards: list[CardBody] = Field(min_length=1, max_length=CARDS_MAX)

    @field_validator("cards")
    @classmethod
    def each_once(cls, cards: list[CardBody]) -> list[CardBody]:
        twice = [place for place, count in Counter((card.tier, card.above) for card in cards).items() if count > 1]
        if twice:
            raise ValueError(f"has two cards of tier {twice[0][0]!r} above {twice[0][1]} tokens")
        return sorted(cards, key=lambda card: (card.tier != "standard", card.tier, card.above))

    @model_validator(mode="after")
    def from_the_first_token_on(self) -> PriceBody:
        whole = {card.tier for card in self.cards if card.above == 0}
        missing = sorted({"standard", *(card.tier for card in self.cards)} - whole)
        if missing:
            raise ValueError(f"no card for tier {missing[0]!r} from the first token on (above 0)")
        return self

    def in_cards(self) -> tuple[Card, ...]:
        return tuple(card.card() for card in self.cards)


def usd_of(card: Card) -> Mapping[str, object]:
    """A card as `CardBody` has it, without the kinds that cost what their nearest does."""
    rates = {field.name: getattr(card.rates, field.name) for field in fields(Rates)}
    own = {name: rate for name, rate in rates.items() if rates.get(FALLS_BACK.get(name, "")) != rate}
    return {"tier": card.tier, "above": card.above, **{name: usd(rate) for name, rate in own.items()}}


def usd(pico: int) -> Decimal:
    """Pico-USD per token as dollars per million tokens, without zeros at the end."""
    amount = Decimal(pico) / MILLION
    return amount.quantize(Decimal(1)) if amount == amount.to_integral_value() else amount.normalize()


def cards_of(price: Price) -> list[CardBody]:
    return [CardBody.model_validate(usd_of(card)) for card in price.cards]
