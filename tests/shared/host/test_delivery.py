"""Delivery on a real NATS, to a function that answers what the test wants."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from uuid import uuid4

import pytest
import uvicorn
from hypothesis import given
from hypothesis import strategies as st
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from shared.errors import Unavailable
from shared.events import CloudEvent, Events, from_http
from shared.events.stream import STREAM, Stream, connect
from shared.function import catalog
from shared.host.delivery import Delivery, trim
from shared.host.fairness import TenantQueue
from shared.host.servers import Nats, start
from shared.host.subscriptions import Retry, Subscription, retry_after_s, subscriptions, verdict
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from tests.fixtures.control import control_database
from tests.fixtures.ports import free_port
from tests.fixtures.servers import nats_server, scratch_directory
from tests.fixtures.waiting import until

Answer = Callable[[CloudEvent], Awaitable[int]]
QUICK = Retry(attempts_max=3, first_s=0.05, delay_s_max=0.2)


class FakeFunction:
    """A function's event endpoint. It records the ids that it was given."""

    def __init__(self, answer: Answer) -> None:
        self.seen: list[str] = []
        self._answer = answer
        self.url = ""

    async def endpoint(self, request: Request) -> Response:
        [event] = from_http(dict(request.headers), await request.body())
        self.seen.append(event.id)
        return Response(status_code=await self._answer(event))


@asynccontextmanager
async def serving(answer: Answer) -> AsyncIterator[FakeFunction]:
    function = FakeFunction(answer)
    port = free_port()
    function.url = f"http://127.0.0.1:{port}/"
    app = Starlette(routes=[Route("/", function.endpoint, methods=["POST"])])
    server = uvicorn.Server(uvicorn.Config(app, port=port, log_level="error", lifespan="off"))
    task = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    try:
        yield function
    finally:
        server.should_exit = True
        await task


@pytest.fixture
async def control(postgres_admin_url: str) -> AsyncIterator[ControlDatabase]:
    async with control_database(postgres_admin_url) as control:
        yield control


