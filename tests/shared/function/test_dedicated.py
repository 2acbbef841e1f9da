"""A function dedicated to a tenant: its calls and events go to the process of its own, nobody else's do."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from shared.errors import Fault, Invalid, Unavailable
from shared.events import CloudEvent, to_http
from shared.function import Call, DomainEvent, Function, Tick
from shared.function.app import Application, build
from shared.function.catalog import Deployable
from shared.function.dedication import credentials_of
from shared.function.deliveries import subscribed
from shared.function.denials import Denials
from shared.function.process import Process
from shared.function.resources import TENANT_OPENERS
from shared.identity import Caller, Tokens
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase, TenantDatabase, TenantTransaction, address
from shared.redis import Cache
from shared.secrets import TenantSecrets
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from shared.tenancy.dedications import Addresses, end, forget
from shared.virtual_keys import insert_key, new_key
from tests.fixtures.dedicated import dedicate, dedicated_process, dedicated_settings
from tests.fixtures.waiting import until

NAME = "test-made-up"
TYPE = "dcoder.test.dedicated"
BODY_BYTES_MAX = 4 * 1024 * 1024


def made_up() -> Function:
    """A function that tells which process served it."""
    function = Function(timeout_s=5, body_bytes_max=BODY_BYTES_MAX)

    @function.get("/where/{name:path}", permission="documents:read")
    async def where(name: str, call: Call, request: Request) -> dict[str, Any]:
        """Tell."""
        caller = call.caller
        return {
            "served": served_by(call), "name": name, "query": request.url.query, "kind": caller.kind,
            "subject": caller.subject, "permissions": sorted(caller.permissions or ()),
            "key": request.headers.get("x-api-key", ""), "credential": request.headers["authorization"],
        }  # fmt: skip

    @function.put("/things/{name}", permission="documents:write")
    async def store(name: str, request: Request, call: Call, transaction: TenantTransaction) -> dict[str, Any]:
        """Store, and say so to everybody."""
        size = len(await request.body())
        await mark(transaction, f"stored {name} {served_by(call)}")
        await transaction.emit(happened(call.caller.tenant, "quiet"))
        return {"served": served_by(call), "bytes": size}

    @function.route("/stream", method="GET", permission="documents:read")
    async def stream() -> Response:
        """Two pieces, and then nothing for long."""

        async def pieces() -> AsyncIterator[bytes]:
            yield b"one\n"
            yield b"two\n"

        return StreamingResponse(pieces(), 202, {"x-own": "kept"}, "application/x-ndjson")

    @function.get("/own", permission="documents:read")
    async def own(secrets: TenantSecrets, cache: Cache, database: TenantDatabase) -> dict[str, str]:
        """Use what is the tenant's."""
        await cache.set("a", b"cached", 60)
        sealed = await secrets.seal("test", b"sealed")
        role = await database.fetchval("SELECT current_user::text || '@' || current_database()")
        return {
            "secret": (await secrets.open("test", sealed)).decode(), "cache": (await cache.get("a") or b"").decode(),
            "role": role,
        }  # fmt: skip

    @function.on(DomainEvent(TYPE))
    async def take(event: CloudEvent, call: Call, transaction: TenantTransaction) -> None:
        """Count, and answer as the event's data tell it."""
        await mark(transaction, f"took {event.id} {served_by(call)}")
        if event.data == {"then": "refuse"}:
            raise Invalid("never will")
        if event.data == {"then": "busy"}:
            raise Unavailable("not now")

    return function


def served_by(call: Call) -> str:
    return call.process.settings.dedicated_tenant or "pooled"


async def mark(transaction: TenantTransaction, text: str) -> None:
    await transaction.execute("INSERT INTO processed_events VALUES ('dedicated-test', $1)", text)


def happened(tenant: TenantId, then: str = "") -> CloudEvent:
    return CloudEvent(str(uuid4()), "/test", TYPE, "thing", tenant, datetime.now(UTC), {"then": then})


@dataclass
class Pair:
    """The pooled process, the tenant's own, and clients of either."""

    pooled: Application
    client: httpx.AsyncClient
    own: Application
    address: str
    database: TenantDatabase

    async def headers(self, tenant: TenantId, *, audience: str = NAME) -> dict[str, str]:
        tokens = await self.pooled.process.get(Tokens)
        return {
            "authorization": f"Bearer {tokens.mint(Caller(tenant, 'key:t', 'admin', 'key'), audience=audience)}",
        }

    async def where(self, tenant: TenantId) -> str:
        answer = await self.client.get("/where/x", headers=await self.headers(tenant))
        return str(answer.json()["served"])

    async def deliver(self, event: CloudEvent) -> httpx.Response:
        signed = (await self.pooled.process.get(Tokens)).sign_event(event)
        headers, content = to_http(signed)
        return await self.client.post(f"/events/{NAME}", headers=headers, content=content)

    async def marks(self, beginning: str) -> list[str]:
        rows = await self.database.fetch(
            "SELECT event_id FROM processed_events WHERE consumer = 'dedicated-test' AND event_id LIKE $1",
            f"{beginning}%",
        )
        return [row["event_id"] for row in rows]


