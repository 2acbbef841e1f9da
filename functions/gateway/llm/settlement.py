"""How one call ends in the ledger: exactly once, whatever happens to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from shared.errors import Problem
from shared.llm.outbound import ForbiddenAddress, NotConnected
from shared.usage import Ledger, OpenCall, Outcome, Tokens

NOTHING = Tokens()


@dataclass
class Settlement:
    """What is known of a call so far. `used` is None while nobody has said what it used."""

    ledger: Ledger
    entry: OpenCall
    outcome: Outcome = "cut"
    used: Tokens | None = None

    async def settle(self) -> int | None:
        """Write the row. Returns the cost in micro-USD, None when it is not known."""
        return await self.ledger.end(self.entry, self.outcome, self.used)

    @asynccontextmanager
    async def or_settled(self) -> AsyncIterator[None]:
        """A block that goes on when it succeeds, and settles the call when it fails."""
        try:
            yield
        except BaseException as failure:
            self.outcome = outcome_of(failure)
            if isinstance(failure, ForbiddenAddress | NotConnected):
                self.used = NOTHING
            await self.settle()
            raise


def outcome_of(failure: BaseException) -> Outcome:
    if isinstance(failure, asyncio.CancelledError | GeneratorExit):
        return "client_gone"
    return "provider_error" if isinstance(failure, Problem) else "cut"


def cost_header(cost: int | None) -> dict[str, str]:
    return {"x-dcoder-cost-micro-usd": "unknown" if cost is None else str(cost)}
