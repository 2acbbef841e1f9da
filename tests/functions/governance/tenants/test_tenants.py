"""Tenants over HTTP: for operators, created once, deleted for good."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace

import httpx
import pytest

from shared.events import CloudEvent
from shared.events.http import to_http
from shared.function.process import Process
from shared.identity import Caller, Tokens
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry, moving, saga
from tests.fixtures.runtime import Runtime, serving_function


@pytest.fixture
async def tenants(settings: Settings) -> AsyncIterator[Runtime]:
    async with serving_function("governance-tenants", settings) as runtime:
        yield runtime


async def create(tenants: Runtime, name: str) -> httpx.Response:
    """The order of an operator to create a tenant."""
    tokens = await tenants.application.process.get(Tokens)
    token = tokens.mint(Caller(PLATFORM, "test", "operator", "key"), audience=tenants.function)
    return await tenants.client.post("/v1/tenants", json={"name": name}, headers={"authorization": f"Bearer {token}"})


async def test_a_tenant_is_created_listed_and_deleted_for_good(tenants: Runtime, control: ControlDatabase) -> None:
    made = await create(tenants, "by-http")
    assert (made.status_code, made.json()["state"]) == (201, "ready")
    again = await create(tenants, "by-http")
    assert again.json() == made.json()
    listed = await tenants.call("GET", "/v1/tenants?after=by-htt&limit=1", tenant=PLATFORM, role="operator")
    assert listed.json()["tenants"] == [made.json()]
    gone = await tenants.call("DELETE", "/v1/tenants/by-http", tenant=PLATFORM, role="operator")
    assert gone.status_code == 204
    assert (await tenants.call("GET", "/v1/tenants/by-http", tenant=PLATFORM, role="operator")).status_code == 404
    assert not await control.fetchval("SELECT true FROM pg_database WHERE datname = 't_by_http'")


async def test_an_operator_says_which_models_a_tenant_may_use(tenants: Runtime) -> None:
    await create(tenants, "narrow")
    path = "/v1/tenants/narrow/models"

    async def asked(method: str, path: str = path, models: list[str] | None = None) -> httpx.Response:
        content = json.dumps({"models": models}).encode()
        return await tenants.call(method, path, tenant=PLATFORM, role="operator", content=content)

    assert (await asked("GET")).json() == {"models": None}
    for models in (["*.azure.com/*", "api.openai.com/gpt-4o*"], [], None):
        assert (await asked("PUT", models=models)).status_code == 200
        assert (await asked("GET")).json() == {"models": models}
    for wrong in (["gpt-4o"], ["HOST/x"], ["h/x\n"], ["h/x"] * 501):
        assert (await asked("PUT", models=wrong)).status_code == 422
    assert (await asked("GET", "/v1/tenants/nobody/models")).status_code == 404
    await asked("DELETE", "/v1/tenants/narrow")


@pytest.mark.parametrize("name", ["Big", "a", "a--b", "-a", "a_b", "platform", "postgres", "a" * 33, "ü", 'x";--'])
async def test_a_name_that_is_none_is_refused(tenants: Runtime, name: str) -> None:
    answer = await create(tenants, name)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize("role", ["admin", "member", "viewer"])
@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/tenants"),
        ("DELETE", "/v1/tenants/other"),
        ("GET", "/v1/tenants/other/models"),
        ("PUT", "/v1/tenants/other/models"),
        ("POST", "/v1/tenants/other/move"),
        ("DELETE", "/v1/tenants/other/move"),
    ],
)
async def test_only_operators_see_or_change_tenants(
    tenants: Runtime,
    tenant: TenantId,
    other_tenant: TenantId,
    registry: TenantRegistry,
    role: str,
    method: str,
    path: str,
) -> None:
    answer = await tenants.call(method, path, tenant=tenant, role=role)
    assert answer.status_code == 403
    assert (await registry.get(other_tenant)).state == "ready"


async def test_a_tenant_that_is_being_deleted_cannot_be_created(tenants: Runtime, registry: TenantRegistry) -> None:
    tenant = TenantId("going")
    await registry.create(tenant)
    await saga.close_doors(registry.ground, tenant)
    answer = await create(tenants, "going")
    assert (answer.status_code, answer.json()["code"]) == (409, "conflict")
    await registry.delete(tenant)


async def test_deleting_an_unknown_tenant_is_not_found(tenants: Runtime) -> None:
    answer = await tenants.call("DELETE", "/v1/tenants/nobody-here", tenant=PLATFORM, role="operator")
    assert answer.status_code == 404


@pytest.fixture
async def spread_tenants(spread: Process) -> AsyncIterator[Runtime]:
    """The function in a process that knows two PostgreSQL servers."""
    async with serving_function("governance-tenants", spread.settings) as runtime:
        yield runtime


async def order(tenants: Runtime, method: str, path: str, body: object = None, **headers: str) -> httpx.Response:
    """A call of an operator."""
    tokens = await tenants.application.process.get(Tokens)
    token = tokens.mint(Caller(PLATFORM, "test", "operator", "key"), audience=tenants.function)
    return await tenants.client.request(
        method, path, json=body, headers={"authorization": f"Bearer {token}", **headers}
    )


async def deliver(tenants: Runtime, event: CloudEvent) -> int:
    tokens = await tenants.application.process.get(Tokens)
    headers, body = to_http(tokens.sign_event(event))
    return (await tenants.client.post("/events/governance-tenants", content=body, headers=headers)).status_code


async def test_a_move_is_asked_for_by_http_and_carried_out_by_its_event(
    spread_tenants: Runtime, control: ControlDatabase
) -> None:
    tenant = TenantId("moved-by-http")
    made = await order(spread_tenants, "POST", "/v1/tenants", {"name": tenant, "server": "default"})
    assert (made.status_code, made.json()["server"]) == (201, "default")
    once = {"idempotency-key": "move-once"}
    asked = await order(spread_tenants, "POST", f"/v1/tenants/{tenant}/move", {"server": "second"}, **once)
    assert asked.status_code == 202
    assert (asked.json()["state"], asked.json()["moving_to"]) == ("moving", "second")
    again = await order(spread_tenants, "POST", f"/v1/tenants/{tenant}/move", {"server": "second"}, **once)
    assert (again.json(), again.headers["idempotent-replay"]) == (asked.json(), "true")
    elsewhere = await order(spread_tenants, "POST", f"/v1/tenants/{tenant}/move", {"server": "default"})
    assert (elsewhere.status_code, "--cancel" in elsewhere.json()["detail"]) == (409, True)
    assert await deliver(spread_tenants, moving.asked(tenant)) == 204
    moved = (await order(spread_tenants, "GET", f"/v1/tenants/{tenant}")).json()
    assert (moved["state"], moved["server"], moved["leftover"]) == ("ready", "second", None)
    rows = await control.fetch("SELECT record FROM audit_outbox WHERE tenant = $1", PLATFORM)
    records = [bytes(row["record"]) for row in rows if f"tenant/{tenant}".encode() in bytes(row["record"])]
    assert [sum(action in record for record in records) for action in (b"move_tenant", b"tenancy.move")] == [1, 1]
    too_late = await order(spread_tenants, "DELETE", f"/v1/tenants/{tenant}/move")
    assert (too_late.status_code, too_late.json()["code"]) == (409, "conflict")
    await order(spread_tenants, "DELETE", f"/v1/tenants/{tenant}")


async def test_a_move_is_called_off_by_http(spread_tenants: Runtime) -> None:
    tenant = TenantId("stays-by-http")
    await order(spread_tenants, "POST", "/v1/tenants", {"name": tenant})
    await order(spread_tenants, "POST", f"/v1/tenants/{tenant}/move", {"server": "second"})
    off = await order(spread_tenants, "DELETE", f"/v1/tenants/{tenant}/move")
    assert (off.status_code, off.json()["moving_to"]) == (202, "default")
    assert await deliver(spread_tenants, moving.asked(tenant)) == 204
    stayed = (await order(spread_tenants, "GET", f"/v1/tenants/{tenant}")).json()
    assert (stayed["state"], stayed["server"], stayed["moving_to"]) == ("ready", "default", None)
    await order(spread_tenants, "DELETE", f"/v1/tenants/{tenant}")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/v1/tenants", {"name": "on-no-server", "server": "third"}),
        ("POST", "/v1/tenants/other/move", {"server": "third"}),
        ("POST", "/v1/tenants/other/move", {"server": ""}),
    ],
)
async def test_an_unknown_server_is_refused_naming_those_there_are(
    spread_tenants: Runtime, other_tenant: TenantId, method: str, path: str, body: dict[str, str]
) -> None:
    answer = await order(spread_tenants, method, path, body)
    assert (answer.status_code, "default, second" in answer.json()["detail"]) == (422, True)


async def test_an_unknown_tenant_is_not_moved(spread_tenants: Runtime) -> None:
    for method, body in (("POST", {"server": "second"}), ("DELETE", None)):
        answer = await order(spread_tenants, method, "/v1/tenants/nobody-here/move", body)
        assert answer.status_code == 404


async def test_a_tenants_own_event_moves_nobody(spread_tenants: Runtime, control: ControlDatabase) -> None:
    """Who can write to its tenant's outbox can have any event of that tenant signed."""
    tenant = "stays-put"
    await order(spread_tenants, "POST", "/v1/tenants", {"name": tenant})
    await order(spread_tenants, "POST", f"/v1/tenants/{tenant}/move", {"server": "second"})
    forged = replace(moving.asked(TenantId(tenant)), tenant=TenantId("acme"))

    assert await deliver(spread_tenants, forged) == 204

    row = (await order(spread_tenants, "GET", f"/v1/tenants/{tenant}")).json()
    assert (row["state"], row["server"]) == ("moving", "default")
    reason = await control.fetchval("SELECT reason FROM dead_letters WHERE event_id = $1", forged.id)
    assert reason == "forbidden: a tenant's event moves nobody"
    await order(spread_tenants, "DELETE", f"/v1/tenants/{tenant}/move")
    await deliver(spread_tenants, moving.asked(TenantId(tenant)))
    await order(spread_tenants, "DELETE", f"/v1/tenants/{tenant}")
