"""A stream from provider to caller: bytes unchanged, usage read on the side, one ledger row however it ends."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass

from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.settlement import Settlement
from functions.gateway.llm.stopping import Room, within
from functions.gateway.llm.wires import DONE, Wire
from shared.errors import DeadlineExceeded, Problem, Unavailable
from shared.llm import http, sse
from shared.llm.exchange import failed
from shared.llm.usage import json_object
from shared.usage import Outcome

STREAM_S_MAX = 570.0  # below the function's own limit, so that a stream ends with an event and not with a cut
AFTER_DONE_S = 1.0  # how long the provider has to end an answer that is complete, so that its connection can be kept


@dataclass
class Relay:
    """One stream in its provider's wire format."""

    answer: http.Answer
    provider: Provider
    settlement: Settlement
    wire: Wire
    room: Room | None = None
    """Of a stream that is reserved in pieces."""

    @property
    def whole(self) -> bool:
        return self.settlement.outcome == "done" and self.wire.complete and not self.wire.failed

    @property
    def cost(self) -> int | None:
        ended = self.settlement.metered.ended
        return ended.cost_micro_usd if ended is not None else None

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The caller's bytes. When this has ended, the provider's connection is closed and the ledger has its row."""
        self.settlement.outcome, observation = "client_gone", self.settlement.observation
        try:
            await self.settlement.metered.durable()
            async for passed in self._passed():
                if observation is not None:
                    observation.piece(passed)
                yield passed
            self.settlement.outcome = self._outcome()
            if self.settlement.outcome == "cut":
                yield self.wire.error_event(Unavailable("the provider ended the stream before it was complete"))
        except Problem as problem:
            self.settlement.outcome = "done" if self.wire.complete else "cut"
            if not self.wire.complete:
                yield self.wire.error_event(problem)
        finally:
            await self._end()

    def _outcome(self) -> Outcome:
        if self._stopped:
            return "stopped"
        return "done" if self.wire.complete else "provider_error" if self.wire.failed else "cut"

    @property
    def _stopped(self) -> bool:
        return self.room is not None and self.room.stopped_by is not None

    async def _passed(self) -> AsyncIterator[bytes]:
        events, clock = sse.Events(), asyncio.get_running_loop()
        until = clock.time() + STREAM_S_MAX
        while (chunk := await self._chunk(until)) is not None:
            kept = [event for event in events.feed(chunk) if self.wire.keep(event.data)]
            passed = b"".join([event.raw for event in kept]) if self.room is None else await within(self.room, kept)
            if passed:
                yield passed
            if self._stopped:
                return
            if self.wire.complete:
                until = min(until, clock.time() + AFTER_DONE_S)
        if rest := self._rest(events.end()):
            yield rest

    async def _chunk(self, until: float) -> bytes | None:
        """The provider's next bytes, None when it has ended. `until`: the loop's time at which waiting ends."""
        try:
            return await self.answer.read(until=until)
        except http.Silence as late:
            if asyncio.get_running_loop().time() < until:
                raise failed(self.provider.name, late) from late
            raise DeadlineExceeded(f"the stream took longer than {STREAM_S_MAX:.0f} s") from late
        except http.Failure as failure:
            raise failed(self.provider.name, failure) from failure

    def _rest(self, rest: bytes) -> bytes:
        """What the caller gets of an event that ended without its blank line: all of it, or nothing."""
        data = sse.data_of(rest)
        readable = data == DONE or bool(json_object(data))  # anything else was cut in its middle
        if not readable or not self.wire.keep(data):
            return b""
        return rest if sse.is_whole(rest) else rest.rstrip(b"\r\n") + b"\n\n"

    async def _end(self) -> None:
        self.answer.close()
        self.settlement.used = None if self._stopped else self.wire.used
        await self.settlement.settle_stream()