@asynccontextmanager
async def pair_of(process: Process, tenant: TenantId) -> AsyncIterator[Pair]:
    deployable = Deployable(NAME, __name__, made_up())
    pooled = build([deployable], process.settings)
    transport = httpx.ASGITransport(pooled, raise_app_exceptions=False)
    database = await (await process.get(TenantRegistry)).database(tenant)
    async with (
        httpx.AsyncClient(transport=transport, base_url="http://platform") as client,
        dedicated_process(process, tenant, [deployable]) as (own, address),
    ):
        yield Pair(pooled, client, own, address, database)
    await pooled.process.close()


@pytest.fixture
async def pair(process: Process, control: ControlDatabase, tenant: TenantId) -> AsyncIterator[Pair]:
    """Both processes; nothing is dedicated yet."""
    async with pair_of(process, tenant) as pair:
        yield pair
    await control.execute("DELETE FROM dedications")


@pytest.fixture
async def dedicated(pair: Pair, control: ControlDatabase, tenant: TenantId) -> Pair:
    """Both processes, the function dedicated to the tenant."""
    await dedicate(control, tenant, NAME, pair.address)
    await until(served(pair, tenant, tenant), 3)
    return pair


def served(pair: Pair, tenant: TenantId, by: str) -> Callable[[], Awaitable[bool]]:
    async def holds() -> bool:
        answer = await pair.client.get("/where/x", headers=await pair.headers(tenant))
        return answer.status_code == 200 and answer.json()["served"] == by

    return holds


async def undedicate(control: ControlDatabase, tenant: TenantId) -> None:
    async with control.transaction() as transaction:
        await end(transaction, tenant, NAME)


async def test_calls_of_the_tenant_go_to_its_process_within_seconds_and_nobody_elses(
    pair: Pair, control: ControlDatabase, tenant: TenantId, other_tenant: TenantId
) -> None:
    assert await pair.where(tenant) == "pooled"

    await dedicate(control, tenant, NAME, pair.address)

    await until(served(pair, tenant, tenant), 3)
    assert await pair.where(other_tenant) == "pooled"
    await undedicate(control, tenant)
    await until(served(pair, tenant, "pooled"), 3)


async def test_a_call_arrives_as_it_was_sent_without_its_callers_credential(
    dedicated: Pair, control: ControlDatabase, process: Process, tenant: TenantId
) -> None:
    made = new_key((process.settings.secrets_dir / "pepper.key").read_bytes())
    async with control.transaction() as transaction:
        await insert_key(
            transaction, made, tenant=tenant, name="t", role="member", created_by="test",
            permissions=["documents:read"],
        )  # fmt: skip

    answer = await dedicated.client.get(
        "/where/a%2Fb%20c?q=%C3%A9&r=1", headers={"authorization": f"Bearer {made.text}", "x-api-key": "mine"}
    )

    told = answer.json()
    assert (told["served"], told["name"], told["query"]) == (tenant, "a/b c", "q=%C3%A9&r=1")
    assert (told["kind"], told["subject"], told["permissions"]) == ("key", f"key:{made.id}", ["documents:read"])
    assert "dck_" not in str(told)
    assert told["key"] == ""
    assert answer.headers["x-request-id"]
    assert len(answer.headers.get_list("x-request-id")) == 1


async def test_a_stream_keeps_its_status_its_headers_and_its_bytes(dedicated: Pair, tenant: TenantId) -> None:
    async with dedicated.client.stream("GET", "/stream", headers=await dedicated.headers(tenant)) as answer:
        content = await answer.aread()

    assert (answer.status_code, content, answer.headers["x-own"]) == (202, b"one\ntwo\n", "kept")


