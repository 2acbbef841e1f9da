"""Publishing to a Broker, over HTTP to a sink that answers as it is told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from shared.errors import TooLarge, Unavailable
from shared.events import CloudEvent, Events, Relay
from shared.events.broker import Broker
from shared.events.subjects import REDRIVE_FUNCTION, REDRIVE_ID, as_signed, message_id
from shared.identity import Tokens
from shared.ids import PLATFORM
from shared.postgres import ControlDatabase
from tests.fixtures.broker import Sink, listening
from tests.fixtures.control import control_database


@pytest.fixture
async def sink() -> AsyncIterator[Sink]:
    async with listening(Sink()) as sink:
        yield sink


@pytest.fixture
async def events(sink: Sink) -> AsyncIterator[Events]:
    events = Events(Broker(sink.url), sign=Tokens(b"s" * 32).sign_event)
    yield events
    await events.close()


@pytest.fixture
async def control(postgres_admin_url: str) -> AsyncIterator[ControlDatabase]:
    async with control_database(postgres_admin_url) as control:
        yield control


def event_of(data: object = None) -> CloudEvent:
    return CloudEvent(str(uuid4()), "/tests", "broker.test", "a b/ü%", PLATFORM, datetime.now(UTC), data)


async def waiting(control: ControlDatabase) -> int:
    count: int = await control.fetchval("SELECT count(*) FROM outbox")
    return count


async def emit(control: ControlDatabase, *events: CloudEvent) -> None:
    async with control.transaction() as transaction:
        for event in events:
            await transaction.emit(event)


async def test_an_event_arrives_signed_and_whole(sink: Sink, events: Events) -> None:
    event = event_of({"ü": [1, None, "x"]})

    assert await events.publish(event)

    (kept,) = sink.kept
    Tokens(b"s" * 32).verify_event(kept)
    assert (kept.id, kept.subject, kept.data, kept.time) == (event.id, event.subject, event.data, event.time)


async def test_a_redriven_event_has_an_id_that_the_broker_has_not_seen_and_its_own_again_at_the_function(
    sink: Sink, events: Events
) -> None:
    event = event_of()
    again = replace(event, extensions={REDRIVE_FUNCTION: "test-made-up", REDRIVE_ID: str(uuid4())})

    await events.publish(event)
    await events.publish(again)

    first, second = sink.kept
    assert (first.id, second.id) == (event.id, message_id(again))
    assert first.id != second.id
    arrived = as_signed(second)
    Tokens(b"s" * 32).verify_event(arrived)
    assert arrived.id == event.id


@pytest.mark.parametrize("status", [302, 400, 404, 429, 500, 503])
async def test_an_answer_but_2xx_keeps_the_row_in_its_outbox_until_the_broker_takes_it(
    sink: Sink, events: Events, control: ControlDatabase, status: int
) -> None:
    await emit(control, event_of(), event_of())
    sink.status = status
    with pytest.raises(Unavailable, match=str(status)):
        await Relay(events).drain(control)
    assert (await waiting(control), sink.kept) == (2, [])

    sink.status = 202

    assert await Relay(events).drain(control) == 2
    assert (await waiting(control), len(sink.kept)) == (0, 2)


async def test_a_broker_that_is_away_loses_nothing(control: ControlDatabase) -> None:
    await emit(control, event_of())
    with pytest.raises(Unavailable, match="does not answer"):
        await Relay(Events(Broker("http://127.0.0.1:9/a/b"), sign=lambda event: event)).drain(control)
    assert await waiting(control) == 1


async def test_an_event_that_no_function_would_take_is_not_sent(sink: Sink, events: Events) -> None:
    with pytest.raises(TooLarge):
        await events.publish(event_of("x" * 2_000_000))
    assert sink.kept == []


async def test_what_the_broker_calls_too_large_is_too_large(sink: Sink, events: Events) -> None:
    sink.status = 413
    with pytest.raises(TooLarge):
        await events.publish(event_of())
