"""Events in over HTTP: the three modes, what is refused at the door, and the three answers."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from datetime import UTC, datetime
from uuid import uuid4

import httpx
import pytest

from shared.errors import Invalid, Unavailable
from shared.events import CloudEvent, ObjectEvent, to_http
from shared.events.http import to_batch, to_structured
from shared.events.subjects import REDRIVE_FUNCTION, REDRIVE_ID, as_sent
from shared.function import DomainEvent, Function, ObjectCreated, Scale
from shared.function.denials import Denials
from shared.identity import Tokens
from shared.ids import TenantId
from shared.postgres import ControlDatabase, TenantDatabase, TenantTransaction
from shared.tenancy import TenantRegistry
from tests.shared.function.conftest import Serve, Served

TYPE = "dcoder.test.happened"
Sent = tuple[dict[str, str], bytes]
MODES: dict[str, Callable[[CloudEvent], Sent]] = {
    "binary": to_http,
    "structured": to_structured,
    "batch": lambda event: to_batch([event]),
}
every_mode = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)


def counting() -> Function:
    """A function that counts, once per event, and answers as the event's data tell it."""
    function = Function(timeout_s=1, scale=Scale(concurrency=1))

    @function.on(DomainEvent(TYPE))
    async def happened(event: CloudEvent, transaction: TenantTransaction) -> None:
        """Count."""
        await transaction.execute("INSERT INTO processed_events VALUES ('counted', $1)", str(uuid4()))
        match event.data.get("then"):
            case "refuse":
                raise Invalid("never will")
            case "busy":
                raise Unavailable("not now", retry_after_s=7)
            case "break":
                raise RuntimeError("the password is hunter2")
            case "hang":
                await asyncio.sleep(60)

    return function


@pytest.fixture
async def database(registry: TenantRegistry, tenant: TenantId) -> AsyncIterator[TenantDatabase]:
    database = await registry.database(tenant)
    yield database
    await database.execute("DELETE FROM processed_events WHERE consumer = 'counted'")


@pytest.fixture
async def served(serve: Serve, database: TenantDatabase) -> AsyncIterator[tuple[Served, httpx.AsyncClient]]:
    served = serve(counting())
    async with served.client() as client:
        del client.headers["authorization"]
        yield served, client


def event(tenant: TenantId, then: str = "", number: int = 0) -> CloudEvent:
    return CloudEvent(
        id=f"{uuid4()}", source="/test", type=TYPE, subject=f"thing/{number}", tenant=tenant, time=datetime.now(UTC),
        data={"then": then},
    )  # fmt: skip


async def signed(served: Served, made: CloudEvent) -> CloudEvent:
    return (await served.application.process.get(Tokens)).sign_event(made)


async def post(client: httpx.AsyncClient, sent: Sent, path: str = "/") -> httpx.Response:
    headers, content = sent
    return await client.post(path, headers=headers, content=content)


async def counted(database: TenantDatabase) -> int:
    return int(await database.fetchval("SELECT count(*) FROM processed_events WHERE consumer = 'counted'"))


@every_mode
@pytest.mark.parametrize("path", ["/", "/events/test-made-up"])
async def test_an_event_in_any_mode_is_handled_and_answered_with_204_and_no_body(
    served: tuple[Served, httpx.AsyncClient],
    database: TenantDatabase,
    tenant: TenantId,
    mode: Callable[[CloudEvent], Sent],
    path: str,
) -> None:
    answer = await post(served[1], mode(await signed(served[0], event(tenant))), path)
    assert (answer.status_code, answer.content) == (204, b"")
    assert await counted(database) == 1


@every_mode
async def test_an_event_delivered_ten_times_at_once_has_one_effect(
    served: tuple[Served, httpx.AsyncClient],
    database: TenantDatabase,
    tenant: TenantId,
    mode: Callable[[CloudEvent], Sent],
) -> None:
    sent = mode(await signed(served[0], event(tenant)))
    answers = await asyncio.gather(*(post(served[1], sent) for _ in range(10)))
    assert {answer.status_code for answer in answers} == {204}
    assert await counted(database) == 1


async def test_a_redriven_event_is_known_by_the_id_that_it_had_before_a_broker_carried_it(
    served: tuple[Served, httpx.AsyncClient], database: TenantDatabase, tenant: TenantId
) -> None:
    first = await signed(served[0], event(tenant))
    again = {REDRIVE_FUNCTION: "test-made-up", REDRIVE_ID: str(uuid4())}
    second = as_sent(await signed(served[0], replace(first, extensions=again)))
    for one in (first, second):
        assert (await post(served[1], to_structured(one))).status_code == 204
    assert await counted(database) == 1


async def test_a_batch_is_handled_event_by_event(
    served: tuple[Served, httpx.AsyncClient], database: TenantDatabase, tenant: TenantId
) -> None:
    events = [await signed(served[0], event(tenant, number=number)) for number in range(5)]
    assert (await post(served[1], to_batch([*events, events[0]]))).status_code == 204
    assert await counted(database) == 5


