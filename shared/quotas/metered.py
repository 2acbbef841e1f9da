"""A call that was let in: what is reserved for it, and how it ended."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field

from shared.errors import Problem, Unavailable
from shared.quotas.counters import State
from shared.quotas.limits import Quota
from shared.telemetry import log
from shared.usage import Ended, OpenCall, Tokens

NOTHING = Tokens()


@dataclass(eq=False)
class Metered:
    """A call that was let in. Its answer may be passed on once `durable` has returned."""

    call: OpenCall
    quotas: tuple[Quota, ...]
    states: tuple[State, ...]
    """How the counters of `quotas` stood with this call's reservation in them; empty while Redis is away."""
    most: Tokens
    """What the reservation covers."""
    whole: Tokens = NOTHING
    """What it may take altogether. More than `most` for a stream that is reserved in pieces, as it goes."""
    opened: asyncio.Future[None] = field(init=False, repr=False)
    ended: Ended | None = None

    @property
    def bounded(self) -> bool:
        """Whether a hard limit on money or tokens holds for it, so that it must not take more than `most`."""
        return any(quota.refuses for quota in self.budgets)

    @property
    def budgets(self) -> list[Quota]:
        """The limits on money or tokens."""
        return [quota for quota in self.quotas if quota.metric in ("micro_usd", "tokens")]

    @property
    def in_pieces(self) -> bool:
        return self.most.output < self.whole.output

    async def durable(self) -> None:
        """Return once PostgreSQL has the call. Raises `Problem` when it could not be written."""
        try:
            await asyncio.shield(self.opened)
        except Problem:
            raise
        except Exception as refused:  # PostgreSQL's own: nothing of the caller's, and the next try may do
            log("call_not_written", request_id=self.call.request_id, error=repr(refused))
            raise Unavailable("the call could not be written to the usage ledger", retry_after_s=2) from refused
