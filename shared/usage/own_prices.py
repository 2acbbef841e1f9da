"""Tenants' own prices as stored, read at most once in a fraction of a second: a change holds everywhere within one."""

from __future__ import annotations

from collections import defaultdict
from datetime import date

from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.remembering import Remembered
from shared.usage.prices import OwnPrices, Price, card_in, card_text

REMEMBERED_S = 0.8
REMEMBERED_MAX = 2000
PRICES_MAX = 1000
STORED = "SELECT model, since, cards FROM own_prices WHERE tenant = $1 ORDER BY model, since LIMIT $2"


class StoredPrices:
    """Every tenant's own prices."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._remembered = Remembered[TenantId, OwnPrices](fresh_s=REMEMBERED_S, kept_max=REMEMBERED_MAX)

    async def of(self, tenant: TenantId) -> OwnPrices:
        """The tenant's own prices. Raises `Problem` when they cannot be read."""
        return await self._remembered.get(tenant, lambda: self._read(tenant))

    async def _read(self, tenant: TenantId) -> OwnPrices:
        found: defaultdict[str, list[Price]] = defaultdict(list)
        for row in await self._control.fetch(STORED, tenant, PRICES_MAX):
            found[row["model"]].append(own_price(row["model"], row["since"], row["cards"]))
        return {model: tuple(prices) for model, prices in found.items()}


def own_price(model: str, since: date, cards: str) -> Price:
    """A price from its row."""
    return Price(model, since, tuple(card_in(card) for card in cards.split("\t")), own=True)


def cards_text(price: Price) -> str:
    """The row's text of the price's cards."""
    return "\t".join(map(card_text, price.cards))
