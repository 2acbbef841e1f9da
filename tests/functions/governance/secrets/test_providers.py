"""Provider credentials over HTTP: written, never shown, each tenant's own."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping

import httpx
import pytest

from shared.errors import Fault
from shared.identity import Caller, Tokens
from shared.ids import TenantId
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.runtime import Runtime, serving_function

PATH = "/v1/secrets/providers"
KEY = "sk-canary-0123456789"


@pytest.fixture
async def secrets(settings: Settings) -> AsyncIterator[Runtime]:
    async with serving_function("governance-secrets", settings) as runtime:
        yield runtime


async def put(
    secrets: Runtime, name: str, tenant: TenantId, *, role: str = "admin", changed: Mapping[str, object] = {}
) -> httpx.Response:
    tokens = await secrets.application.process.get(Tokens)
    token = tokens.mint(Caller(tenant, "test", role, "key"), audience=secrets.function)
    provider = {
        "base_url": "https://api.example.com/v1/",
        "api_key": KEY,
        "models": ["gpt-x"],
        "check": False,
        **changed,
    }
    return await secrets.client.put(f"{PATH}/{name}", json=provider, headers={"authorization": f"Bearer {token}"})


async def test_a_providers_key_is_sealed_and_never_shown(
    secrets: Runtime, tenant: TenantId, registry: TenantRegistry
) -> None:
    answers = [
        await put(secrets, "openai", tenant),
        await secrets.call("GET", f"{PATH}/openai", tenant=tenant, role="admin"),
        await secrets.call("GET", PATH, tenant=tenant, role="admin"),
    ]
    assert [one.status_code for one in answers] == [200, 200, 200]
    assert all(KEY not in one.text for one in answers)
    assert answers[1].json()["base_url"] == "https://api.example.com/v1"
    database = await registry.database(tenant)
    sealed = bytes(await database.fetchval("SELECT sealed FROM provider_credentials WHERE name = 'openai'"))
    assert KEY.encode() not in sealed
    assert await (await registry.secrets(tenant)).open("provider:openai", sealed) == KEY.encode()


async def test_a_key_sealed_for_one_tenant_does_not_open_for_another(
    secrets: Runtime, tenant: TenantId, other_tenant: TenantId, registry: TenantRegistry
) -> None:
    await put(secrets, "mine", tenant)
    sealed = await (await registry.database(tenant)).fetchval(
        "SELECT sealed FROM provider_credentials WHERE name = 'mine'"
    )
    with pytest.raises(Fault):
        await (await registry.secrets(other_tenant)).open("provider:mine", bytes(sealed))


async def test_a_provider_is_replaced_under_its_name(
    secrets: Runtime, tenant: TenantId, registry: TenantRegistry
) -> None:
    await put(secrets, "twice", tenant)
    await put(secrets, "twice", tenant, changed={"api_key": "sk-second"})
    rows = await (await registry.database(tenant)).fetch("SELECT sealed FROM provider_credentials WHERE name = 'twice'")
    opened = [await (await registry.secrets(tenant)).open("provider:twice", bytes(row["sealed"])) for row in rows]
    assert opened == [b"sk-second"]


async def test_anothers_provider_is_as_unknown_as_none(
    secrets: Runtime, tenant: TenantId, other_tenant: TenantId
) -> None:
    await put(secrets, "private", tenant)
    for method in ("GET", "DELETE"):
        foreign = await secrets.call(method, f"{PATH}/private", tenant=other_tenant, role="admin")
        unknown = await secrets.call(method, f"{PATH}/unknown", tenant=other_tenant, role="admin")
        assert (foreign.status_code, unknown.status_code) == (404, 404)
    assert "private" not in (await secrets.call("GET", PATH, tenant=other_tenant, role="admin")).text
    assert (await secrets.call("GET", f"{PATH}/private", tenant=tenant, role="admin")).status_code == 200


async def test_a_deleted_provider_is_gone(secrets: Runtime, tenant: TenantId) -> None:
    await put(secrets, "short", tenant)
    statuses = [
        (await secrets.call(method, f"{PATH}/short", tenant=tenant, role="admin")).status_code
        for method in ("DELETE", "GET", "DELETE")
    ]
    assert statuses == [204, 404, 404]


@pytest.mark.parametrize("role", ["member", "viewer"])
@pytest.mark.parametrize("method", ["GET", "DELETE"])
async def test_only_an_admin_sees_or_deletes_a_provider(
    secrets: Runtime, tenant: TenantId, role: str, method: str
) -> None:
    answer = await secrets.call(method, f"{PATH}/openai", tenant=tenant, role=role)
    assert answer.status_code == 403


@pytest.mark.parametrize("role", ["member", "viewer"])
async def test_only_an_admin_stores_a_provider(secrets: Runtime, tenant: TenantId, role: str) -> None:
    assert (await put(secrets, "openai", tenant, role=role)).status_code == 403


@pytest.mark.parametrize(
    "changed",
    [
        {"base_url": "ftp://example.com"},
        {"base_url": "https://user:pw@example.com/v1"},
        {"base_url": "https://example.com/v1?key=x"},
        {"base_url": "https:///v1"},
        {"base_url": "https://:pw@example.com/v1"},
        {"base_url": "https://example.com/v1?"},
        {"base_url": "https://example.com/v1#x"},
        {"base_url": "https://example.com:99999/v1"},
        {"base_url": "https://exämple.com/v1"},
        {"base_url": "https://example.com/v1\n"},
        {"base_url": "http://[::1/v1"},
        {"kind": "openai", "api_key": ""},
        {"kind": "groq", "api_key": " \n"},
        {"api_key": f"{KEY}\r\nx: y"},
        {"api_key": f"{KEY}ü"},
        {"api_key": f"{KEY}\u0000"},
        {"models": []},
        {"kind": "telepathy"},
    ],
)
async def test_an_unusable_provider_is_refused_without_repeating_its_key(
    secrets: Runtime, tenant: TenantId, changed: dict[str, object]
) -> None:
    answer = await put(secrets, "bad", tenant, changed=changed)
    assert answer.status_code == 422
    assert KEY not in answer.text


async def test_what_comes_along_when_a_key_is_pasted_is_taken_off(
    secrets: Runtime, tenant: TenantId, registry: TenantRegistry
) -> None:
    await put(secrets, "pasted", tenant, changed={"api_key": f" {KEY}\r\n"})
    sealed = await (await registry.database(tenant)).fetchval(
        "SELECT sealed FROM provider_credentials WHERE name = 'pasted'"
    )
    assert await (await registry.secrets(tenant)).open("provider:pasted", bytes(sealed)) == KEY.encode()


@pytest.mark.parametrize("models", [["a\u0000b"], ["\ud800"]], ids=["U+0000", "lone surrogate"])
async def test_a_model_name_that_cannot_be_stored_is_refused(
    secrets: Runtime, tenant: TenantId, models: list[str]
) -> None:
    tokens = await secrets.application.process.get(Tokens)
    token = tokens.mint(Caller(tenant, "test", "admin", "key"), audience=secrets.function)
    provider = {"base_url": "https://api.example.com/v1", "api_key": KEY, "models": models, "check": False}
    headers = {"authorization": f"Bearer {token}", "content-type": "application/json"}
    answer = await secrets.client.put(f"{PATH}/bad", content=json.dumps(provider), headers=headers)
    assert answer.status_code in (400, 422)


async def test_a_name_that_is_none_is_refused(secrets: Runtime, tenant: TenantId) -> None:
    answer = await put(secrets, "Open_AI", tenant)
    assert answer.status_code == 422
