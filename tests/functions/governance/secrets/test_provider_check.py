"""A provider is asked once before it is stored, in the way of its kind."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from typing import get_args

import pytest

from shared.ids import TenantId
from shared.llm.kinds import KINDS, KindName
from shared.settings import Settings
from tests.fixtures.provider import Script, ScriptedProvider, error, serving_provider
from tests.fixtures.runtime import Runtime, serving_function
from tests.functions.governance.secrets.test_providers import KEY, PATH, put


@pytest.fixture
async def secrets(settings: Settings) -> AsyncIterator[Runtime]:
    async with serving_function("governance-secrets", replace(settings, private_provider_urls=True)) as runtime:
        yield runtime


@pytest.fixture
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with serving_provider() as provider:
        yield provider


async def stored(secrets: Runtime, tenant: TenantId) -> list[str]:
    answer = await secrets.call("GET", PATH, tenant=tenant, role="admin")
    return [one["name"] for one in answer.json()["providers"]]


@pytest.mark.parametrize(
    ("kind", "path", "header", "value"),
    [
        ("openai", "/v1/models", "authorization", f"Bearer {KEY}"),
        ("azure", "/v1/models", "api-key", KEY),
        ("google", "/v1/models", "authorization", f"Bearer {KEY}"),
        ("vllm", "/v1/models", "authorization", f"Bearer {KEY}"),
        ("anthropic", "/v1/v1/models", "x-api-key", KEY),
    ],
)
async def test_it_is_asked_for_its_models_with_the_key(
    secrets: Runtime, provider: ScriptedProvider, tenant: TenantId, kind: str, path: str, header: str, value: str
) -> None:
    asked = {"kind": kind, "base_url": provider.base_url, "check": True}
    assert (await put(secrets, kind, tenant, changed=asked)).status_code == 200
    (call,) = provider.calls
    assert (call.method, call.path, call.headers[header]) == ("GET", path, value)


@pytest.mark.parametrize(
    "script", [error(401), error(403), Script((), 302, (("location", "/x"), ("content-length", "0")))]
)
async def test_one_that_refuses_the_key_is_not_stored(
    secrets: Runtime, provider: ScriptedProvider, tenant: TenantId, script: Script
) -> None:
    provider.will(script)
    answer = await put(secrets, "refused", tenant, changed={"base_url": provider.base_url, "check": True})
    assert (answer.status_code, answer.json()["code"]) == (422, "provider_not_accepted")
    assert KEY not in answer.text
    assert "refused" not in await stored(secrets, tenant)


@pytest.mark.parametrize("status", [404, 405, 500])
async def test_one_without_that_route_is_stored(
    secrets: Runtime, provider: ScriptedProvider, tenant: TenantId, status: int
) -> None:
    provider.will(error(status))
    asked = {"base_url": provider.base_url, "check": True}
    assert (await put(secrets, "odd", tenant, changed=asked)).status_code == 200


async def test_one_that_does_not_answer_is_stored_only_unchecked(secrets: Runtime, tenant: TenantId) -> None:
    asked = {"base_url": "http://127.0.0.1:9/v1", "check": True}
    answer = await put(secrets, "away", tenant, changed=asked)
    assert (answer.status_code, "check" in answer.json()["detail"]) == (422, True)
    assert (await put(secrets, "away", tenant, changed=asked | {"check": False})).status_code == 200


async def test_nobody_is_asked_inside_the_network(
    settings: Settings, provider: ScriptedProvider, tenant: TenantId
) -> None:
    async with serving_function("governance-secrets", replace(settings, private_provider_urls=False)) as secrets:
        answer = await put(secrets, "inside", tenant, changed={"base_url": provider.base_url, "check": True})
    assert (answer.status_code, answer.json()["code"], provider.calls) == (400, "forbidden_address", [])


async def test_a_kind_brings_its_address_and_may_need_no_key(secrets: Runtime, tenant: TenantId) -> None:
    answer = await put(secrets, "groq", tenant, changed={"kind": "groq", "base_url": ""})
    assert answer.json()["base_url"] == "https://api.groq.com/openai/v1"
    local = {"kind": "vllm", "base_url": "http://127.0.0.1:8000/v1", "api_key": ""}
    assert (await put(secrets, "local", tenant, changed=local)).status_code == 200
    for lacking in ({"kind": "azure", "base_url": ""}, {"kind": "mistral", "api_key": ""}, {"kind": "cohere"}):
        assert (await put(secrets, "lacking", tenant, changed=lacking)).status_code == 422


def test_the_kinds_names_are_those_of_the_kinds() -> None:
    assert set(get_args(KindName)) == set(KINDS)