async def test_a_large_body_is_passed_on_whole_and_one_over_the_limit_is_refused(
    dedicated: Pair, tenant: TenantId
) -> None:
    async def piecewise(size: int) -> AsyncIterator[bytes]:
        for _ in range(size // 65536):
            yield bytes(65536)
        yield bytes(size % 65536)

    headers = await dedicated.headers(tenant)
    whole = await dedicated.client.put("/things/large", headers=headers, content=piecewise(BODY_BYTES_MAX))
    over = await dedicated.client.put("/things/over", headers=headers, content=piecewise(BODY_BYTES_MAX + 1))

    assert whole.json() == {"served": tenant, "bytes": BODY_BYTES_MAX}
    assert over.status_code == 413
    assert await dedicated.marks("stored over") == []


async def test_what_the_process_commits_is_published_and_sealed_by_who_handed_the_call_on(
    dedicated: Pair, tenant: TenantId
) -> None:
    await dedicated.client.put("/things/told", headers=await dedicated.headers(tenant), content=b"x")

    async def published() -> bool:
        rows = await dedicated.database.fetchval("SELECT count(*) FROM outbox WHERE event->>'type' = $1", TYPE)
        return int(rows) == 0

    assert await dedicated.marks("stored told") == [f"stored told {tenant}"]
    await until(published, 5)
    audited = await dedicated.database.fetch("SELECT record FROM audit_outbox")
    assert any(b"things/told" in bytes(row["record"]) for row in audited)


async def test_a_call_repeated_under_its_key_has_one_effect_across_the_change(
    dedicated: Pair, control: ControlDatabase, tenant: TenantId
) -> None:
    headers = {**await dedicated.headers(tenant), "idempotency-key": str(uuid4())}
    first = await dedicated.client.put("/things/once", headers=headers, content=b"abc")
    await undedicate(control, tenant)
    await until(served(dedicated, tenant, "pooled"), 3)

    again = await dedicated.client.put("/things/once", headers=headers, content=b"abc")

    assert again.json() == first.json() == {"served": tenant, "bytes": 3}
    assert await dedicated.marks("stored once") == [f"stored once {tenant}"]


async def test_a_process_that_is_gone_is_never_stood_in_for(
    process: Process, control: ControlDatabase, tenant: TenantId
) -> None:
    async with pair_of(process, tenant) as pair:
        await dedicate(control, tenant, NAME, "http://127.0.0.1:9")
        answer = await pair.client.get("/where/x", headers=await pair.headers(tenant))
        event = happened(tenant)
        delivered = await pair.deliver(event)
        await undedicate(control, tenant)
        await until(served(pair, tenant, "pooled"), 3)
        again = await pair.deliver(event)
        marks = await pair.marks(f"took {event.id}")
    await control.execute("DELETE FROM dedications")

    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert (delivered.status_code, again.status_code) == (503, 204)
    assert marks == [f"took {event.id} pooled"]


async def test_an_answer_that_is_no_functions_is_not_passed_off_as_one(
    pair: Pair, control: ControlDatabase, tenant: TenantId
) -> None:
    """An ingress answers 404 for a Service that is not there any more."""

    async def answer_404(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 404 Not Found\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        writer.close()

    ingress = await asyncio.start_server(answer_404, "127.0.0.1", 0)
    port = ingress.sockets[0].getsockname()[1]
    await dedicate(control, tenant, NAME, f"http://127.0.0.1:{port}")

    async def refused() -> bool:
        answer = await pair.client.get("/where/x", headers=await pair.headers(tenant))
        return answer.status_code == 503

    await until(refused, 3)
    assert (await pair.deliver(happened(tenant))).status_code == 503
    ingress.close()


async def test_the_tenants_events_go_to_its_process_and_have_one_effect(
    dedicated: Pair, tenant: TenantId, other_tenant: TenantId, registry: TenantRegistry
) -> None:
    mine, theirs = happened(tenant), happened(other_tenant)

    answers = [await dedicated.deliver(event) for event in (mine, mine, theirs)]

    assert [answer.status_code for answer in answers] == [204, 204, 204]
    assert await dedicated.marks(f"took {mine.id}") == [f"took {mine.id} {tenant}"]
    elsewhere = await (await registry.database(other_tenant)).fetchval(
        "SELECT event_id FROM processed_events WHERE event_id LIKE $1", f"took {theirs.id}%"
    )
    assert elsewhere == f"took {theirs.id} pooled"


async def test_what_the_process_will_never_handle_becomes_a_dead_letter_and_what_it_may_later_comes_again(
    dedicated: Pair, control: ControlDatabase, tenant: TenantId
) -> None:
    never, later = happened(tenant, "refuse"), happened(tenant, "busy")

    assert (await dedicated.deliver(never)).status_code == 204
    assert (await dedicated.deliver(later)).status_code == 503

    letters = await control.fetch(
        "SELECT event_id, function, reason FROM dead_letters WHERE event_id = ANY($1)", [never.id, later.id]
    )
    assert [dict(row) for row in letters] == [{"event_id": never.id, "function": NAME, "reason": "invalid: never will"}]


async def test_a_process_of_one_tenant_refuses_everybody_whom_the_pooled_function_did_not_hand_on(
    dedicated: Pair, control: ControlDatabase, process: Process, tenant: TenantId, other_tenant: TenantId
) -> None:
    tokens = await process.get(Tokens)
    key = new_key((process.settings.secrets_dir / "pepper.key").read_bytes())
    async with control.transaction() as transaction:
        await insert_key(transaction, key, tenant=tenant, name="k", role="admin", created_by="test")
    admin, stranger = (Caller(one, "key:x", "admin", "key") for one in (tenant, other_tenant))
    shown = {
        "nothing": "",
        "the tenant's own key": key.text,
        "a token for the pooled function": tokens.mint(admin, audience=NAME),
        "one for another function of the tenant": tokens.mint_forwarded(admin, function="test-other"),
        "one for the same function of another tenant": tokens.mint_forwarded(stranger, function=NAME),
        "one that somebody else signed": Tokens(b"x" * 32).mint_forwarded(admin, function=NAME),
    }

    async with httpx.AsyncClient(base_url=dedicated.address) as direct:
        refused = {
            what: (await direct.get("/where/x", headers={"authorization": f"Bearer {one}"} if one else {})).status_code
            for what, one in shown.items()
        }
        events = []
        for event in (tokens.sign_event(happened(other_tenant)), happened(tenant)):
            headers, content = to_http(event)
            events.append((await direct.post(f"/events/{NAME}", headers=headers, content=content)).status_code)

    assert refused == dict.fromkeys(shown, 401)
    assert events == [401, 401]
    await (await dedicated.own.process.get(Denials)).close()
    records = await dedicated.database.fetch("SELECT record FROM audit_outbox")
    assert any(b'"denied"' in bytes(row["record"]) and NAME.encode() in bytes(row["record"]) for row in records)


async def test_the_token_of_a_forwarded_call_opens_no_pooled_function(dedicated: Pair, tenant: TenantId) -> None:
    seen = (await dedicated.client.get("/where/x", headers=await dedicated.headers(tenant))).json()["credential"]

    answer = await dedicated.client.get("/where/x", headers={"authorization": seen})

    assert answer.status_code == 401


async def test_a_process_of_one_tenant_uses_what_is_the_tenants_and_holds_nothing_else(
    dedicated: Pair, process: Process, tenant: TenantId
) -> None:
    own = (await dedicated.client.get("/own", headers=await dedicated.headers(tenant))).json()

    assert own == {"secret": "sealed", "cache": "cached", "role": f"t_{tenant}@t_{tenant}"}
    held = dedicated.own.process.settings
    assert {path.name for path in held.secrets_dir.iterdir()} == {"issuer.key", "data.key"}
    assert not {ControlDatabase, TenantRegistry, Tokens} & TENANT_OPENERS.keys()
    elsewhere = address(held.postgres_url, database="dcoder")
    with pytest.raises(Exception, match="does not have CONNECT privilege"):
        await ControlDatabase(elsewhere, process.opened(ControlDatabase).databases).fetchval("SELECT 1")  # type: ignore[union-attr]  # it is open


async def test_a_function_that_reaches_further_does_not_start_for_one_tenant(
    process: Process, tenant: TenantId, tmp_path: Path
) -> None:
    function = Function()

    @function.get("/all", permission="documents:read")
    async def everything(control: ControlDatabase) -> None:
        """Look at everybody."""

    settings = dedicated_settings(process.settings, tenant, await credentials_of(process.settings, tenant), tmp_path)

    with pytest.raises(Fault, match="DCODER_TENANT is set, but test-made-up asks for ControlDatabase"):
        build([Deployable(NAME, __name__, function)], settings)


async def test_a_tenants_event_starts_no_schedule_of_the_platforms() -> None:
    function = Function()

    @function.every("* * * * *")
    async def sweep(tick: Tick) -> None:
        """Sweep."""

    due = CloudEvent(
        "e", "/x", "dcoder.schedule.due", "s", TenantId("acme"), datetime.now(UTC),
        {"function": NAME, "operation": "sweep", "nominal": "2026-01-01T00:00:00+00:00"},
    )  # fmt: skip
    (operation,) = function.operations

    assert not subscribed(NAME, operation, due)
    assert subscribed(NAME, operation, replace(due, tenant=PLATFORM))


async def test_addresses_are_read_once_for_a_burst(
    control: ControlDatabase, tenant: TenantId, monkeypatch: pytest.MonkeyPatch, settings: Settings
) -> None:
    await dedicate(control, tenant, NAME, "http://10.0.0.1")
    reads = 0
    real = control.fetch

    async def counting(sql: str, *arguments: object) -> Any:
        nonlocal reads
        reads += 1
        return await real(sql, *arguments)

    monkeypatch.setattr(control, "fetch", counting)
    addresses, others = Addresses(control, [NAME]), Addresses(control, ["test-other"])

    found = await asyncio.gather(*(addresses.of(tenant, NAME) for _ in range(50)))

    assert (set(found), reads) == ({"http://10.0.0.1"}, 1)
    assert await others.of(tenant, NAME) is None
    async with control.transaction() as transaction:
        await end(transaction, tenant, NAME)
        await forget(transaction, tenant, NAME)
