"""What those who share a call see when it is ended from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.responses import Response

from functions.gateway.llm.flights import Flight
from shared.errors import Unavailable
from shared.llm.presence import Stream

BOUND_S = 2


async def kept_nowhere(response: Response, body: bytes) -> None:
    raise AssertionError("a cut answer was kept")


async def test_nobody_waits_for_a_call_that_was_ended() -> None:
    begun = asyncio.Event()

    async def work() -> Response:
        begun.set()
        await asyncio.Event().wait()
        raise AssertionError

    flight = Flight(work(), kept_nowhere)
    waiting = [asyncio.create_task(flight.join()) for _ in range(3)]
    await begun.wait()
    flight.task.cancel()
    ends = await asyncio.wait_for(asyncio.gather(*waiting, return_exceptions=True), BOUND_S)
    assert [type(end) for end in ends] == [Unavailable] * 3
    assert not flight.open


async def test_a_stream_that_was_ended_does_not_look_whole() -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"data: first\n\n"
        await asyncio.Event().wait()

    async def work() -> Response:
        return Stream(pieces(), media_type="text/event-stream")

    flight = Flight(work(), kept_nowhere)
    joined = await flight.join()
    assert isinstance(joined, Stream)
    assert await anext(joined.pieces) == b"data: first\n\n"
    flight.task.cancel()
    with pytest.raises(Unavailable):
        await asyncio.wait_for(anext(joined.pieces), BOUND_S)


async def test_an_answer_that_cannot_be_kept_is_whole_all_the_same() -> None:
    async def pieces() -> AsyncGenerator[bytes, None]:
        yield b"data: all\n\n"

    async def work() -> Response:
        return Stream(pieces(), media_type="text/event-stream")

    async def failing(response: Response, body: bytes) -> None:
        raise ConnectionError

    flight = Flight(work(), failing)
    joined = await flight.join()
    await asyncio.wait({flight.task}, timeout=BOUND_S)
    assert isinstance(joined, Stream)
    assert [piece async for piece in joined.pieces] == [b"data: all\n\n"]
