"""Dead letters: who sees which, and the way back."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from uuid import uuid4

import pytest

from functions.governance.events.letters import page_of, read_one, redrive_one
from shared.errors import Invalid, NotFound
from shared.events import CloudEvent, Events, Relay
from shared.events.dead_letters import bury
from shared.events.stream import Stream
from shared.events.subjects import message_id, subject_of
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from tests.fixtures.control import control_database

ACME, OTHER = TenantId("acme"), TenantId("other")


@pytest.fixture
async def control(postgres_admin_url: str) -> AsyncIterator[ControlDatabase]:
    async with control_database(postgres_admin_url) as control:
        yield control


async def buried(control: ControlDatabase, tenant: TenantId = ACME, **extensions: str) -> CloudEvent:
    event = CloudEvent(str(uuid4()), "/t", "dcoder.t", "x", tenant, datetime.now(UTC), {"a": 1}, extensions)
    await bury(
        control, event, function="knowledge-documents", reason="malformed: no\x00good", attempts=3, last_status=422
    )
    return event


async def test_a_tenant_sees_its_own_letters_and_an_operator_sees_all(control: ControlDatabase) -> None:
    mine, theirs = await buried(control), await buried(control, OTHER)
    assert [one.event_id for one in (await page_of(control, ACME, limit=10, before=None)).dead_letters] == [mine.id]
    everything = await page_of(control, PLATFORM, limit=10, before=None)
    assert [one.event_id for one in everything.dead_letters] == [theirs.id, mine.id]
    letter = everything.dead_letters[0]
    with pytest.raises(NotFound):
        await read_one(control, ACME, letter.id)
    assert (await read_one(control, OTHER, letter.id)).reason == "malformed: nogood"


async def test_a_list_is_continued_where_it_ended(control: ControlDatabase) -> None:
    sent = [(await buried(control)).id for _ in range(5)]
    seen, before = [], None
    for _ in range(3):
        page = await page_of(control, ACME, limit=2, before=before)
        seen += [one.event_id for one in page.dead_letters]
        before = page.next
    assert seen == sent[::-1]
    assert before is None


async def test_a_limit_out_of_bounds_is_refused(control: ControlDatabase) -> None:
    for limit in (0, 201):
        with pytest.raises(Invalid):
            await page_of(control, ACME, limit=limit, before=None)


async def test_the_same_death_twice_is_one_letter_without_the_token(control: ControlDatabase) -> None:
    event = await buried(control, dcodertoken="secret")
    await bury(control, event, function="knowledge-documents", reason="again", attempts=4)
    [letter] = (await page_of(control, ACME, limit=10, before=None)).dead_letters
    assert (letter.reason, letter.attempts, letter.last_status) == ("again", 4, None)
    assert "dcodertoken" not in letter.event


async def test_a_redriven_event_is_published_again_to_its_function_although_the_stream_knows_its_id(
    control: ControlDatabase, nats_url: str
) -> None:
    events = Events(Stream(nats_url), sign=lambda event: event)
    event = await buried(control)
    await events.publish(event)
    [letter] = (await page_of(control, ACME, limit=10, before=None)).dead_letters
    async with control.transaction() as transaction:
        marked = await redrive_one(transaction, ACME, letter.id)
    assert marked.redriven_at is not None
    assert marked.redrives == 1
    again = CloudEvent.from_json(await control.fetchval("SELECT event FROM outbox"))
    assert (again.id, again.data) == (event.id, event.data)
    assert subject_of(again) == "events.acme.dcoder.redrive.knowledge-documents"
    assert message_id(again) != message_id(event)
    assert await Relay(events).drain(control) == 1
    assert await events.publish(again) is False
    await events.close()


async def test_a_foreign_letter_is_not_redriven(control: ControlDatabase) -> None:
    await buried(control)
    [letter] = (await page_of(control, ACME, limit=10, before=None)).dead_letters
    with pytest.raises(NotFound):
        async with control.transaction() as transaction:
            await redrive_one(transaction, OTHER, letter.id)


async def test_a_letter_that_dies_again_is_no_longer_marked_as_redriven(control: ControlDatabase) -> None:
    event = await buried(control)
    [letter] = (await page_of(control, ACME, limit=10, before=None)).dead_letters
    async with control.transaction() as transaction:
        await redrive_one(transaction, ACME, letter.id)
    await bury(control, event, function="knowledge-documents", reason="again", attempts=1)
    died = await read_one(control, ACME, letter.id)
    assert died.redriven_at is None
    assert died.redrives == 1


async def test_a_letter_redriven_several_times_at_once_is_delivered_once(control: ControlDatabase) -> None:
    await buried(control)
    [letter] = (await page_of(control, ACME, limit=10, before=None)).dead_letters

    async def redrive() -> int:
        async with control.transaction() as transaction:
            return (await redrive_one(transaction, ACME, letter.id)).redrives

    assert await asyncio.gather(*(redrive() for _ in range(4))) == [1, 1, 1, 1]
    assert await control.fetchval("SELECT count(*) FROM outbox") == 1
