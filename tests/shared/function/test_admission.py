"""The way into a handler and out of it: refusals, one transaction, one effect per idempotency key."""

from __future__ import annotations

import asyncio
import json

import pytest
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from shared.errors import Conflict
from shared.function import Call, Function, Scale
from shared.ids import TenantId
from shared.postgres import TenantDatabase, TenantTransaction
from shared.tenancy import TenantRegistry
from tests.shared.function.conftest import Serve


class Thing(BaseModel):
    name: str


@pytest.fixture
async def database(registry: TenantRegistry, tenant: TenantId) -> TenantDatabase:
    return await registry.database(tenant)


def adding(*, fail: bool = False, shown_once: bool = False) -> Function:
    """A function that records a thing, as an event id handled once."""
    function = Function()

    @function.post("/things", permission="documents:write", success=201, shown_once=shown_once)
    async def add(thing: Thing, transaction: TenantTransaction, call: Call) -> Thing:
        """Add a thing."""
        await transaction.execute(
            "INSERT INTO processed_events (consumer, event_id) VALUES ($1, gen_random_uuid()::text)", thing.name
        )
        call.note(resource=f"thing/{thing.name}")
        if fail:
            raise Conflict("no")
        return thing

    return function


async def count(database: TenantDatabase, name: str) -> int:
    return int(await database.fetchval("SELECT count(*) FROM processed_events WHERE consumer = $1", name))


async def audited(database: TenantDatabase, resource: str) -> list[dict[str, object]]:
    rows = await database.fetch("SELECT record FROM audit_outbox UNION ALL SELECT record FROM audit_log")
    return [one for row in rows if (one := json.loads(bytes(row["record"])))["resource"] == resource]


async def test_a_change_commits_with_its_audit_record(serve: Serve, database: TenantDatabase) -> None:
    async with serve(adding()).client() as client:
        answer = await client.post("/things", json={"name": "committed"})
    assert (answer.status_code, await count(database, "committed")) == (201, 1)
    (record,) = await audited(database, "thing/committed")
    assert (record["action"], record["actor"], record["outcome"]) == ("test-made-up.add", "key:test", "done")


async def test_a_refused_change_leaves_nothing(serve: Serve, database: TenantDatabase) -> None:
    async with serve(adding(fail=True)).client() as client:
        answer = await client.post("/things", json={"name": "refused"})
    assert (answer.status_code, await count(database, "refused")) == (409, 0)
    assert not await audited(database, "thing/refused")


async def test_the_same_key_has_one_effect_and_one_answer(serve: Serve, database: TenantDatabase) -> None:
    async with serve(adding()).client() as client:
        answers = [
            await client.post("/things", json={"name": "once"}, headers={"idempotency-key": "k-once"}) for _ in range(3)
        ]
    assert [answer.status_code for answer in answers] == [201, 201, 201]
    assert len({answer.content for answer in answers}) == 1
    assert await count(database, "once") == 1


async def test_the_same_key_sent_ten_times_at_once_has_one_effect(serve: Serve, database: TenantDatabase) -> None:
    async with serve(adding()).client() as client:
        sending = [
            client.post("/things", json={"name": "race"}, headers={"idempotency-key": "k-race"}) for _ in range(10)
        ]
        answers = await asyncio.gather(*sending)
    assert {answer.status_code for answer in answers} == {201}
    assert await count(database, "race") == 1


async def test_the_same_key_for_another_request_is_refused(serve: Serve) -> None:
    async with serve(adding()).client() as client:
        await client.post("/things", json={"name": "first"}, headers={"idempotency-key": "k-other"})
        answer = await client.post("/things", json={"name": "second"}, headers={"idempotency-key": "k-other"})
    assert answer.status_code == 422


async def test_a_key_whose_call_was_refused_may_be_used_again(serve: Serve, database: TenantDatabase) -> None:
    headers = {"idempotency-key": "k-again"}
    async with serve(adding(fail=True)).client() as client:
        assert (await client.post("/things", json={"name": "again"}, headers=headers)).status_code == 409
    async with serve(adding()).client() as client:
        assert (await client.post("/things", json={"name": "again"}, headers=headers)).status_code == 201
    assert await count(database, "again") == 1


async def test_an_answer_shown_once_is_not_kept(serve: Serve, database: TenantDatabase) -> None:
    headers = {"idempotency-key": "k-secret"}
    async with serve(adding(shown_once=True)).client() as client:
        assert (await client.post("/things", json={"name": "secret"}, headers=headers)).status_code == 201
        again = await client.post("/things", json={"name": "secret"}, headers=headers)
    assert (again.status_code, await count(database, "secret")) == (409, 1)
    assert await database.fetchval("SELECT body IS NULL FROM idempotency_keys WHERE key = 'k-secret'")


