"""A stream from provider to caller: bytes unchanged, usage read on the side, one ledger row however it ends."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

from functions.gateway.llm.bodies import json_object, tokens_in
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.providers import translated
from functions.gateway.llm.settlement import Settlement
from shared.errors import DeadlineExceeded, Problem, Unavailable
from shared.llm import sse
from shared.llm.dialect import openai_error

if TYPE_CHECKING:
    import httpx

STREAM_S_MAX = 570.0  # below the function's own limit, so that a stream ends with an event and not with a cut
AFTER_DONE_S = 1.0  # how long the provider has to end an answer that is complete, so that its connection can be kept
DONE = b"[DONE]"


@dataclass
class Relay:
    """One stream. `withhold_usage`: the caller did not ask for the usage event, we did; it is not passed on."""

    answer: httpx.Response
    provider: Provider
    settlement: Settlement
    withhold_usage: bool
    complete: bool = False
    failed: bool = False

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The caller's bytes. When this has ended, the provider's connection is closed and the ledger has its row."""
        self.settlement.outcome = "client_gone"
        try:
            await self.settlement.metered.durable()
            async for passed in self._passed():
                yield passed
            self.settlement.outcome = "done" if self.complete else "provider_error" if self.failed else "cut"
            if not (self.complete or self.failed):
                yield error_event(Unavailable("the provider ended the stream before it was complete"))
        except Problem as problem:
            self.settlement.outcome = "done" if self.complete else "cut"
            if not self.complete:
                yield error_event(problem)
        finally:
            await self._end()

    async def _passed(self) -> AsyncIterator[bytes]:
        events = sse.Events()
        async for chunk in self._chunks():
            passed = b"".join([event.raw for event in events.feed(chunk) if self._keep(event.data)])
            if passed:
                yield passed
        rest = events.end()
        data = sse.data_of(rest)
        readable = data == DONE or bool(json_object(data))  # anything else was cut in its middle
        if readable and self._keep(data):
            yield rest.rstrip(b"\r\n") + b"\n\n"

    async def _chunks(self) -> AsyncIterator[bytes]:
        clock = asyncio.get_running_loop()
        until = clock.time() + STREAM_S_MAX
        chunks = self.answer.aiter_bytes()
        while True:
            if self.complete:
                until = min(until, clock.time() + AFTER_DONE_S)
            try:
                async with asyncio.timeout_at(until), translated(self.provider):
                    chunk = await anext(chunks)
            except StopAsyncIteration:
                return
            except TimeoutError as late:
                raise DeadlineExceeded(f"the stream took longer than {STREAM_S_MAX:.0f} s") from late
            yield chunk

    def _keep(self, data: bytes) -> bool:
        """Read what the event tells; whether the caller gets it."""
        if data == DONE:
            self.complete = True
        if b'"usage"' not in data and b'"error"' not in data:
            return True
        content = json_object(data)
        self.failed = self.failed or bool(content.get("error"))
        told = tokens_in(content)
        if told is None:
            return True
        self.settlement.used = told
        return not (self.withhold_usage and content.get("choices") == [])

    async def _end(self) -> None:
        try:
            await asyncio.shield(self.answer.aclose())
        finally:
            await self.settlement.settle_stream()


def error_event(problem: Problem) -> bytes:
    """The explicit end of a stream that broke: a cut connection alone would look like a complete answer."""
    return sse.encode(json.dumps(openai_error(problem), ensure_ascii=False))
