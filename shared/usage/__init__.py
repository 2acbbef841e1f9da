"""What calls of models used and cost: the ledger and the price table."""

from shared.usage.ledger import Ended, Ledger, OpenCall, Outcome
from shared.usage.prices import Charge, Price, Tier, Tokens, cost_micro_usd, price_of

__all__ = ["Charge", "Ended", "Ledger", "OpenCall", "Outcome", "Price", "Tier", "Tokens", "cost_micro_usd", "price_of"]
