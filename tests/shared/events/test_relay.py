"""The way from an outbox to the stream, on real PostgreSQL and NATS."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from shared.errors import TooLarge, Unavailable
from shared.events import CloudEvent, Events, Relay
from shared.events.stream import STREAM, Stream, connect
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from shared.tenancy import TenantRegistry
from tests.fixtures.control import control_database


@pytest.fixture
async def control(postgres_admin_url: str) -> AsyncIterator[ControlDatabase]:
    async with control_database(postgres_admin_url) as control:
        yield control


@pytest.fixture
async def events(nats_url: str) -> AsyncIterator[Events]:
    events = Events(Stream(nats_url), sign=lambda event: event)
    yield events
    await events.close()


def event_of(type_: str, data: object = None) -> CloudEvent:
    return CloudEvent(str(uuid4()), "/tests", type_, "thing", PLATFORM, datetime.now(UTC), data)


async def stored(nats_url: str, type_: str) -> int:
    """How many messages of the type the stream holds."""
    connection = await connect(nats_url)
    subject = f"events.platform.{type_}"
    info = await connection.jetstream().stream_info(STREAM, subjects_filter=subject)
    await connection.close()
    return (info.state.subjects or {}).get(subject, 0)


async def waiting(control: ControlDatabase) -> int:
    count: int = await control.fetchval("SELECT count(*) FROM outbox")
    return count


async def emit(control: ControlDatabase, type_: str, count: int) -> None:
    async with control.transaction() as transaction:
        for _ in range(count):
            await transaction.emit(event_of(type_))


async def test_a_committed_event_is_published_and_leaves_the_outbox(
    control: ControlDatabase, events: Events, nats_url: str
) -> None:
    await emit(control, "relay.plain", 3)
    assert await Relay(events).drain(control) == 3
    assert await waiting(control) == 0
    assert await stored(nats_url, "relay.plain") == 3


async def test_an_event_of_a_transaction_that_failed_is_never_published(
    control: ControlDatabase, events: Events
) -> None:
    async def fail() -> None:
        async with control.transaction() as transaction:
            await transaction.emit(event_of("relay.failed"))
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await Relay(events).drain(control) == 0


async def test_several_relays_at_once_publish_each_event_once(
    control: ControlDatabase, events: Events, nats_url: str
) -> None:
    await emit(control, "relay.several", 350)
    gone = await asyncio.gather(*(Relay(events).drain(control) for _ in range(4)))
    assert sum(gone) == 350
    assert await stored(nats_url, "relay.several") == 350


async def test_a_crash_between_publishing_and_deleting_is_harmless(
    control: ControlDatabase, events: Events, nats_url: str
) -> None:
    await emit(control, "relay.crash", 5)
    for row in await control.fetch("SELECT event FROM outbox"):
        assert await events.publish(CloudEvent.from_json(row["event"]))
    assert await Relay(events).drain(control) == 5
    assert await stored(nats_url, "relay.crash") == 5


async def test_without_a_stream_the_events_stay_and_the_failure_is_told(control: ControlDatabase) -> None:
    await emit(control, "relay.down", 2)
    with pytest.raises(Unavailable):
        await Relay(Events(Stream("nats://127.0.0.1:9"), sign=lambda event: event)).drain(control)
    assert await waiting(control) == 2


async def test_one_event_that_cannot_be_published_holds_up_no_other(control: ControlDatabase, events: Events) -> None:
    async with control.transaction() as transaction:
        await transaction.emit(event_of("relay.big", "x" * 2_000_000))
        await transaction.emit(event_of("relay.small"))
    with pytest.raises(TooLarge):
        await Relay(events).drain(control)
    assert await waiting(control) == 1


async def test_the_stream_drops_a_second_event_of_the_same_id(events: Events) -> None:
    event = event_of("relay.twice")
    assert await events.publish(event)
    assert not await events.publish(event)


async def test_a_tenants_outbox_gets_no_event_of_somebody_else_signed(
    registry: TenantRegistry, tenant: TenantId, nats_url: str
) -> None:
    signed: list[CloudEvent] = []

    def sign(event: CloudEvent) -> CloudEvent:
        signed.append(event)
        return event

    database = await registry.database(tenant)
    own = replace(event_of("relay.own"), tenant=tenant)
    async with database.transaction() as transaction:
        for one in (event_of("relay.platforms"), replace(own, id=str(uuid4()), tenant=TenantId("another")), own):
            await transaction.execute("INSERT INTO outbox (event) VALUES ($1)", one.to_json())
    events = Events(Stream(nats_url), sign=sign)

    await Relay(events).drain(database)
    await events.close()

    assert [one.id for one in signed if one.type.startswith("relay.")] == [own.id]
    assert await database.fetchval("SELECT count(*) FROM outbox") == 0
