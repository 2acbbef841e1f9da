"""Tenants over HTTP: for operators, created once, deleted for good."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest

from shared.identity import Caller, Tokens
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry, saga
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


@pytest.mark.parametrize("name", ["Big", "a", "a--b", "-a", "a_b", "platform", "postgres", "a" * 33, "ü", 'x";--'])
async def test_a_name_that_is_none_is_refused(tenants: Runtime, name: str) -> None:
    answer = await create(tenants, name)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")


@pytest.mark.parametrize("role", ["admin", "member", "viewer"])
@pytest.mark.parametrize(("method", "path"), [("GET", "/v1/tenants"), ("DELETE", "/v1/tenants/other")])
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