@pytest.mark.parametrize(
    ("content", "content_type", "status"),
    [
        (b'{"name": ', "application/json", 400),
        (b'{"title": "x"}', "application/json", 422),
        (b'{"name": "x"}', "text/plain", 415),
        (b'{"name": "x"}', "", 415),
        (b"\xff\xfe", "application/json", 400),
    ],
)
async def test_a_body_that_does_not_fit_is_refused_with_a_reason(
    serve: Serve, content: bytes, content_type: str, status: int
) -> None:
    headers = {"content-type": content_type} if content_type else {}
    async with serve(adding()).client() as client:
        answer = await client.post("/things", content=content, headers=headers)
    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/problem+json"
    assert answer.json()["detail"]


async def test_a_body_without_a_length_is_cut_off_at_the_limit(serve: Serve) -> None:
    function = Function(body_bytes_max=1000)

    @function.route("/raw", permission="documents:read")
    async def raw(request: Request) -> Response:
        """Read all."""
        return JSONResponse({"bytes": len(await request.body())})

    async def body(size: int) -> object:
        for _ in range(size // 100):
            yield b"x" * 100

    async with serve(function).client() as client:
        fits = await client.post("/raw", content=body(900))  # type: ignore[arg-type]  # an async generator
        exceeds = await client.post("/raw", content=body(2000))  # type: ignore[arg-type]  # an async generator
    assert (fits.status_code, exceeds.status_code) == (200, 413)


async def test_a_defect_of_ours_is_told_by_its_id_alone(serve: Serve) -> None:
    function = Function()

    @function.get("/broken", permission="documents:read")
    async def broken() -> None:
        """Break."""
        raise RuntimeError("the password is hunter2")

    async with serve(function).client() as client:
        answer = await client.get("/broken", headers={"x-request-id": "request-4711"})
    assert answer.status_code == 500
    assert "hunter2" not in answer.text
    assert "request-4711" in answer.json()["detail"]


async def test_more_calls_than_may_wait_are_told_to_come_back(serve: Serve) -> None:
    function = Function(scale=Scale(concurrency=1))
    release = asyncio.Event()

    @function.get("/slow", permission="documents:read")
    async def slow() -> None:
        """Wait."""
        await release.wait()

    async with serve(function).client() as client:
        calls = [asyncio.create_task(client.get("/slow")) for _ in range(14)]
        done, _ = await asyncio.wait(calls, return_when=asyncio.FIRST_COMPLETED)
        assert {call.result().status_code for call in done} == {503}
        assert all("retry-after" in call.result().headers for call in done)
        release.set()
        answers = await asyncio.gather(*calls)
    assert sorted(answer.status_code for answer in answers) == [200] * 11 + [503] * 3


async def test_an_unknown_path_and_a_wrong_method_are_problems_too(serve: Serve) -> None:
    async with serve(adding()).client() as client:
        unknown, wrong = await client.get("/nowhere"), await client.get("/things")
    assert (unknown.status_code, wrong.status_code) == (404, 405)
    assert {unknown.headers["content-type"], wrong.headers["content-type"]} == {"application/problem+json"}
    assert (unknown.headers.get("allow"), wrong.headers["allow"]) == (None, "POST")


async def test_a_refused_caller_is_audited_once_with_a_count(serve: Serve, registry: TenantRegistry) -> None:
    served = serve(adding())
    async with served.client(role="viewer") as client:
        answers = [await client.post("/things", json={"name": "x"}) for _ in range(5)]
    assert {answer.status_code for answer in answers} == {403}
    rows = await registry.ground.control.fetch("SELECT record FROM audit_outbox")
    denied = [one for row in rows if (one := json.loads(bytes(row["record"])))["outcome"] == "denied"]
    assert sum(one["details"]["count"] for one in denied if one["action"] == "test-made-up.add") == 5


async def test_a_trace_goes_on_and_a_request_keeps_its_id(serve: Serve) -> None:
    seen: list[str] = []
    function = Function()

    @function.get("/seen", permission="documents:read")
    async def see(call: Call) -> None:
        """Look."""
        seen.append(call.traceparent)

    trace = "00-" + "a" * 32 + "-" + "b" * 16 + "-01"
    async with serve(function).client() as client:
        answer = await client.get("/seen", headers={"traceparent": trace, "x-request-id": "my-request-1"})
    assert answer.headers["x-request-id"] == "my-request-1"
    assert seen[0].startswith("00-" + "a" * 32)
    assert seen[0] != trace
