"""What those who share a call see when it is ended from outside."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest
from starlette.responses import Response

from functions.gateway.llm import flights
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


async def test_a_long_stream_is_held_up_to_a_bound_and_whole_for_all_who_share_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(flights, "HELD_BYTES_MAX", 10)
    sent = [f"{number:04}".encode() for number in range(100)]
    asked = 0

    async def pieces() -> AsyncGenerator[bytes, None]:
        nonlocal asked
        for piece in sent:
            asked += 1
            yield piece

    async def work() -> Response:
        return Stream(pieces(), media_type="text/event-stream")

    flight = Flight(work(), kept_nowhere)
    quick, slow = await asyncio.gather(flight.join(), flight.join())
    assert isinstance(quick, Stream)
    assert isinstance(slow, Stream)
    reading = asyncio.create_task(collected(quick))
    await asyncio.sleep(0.05)
    assert (asked, flight.open, reading.done()) == (3, False, False)  # two pieces fit; the third waits for room
    with pytest.raises(Unavailable):
        await collected_late(flight, slow)
    assert await collected(slow) == sent[1:]
    assert await asyncio.wait_for(reading, BOUND_S) == sent


async def test_who_leaves_a_long_stream_holds_nobody_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flights, "HELD_BYTES_MAX", 10)

    async def pieces() -> AsyncGenerator[bytes, None]:
        for _ in range(100):
            yield b"abcd"

    async def work() -> Response:
        return Stream(pieces(), media_type="text/event-stream")

    flight = Flight(work(), kept_nowhere)
    staying, leaving = await asyncio.gather(flight.join(), flight.join())
    assert isinstance(staying, Stream)
    assert isinstance(leaving, Stream)
    await anext(leaving.pieces)
    reading = asyncio.create_task(collected(staying))
    await asyncio.sleep(0.05)
    assert not reading.done()
    await leaving.pieces.aclose()
    assert len(await asyncio.wait_for(reading, BOUND_S)) == 100


async def collected(stream: Stream) -> list[bytes]:
    return [piece async for piece in stream.pieces]


async def collected_late(flight: Flight, slow: Stream) -> None:
    """Who comes after the beginning was dropped is refused."""
    assert await anext(slow.pieces) == b"0000"
    await asyncio.sleep(0.05)
    await flight.join()