@asynccontextmanager
async def delivering(
    nats_url: str, control: ControlDatabase, function: FakeFunction, type_: str, concurrency: int = 4
) -> AsyncIterator[None]:
    subscription = Subscription(f"test-{type_}", function.url, (f"events.*.{type_}",), concurrency, 5.0)
    task = asyncio.create_task(Delivery(nats_url, control, [subscription], retry=QUICK, grace_s=2.0).run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def event_of(type_: str, tenant: str = "acme") -> CloudEvent:
    return CloudEvent(str(uuid4()), "/tests", type_, "thing", TenantId(tenant), datetime.now(UTC), {"n": 1})


@asynccontextmanager
async def publishing(nats_url: str) -> AsyncIterator[Events]:
    events = Events(Stream(nats_url), sign=lambda event: event)
    yield events
    await events.close()


def always(status: int) -> Answer:
    async def answer(event: CloudEvent) -> int:
        return status

    return answer


async def letters(control: ControlDatabase) -> list[tuple[str, int, int | None]]:
    rows = await control.fetch("SELECT event_id, attempts, last_status FROM dead_letters")
    return [(row["event_id"], row["attempts"], row["last_status"]) for row in rows]


async def test_an_event_reaches_its_function_once(nats_url: str, control: ControlDatabase) -> None:
    async with serving(always(204)) as function, publishing(nats_url) as events:
        sent = [event_of("once") for _ in range(20)]
        for event in sent:
            await events.publish(event)
        async with delivering(nats_url, control, function, "once"):
            await until(lambda: len(function.seen) >= 20)
        assert sorted(function.seen) == sorted(event.id for event in sent)
        assert await letters(control) == []


async def test_a_refusal_becomes_a_dead_letter_at_the_first_attempt(nats_url: str, control: ControlDatabase) -> None:
    async with serving(always(422)) as function, publishing(nats_url) as events:
        await events.publish(event := event_of("refused"))
        async with delivering(nats_url, control, function, "refused"):
            await until(lambda: has_letters(control, 1))
        assert await letters(control) == [(event.id, 1, 422)]


async def test_an_event_that_is_not_ours_leaves_no_dead_letter_which_a_redrive_would_sign(
    nats_url: str, control: ControlDatabase
) -> None:
    forged, genuine = event_of("forged"), event_of("forged")

    async def answer(event: CloudEvent) -> int:
        return 401 if event.id == forged.id else 422

    async with serving(answer) as function, publishing(nats_url) as events:
        await events.publish(forged)
        await events.publish(genuine)
        async with delivering(nats_url, control, function, "forged"):
            await until(lambda: has_letters(control, 1))
            await until(lambda: forged.id in function.seen)
        assert await letters(control) == [(genuine.id, 1, 422)]
        assert function.seen.count(forged.id) == 1


async def has_letters(control: ControlDatabase, count: int) -> bool:
    return len(await letters(control)) == count


async def test_a_failure_is_tried_again_and_in_the_end_becomes_a_dead_letter(
    nats_url: str, control: ControlDatabase
) -> None:
    async with serving(always(503)) as function, publishing(nats_url) as events:
        await events.publish(event := event_of("failing"))
        async with delivering(nats_url, control, function, "failing"):
            await until(lambda: has_letters(control, 1))
        assert function.seen == [event.id] * 3
        assert await letters(control) == [(event.id, 3, 503)]


async def test_a_failure_that_passes_leaves_no_trace(nats_url: str, control: ControlDatabase) -> None:
    answers = Counter[str]()

    async def second_time(event: CloudEvent) -> int:
        answers[event.id] += 1
        return 204 if answers[event.id] == 2 else 429

    async with serving(second_time) as function, publishing(nats_url) as events:
        await events.publish(event := event_of("passing"))
        async with delivering(nats_url, control, function, "passing"):
            await until(lambda: function.seen == [event.id] * 2)
        assert await letters(control) == []


async def test_a_poison_event_and_a_slow_tenant_hold_up_nobody_else(nats_url: str, control: ControlDatabase) -> None:
    release = asyncio.Event()

    async def by_tenant(event: CloudEvent) -> int:
        if event.tenant == "slow":
            await release.wait()
        return 500 if event.tenant == "poison" else 204

    async with serving(by_tenant) as function, publishing(nats_url) as events:
        for tenant in ["slow"] * 30 + ["poison"] * 5:
            await events.publish(event_of("fair", tenant))
        quick = [event_of("fair", "quick") for _ in range(10)]
        for event in quick:
            await events.publish(event)
        async with delivering(nats_url, control, function, "fair"):
            await until(lambda: {event.id for event in quick} <= set(function.seen))
            assert not release.is_set()
            release.set()


async def test_a_message_whose_dead_letter_cannot_be_written_is_kept(nats_url: str, control: ControlDatabase) -> None:
    async with serving(always(422)) as function, publishing(nats_url) as events:
        await control.execute("ALTER TABLE dead_letters RENAME TO hidden")
        await events.publish(event := event_of("unwritten"))
        async with delivering(nats_url, control, function, "unwritten"):
            await until(lambda: len(function.seen) >= 2)
            await control.execute("ALTER TABLE hidden RENAME TO dead_letters")
            await until(lambda: has_letters(control, 1))
        assert (await letters(control))[0][0] == event.id


async def test_what_is_in_flight_when_delivery_stops_comes_again_at_once(
    nats_url: str, control: ControlDatabase
) -> None:
    stuck = True

    async def stuck_at_first(event: CloudEvent) -> int:
        if stuck:
            await asyncio.sleep(4)
        return 204

    async with serving(stuck_at_first) as function, publishing(nats_url) as events:
        await events.publish(event := event_of("stopped"))
        async with delivering(nats_url, control, function, "stopped"):
            await until(lambda: function.seen == [event.id])
        stuck = False
        async with delivering(nats_url, control, function, "stopped"):
            await until(lambda: function.seen == [event.id] * 2, 10.0)


async def test_delivery_goes_on_when_nats_comes_back(control: ControlDatabase) -> None:
    with scratch_directory() as folder:
        server = Nats(folder / "nats", free_port(), "token")
        first = start(server, folder / "log")
        async with (
            serving(always(204)) as function,
            publishing(server.url) as events,
            delivering(server.url, control, function, "back"),
        ):
            await events.publish(event_of("back"))
            await until(lambda: len(function.seen) == 1)
            first.process.kill()
            first.process.wait()
            with pytest.raises(Unavailable):
                await events.publish(event_of("back"))
            second = start(server, folder / "log")
            try:
                await until(lambda: published(events))
                await until(lambda: len(function.seen) >= 2)
            finally:
                second.stop()


async def published(events: Events) -> bool:
    try:
        return await events.publish(event_of("back"))
    except Unavailable:
        return False


async def test_a_stream_that_fills_up_loses_only_what_everybody_has(control: ControlDatabase) -> None:
    with nats_server() as server:
        async with serving(always(204)) as function, publishing(server.url) as events:
            async with delivering(server.url, control, function, "trim"):
                for _ in range(10):
                    await events.publish(event_of("trim"))
                await until(lambda: len(function.seen) == 10)
            connection = await connect(server.url)
            stream = connection.jetstream()
            await trim(stream, bytes_max=1_000_000)
            assert (await stream.stream_info(STREAM)).state.messages == 10
            await trim(stream, bytes_max=0)
            assert (await stream.stream_info(STREAM)).state.messages == 0
            await connection.close()


@pytest.mark.parametrize(
    ("status", "expected"),
    [(200, "done"), (204, "done"), (302, "never"), (400, "never"), (404, "never"), (408, "again"), (425, "again"),
     (429, "again"), (500, "again"), (503, "again"), (None, "again")],
)  # fmt: skip
def test_an_answer_means_one_of_three_things(status: int | None, expected: str) -> None:
    assert verdict(status) == expected


@given(st.integers(1, 10_000), st.floats(0, 1, exclude_max=True))
def test_the_delay_grows_and_stays_within_its_bound(attempt: int, chance: float) -> None:
    retry = Retry()
    assert 0.5 <= retry.delay_s(attempt, chance) <= retry.delay_s_max * 1.5
    assert retry.delay_s(attempt + 1, chance) >= retry.delay_s(attempt, chance)


@given(st.text(max_size=12))
def test_any_retry_after_is_a_bounded_wait(header: str) -> None:
    assert 0 <= retry_after_s(header, 300.0) <= 300.0


@given(st.lists(st.sampled_from("abc"), max_size=60), st.integers(1, 9), st.randoms())
def test_no_tenant_exceeds_its_share_and_every_item_is_taken_once_in_its_tenants_order(
    tenants: list[str], concurrency: int, chance: object
) -> None:
    import random

    assert isinstance(chance, random.Random)
    queue: TenantQueue[int] = TenantQueue(concurrency)
    for number, tenant in enumerate(tenants):
        queue.push(tenant, number)
    in_flight: list[str] = []
    taken: dict[str, list[int]] = {}
    while True:
        while (found := queue.take()) is not None:
            in_flight.append(found[0])
            taken.setdefault(found[0], []).append(found[1])
        assert len(in_flight) <= concurrency
        assert all(count <= (concurrency + 1) // 2 for count in Counter(in_flight).values())
        if not in_flight:
            break
        queue.done(in_flight.pop(chance.randrange(len(in_flight))))
    assert taken == {one: [n for n, tenant in enumerate(tenants) if tenant == one] for one in set(tenants)}


def test_events_leave_a_function_room_for_calls(settings: Settings) -> None:
    deployables = {one.name: one.function.scale.concurrency for one in catalog.find()}
    for one in subscriptions(catalog.find(), settings):
        assert 1 <= one.concurrency <= max(1, deployables[one.function] // 2), one.function