@every_mode
async def test_an_event_without_a_fitting_token_is_refused_and_has_no_effect(
    served: tuple[Served, httpx.AsyncClient],
    database: TenantDatabase,
    tenant: TenantId,
    other_tenant: TenantId,
    mode: Callable[[CloudEvent], Sent],
) -> None:
    good = await signed(served[0], event(tenant))
    bad = [
        replace(good, extensions={}),
        replace(good, tenant=other_tenant),
        replace(good, data={"then": "x"}),
        replace(good, id=str(uuid4())),
    ]
    answers = [await post(served[1], mode(one)) for one in bad]
    assert [answer.status_code for answer in answers] == [401] * 4
    assert await counted(database) == 0
    refused = (await served[0].application.process.get(Denials))._pending
    assert sum(count for one, count in refused.items() if one.action == "events.deliver") == 4, "they are audited"


async def test_one_forged_event_in_a_batch_keeps_all_of_it_out(
    served: tuple[Served, httpx.AsyncClient], database: TenantDatabase, tenant: TenantId
) -> None:
    sent = to_batch([await signed(served[0], event(tenant)), event(tenant)])
    assert (await post(served[1], sent)).status_code == 401
    assert await counted(database) == 0


async def test_a_callers_token_is_no_events_token(served: tuple[Served, httpx.AsyncClient], tenant: TenantId) -> None:
    from shared.identity import TOKEN_EXTENSION, Caller

    tokens = await served[0].application.process.get(Tokens)
    minted = tokens.mint(Caller(tenant, "key:x", "admin", "key"), audience="events")
    answer = await post(served[1], to_http(replace(event(tenant), extensions={TOKEN_EXTENSION: minted})))
    assert answer.status_code == 401


@pytest.mark.parametrize("declared", [True, False], ids=["with a length", "without"])
async def test_an_event_over_the_limit_is_refused_as_too_large(
    served: tuple[Served, httpx.AsyncClient], declared: bool
) -> None:
    async def pieces() -> AsyncIterator[bytes]:
        for _ in range(1025):
            yield b"x" * 1024

    content = b"x" * (1025 * 1024) if declared else pieces()
    answer = await served[1].post("/", content=content, headers={"content-type": "application/cloudevents+json"})
    assert answer.status_code == 413
    assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b"", "", 400),
        (b"{", "application/cloudevents+json", 400),
        (b"[{]", "application/cloudevents-batch+json", 400),
        (b"\xff", "application/cloudevents+json", 400),
        (b"[" * 100_000, "application/cloudevents+json", 400),
        (b"<event/>", "application/cloudevents+xml", 415),
        (b"{}", "application/json", 400),
    ],
)
async def test_what_is_no_event_is_refused_with_a_reason(
    served: tuple[Served, httpx.AsyncClient], content: bytes, content_type: str, status: int
) -> None:
    answer = await served[1].post("/", content=content, headers={"content-type": content_type})
    assert answer.status_code == status
    assert answer.json()["detail"]


async def test_what_never_will_is_answered_as_done_and_kept_with_its_reason(
    served: tuple[Served, httpx.AsyncClient], database: TenantDatabase, control: ControlDatabase, tenant: TenantId
) -> None:
    made = await signed(served[0], event(tenant, "refuse"))
    answer = await post(served[1], to_http(made))
    assert (answer.status_code, await counted(database)) == (204, 0)
    letter = await control.fetchrow("SELECT tenant, function, reason FROM dead_letters WHERE event_id = $1", made.id)
    assert letter is not None
    assert dict(letter) == {"tenant": tenant, "function": "test-made-up", "reason": "invalid: never will"}


async def test_an_object_event_without_a_record_is_done_and_kept_and_no_4xx(
    serve: Serve, control: ControlDatabase, tenant: TenantId
) -> None:
    """A Broker on JetStream ends an event at the first 4xx, and keeps no dead letter of it."""
    function = Function()

    @function.on(ObjectCreated("things"))
    async def created(event: ObjectEvent, transaction: TenantTransaction) -> None:
        """Never comes to it."""

    served = serve(function)
    async with served.client() as client:
        made = replace(event(tenant), type="com.amazonaws.s3.ObjectCreated:Put", subject="things/1")
        signed_one = await signed(served, made)
        answer = await post(client, to_structured(signed_one), "/events/test-made-up")
    assert (answer.status_code, answer.content) == (204, b"")
    reason = await control.fetchval("SELECT reason FROM dead_letters WHERE event_id = $1", made.id)
    assert reason == f"malformed: event {made.id!r} holds no S3 record"


@pytest.mark.parametrize(("then", "retry_after"), [("busy", "7"), ("break", "1"), ("hang", "1")])
async def test_what_may_succeed_later_is_answered_with_503_and_leaves_nothing(
    served: tuple[Served, httpx.AsyncClient], database: TenantDatabase, tenant: TenantId, then: str, retry_after: str
) -> None:
    sent = to_http(await signed(served[0], event(tenant, then)))
    answer = await asyncio.wait_for(post(served[1], sent), 10)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, retry_after)
    assert "hunter2" not in answer.text
    assert await counted(database) == 0
    following = await post(served[1], to_http(await signed(served[0], event(tenant))))
    assert following.status_code == 204, "the one slot is free again"
