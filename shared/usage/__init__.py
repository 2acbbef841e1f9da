"""What models cost: the dated price table, and the ledger with exactly one row per call."""

from shared.usage.ledger import Ledger, OpenCall, Outcome, Tokens
from shared.usage.prices import Price, cost_micro_usd, price_of

__all__ = ["Ledger", "OpenCall", "Outcome", "Price", "Tokens", "cost_micro_usd", "price_of"]
