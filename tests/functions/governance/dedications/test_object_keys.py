"""Dedicating what works with objects: the key of the bucket is made with the wish, or the wish is refused."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import replace
from secrets import token_hex
from typing import Any

import pytest

from shared.ids import PLATFORM, TenantId
from shared.object_keys import Iam
from shared.objects import ObjectKey, bucket_of
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.runtime import serving_function

DOCUMENTS = "knowledge-documents"


@pytest.fixture
async def fresh(registry: TenantRegistry) -> AsyncIterator[TenantId]:
    tenant = (await registry.create(f"wished-{token_hex(4)}")).id
    yield tenant
    await registry.delete(tenant)


async def asked(
    settings: Settings, function: str, method: str, path: str, *, role: str = "operator", **body: str
) -> tuple[int, Any]:
    """The status and the document of one call of a function that has these settings."""
    async with serving_function(function, settings) as runtime:
        tenant = PLATFORM if role == "operator" else "acme"
        answer = await runtime.call(method, path, tenant=tenant, role=role, content=json.dumps(body).encode())
        return answer.status_code, answer.json() if answer.content else None


async def wished(settings: Settings, tenant: TenantId, function: str = DOCUMENTS) -> tuple[int, Any]:
    return await asked(settings, "governance-dedications", "PUT", f"/v1/dedications/{tenant}/{function}")


async def brought(settings: Settings, tenant: TenantId, key: ObjectKey, role: str = "operator") -> tuple[int, Any]:
    path = f"/v1/tenants/{tenant}/objects-key"
    given = {"access_key": key.access_key, "secret_key": key.secret_key}
    return await asked(settings, "governance-tenants", "PUT", path, role=role, **given)


async def kept(registry: TenantRegistry, tenant: TenantId) -> ObjectKey | None:
    return (await registry.credentials(tenant, b"public")).object_key


async def audited(control: ControlDatabase) -> bytes:
    return b"".join(bytes(row["record"]) for row in await control.fetch("SELECT record FROM audit_outbox"))


def platform_key(settings: Settings) -> ObjectKey:
    return ObjectKey(settings.objects_access_key, settings.objects_secret_key)


async def test_the_first_wish_makes_the_key_the_second_finds_it_and_no_record_shows_it(
    settings: Settings, registry: TenantRegistry, control: ControlDatabase, fresh: TenantId
) -> None:
    assert (await wished(settings, fresh))[0] == 200
    first = await kept(registry, fresh)
    status, told = await wished(settings, fresh)

    assert (status, told["state"]) == (200, "asked")
    assert first is not None
    assert await kept(registry, fresh) == first
    assert first.secret_key not in json.dumps(told)
    assert first.secret_key.encode() not in await audited(control)


async def test_what_asks_for_no_objects_makes_no_key(
    settings: Settings, registry: TenantRegistry, fresh: TenantId
) -> None:
    assert (await wished(settings, fresh, "knowledge-search"))[0] == 200
    assert await kept(registry, fresh) is None


async def test_where_the_store_makes_none_the_wish_is_refused_until_a_key_is_brought(
    settings: Settings, registry: TenantRegistry, control: ControlDatabase, fresh: TenantId
) -> None:
    closed = replace(settings, objects_keys="")
    status, told = await wished(closed, fresh)
    assert (status, f"dcoder tenant objects-key {fresh}" in told["detail"]) == (409, True)
    assert not await control.fetchval("SELECT true FROM dedications WHERE tenant = $1", fresh)
    made = Iam(settings.objects_keys, platform_key(settings)).make(bucket_of(fresh))

    assert (await brought(closed, fresh, made))[0] == 204

    assert (await wished(closed, fresh))[0] == 200
    assert await kept(registry, fresh) == made
    records = await audited(control)
    assert b"governance-tenants.bring_objects_key" in records
    assert made.secret_key.encode() not in records


async def test_neither_the_platforms_own_key_nor_anything_from_a_tenants_admin_is_taken(
    settings: Settings, registry: TenantRegistry, fresh: TenantId
) -> None:
    made = Iam(settings.objects_keys, platform_key(settings)).make(bucket_of(fresh))

    status, told = await brought(settings, fresh, platform_key(settings))
    assert (status, "the platform's own key" in told["detail"]) == (422, True)
    assert settings.objects_secret_key not in json.dumps(told)
    assert (await brought(settings, fresh, made, role="admin"))[0] == 403
    assert (await brought(settings, TenantId("nobody"), made))[0] == 404
    assert await kept(registry, fresh) is None


async def test_a_refused_body_does_not_repeat_the_secret(settings: Settings, fresh: TenantId) -> None:
    secret = "hunter2" * 40
    status, told = await brought(settings, fresh, ObjectKey("name", secret))

    assert status == 422
    assert "hunter2" not in json.dumps(told)
