"""How one call ends in the ledger: exactly once, whatever happens to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

from starlette.responses import Response

from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.observing import Observation, observation
from shared.errors import Problem
from shared.function.call import Call, current_call
from shared.llm.google import NoAccess
from shared.llm.outbound import ForbiddenAddress, NotConnected
from shared.quotas import Meter, Metered
from shared.quotas.headers import limit_headers
from shared.usage import Outcome, Price, Tokens
from shared.usage.prices import FREE

NOTHING = Tokens()
T = TypeVar("T")


@dataclass
class Settlement:
    """What is known of a call so far. `used` is None while nobody has said what it used."""

    meter: Meter
    metered: Metered
    outcome: Outcome = "cut"
    used: Tokens | None = None
    saved_micro_usd: int | None = None
    cache: Literal["", "hit", "semantic", "coalesced"] = ""
    refusal: str = ""
    """The provider's status, where it answered with an error."""
    answer: dict[str, Any] = field(default_factory=dict, repr=False)  # Any: JSON of the provider's
    """A whole answer, as far as it was read."""
    observation: Observation | None = field(default_factory=observation, repr=False)
    waited_s: float = 0.0
    """For who answers: a provider, a function behind a built-in model."""

    async def waiting(self, work: Awaitable[T]) -> T:
        """The work's result. What it takes is no time of ours."""
        began = time.perf_counter()
        try:
            return await work
        finally:
            self.waited_s += time.perf_counter() - began

    def settle(self) -> int | None:
        """End the call. Returns the cost in micro-USD, None when it is not known."""
        first = self.metered.ended is None
        cost = self.meter.end(self.metered, self.outcome, self.used, saved_micro_usd=self.saved_micro_usd)
        if first and self.observation is not None:
            self.observation.ended(self)
        return cost

    async def settle_stream(self) -> None:
        """End the call, and return once its row is written: the caller has every event by then, only not their end."""
        self.settle()
        await self.meter.written(self.metered)

    @property
    def headers(self) -> dict[str, str]:
        """How the caller's limits stand, in the headers that SDKs know, whose price the call has, and the time that it
        has cost here."""
        return limit_headers(self.metered) | price_header(self.metered.call.price) | self._overhead()

    def _overhead(self) -> dict[str, str]:
        """Milliseconds from the call's arrival until now, without those spent waiting for who answers."""
        call = current_call.get(None)
        if call is None:
            return {}
        return {"x-dcoder-overhead-ms": f"{(time.perf_counter() - call.started - self.waited_s) * 1000:.3f}"}

    def or_settled(self) -> OrSettled:
        """A block that goes on when it succeeds, and settles the call when it fails."""
        return OrSettled(self)


class OrSettled:
    """See `Settlement.or_settled`. A class and no generator, as every call passes through several."""

    __slots__ = ("_settlement",)

    def __init__(self, settlement: Settlement) -> None:
        self._settlement = settlement

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, failure: BaseException | None, trace: object) -> None:
        if failure is None:
            return
        self._settlement.outcome = outcome_of(failure)
        if isinstance(failure, ForbiddenAddress | NotConnected | NoAccess):
            self._settlement.used = NOTHING
        self._settlement.settle()


async def begun(
    meter: Meter,
    call: Call,
    provider: Provider,
    model: str,
    feature: str,
    *,
    most: Tokens,
    least_output: int | None = None,
    piece_output: int | None = None,
    used: Tokens | None = None,
) -> Settlement:
    """A call of a provider, let in. `model`: what the provider calls it. The rest is as `Meter.begin` has it, and so is
    what this raises."""
    metered = await meter.begin(
        call.caller,
        request_id=call.request_id,
        model=model,
        provider=provider.name,
        prices=provider.of.prices,
        feature=feature,
        most=most,
        least_output=least_output,
        piece_output=piece_output,
    )
    return Settlement(meter, metered, used=used)


def outcome_of(failure: BaseException) -> Outcome:
    if isinstance(failure, asyncio.CancelledError | GeneratorExit):
        return "client_gone"
    return "provider_error" if isinstance(failure, Problem) else "cut"


def price_header(price: Price | None) -> dict[str, str]:
    """Known before the cost is, and so in the head of a stream too."""
    if price is FREE:
        return {}
    said = "unknown" if price is None else f"{'own' if price.own else 'published'}; since={price.since}"
    return {"x-dcoder-price": said}


def cost_header(cost: int | None) -> dict[str, str]:
    return {"x-dcoder-cost-micro-usd": "unknown" if cost is None else str(cost)}


def cost_told(response: Response) -> int | None:
    """What the answer's header says it cost, in micro-USD. None when it says nothing or `unknown`."""
    told = response.headers.get("x-dcoder-cost-micro-usd", "")
    return int(told) if told.isdigit() else None
