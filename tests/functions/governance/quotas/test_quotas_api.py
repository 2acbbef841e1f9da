"""Quotas over HTTP: who may set them, how they stand, and that nobody escapes them."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import httpx
import pytest

from shared.function.app import build
from shared.function.catalog import select
from shared.function.process import Process
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from tests.fixtures.platform import key_for

Headers = dict[str, str]
MONTHLY: dict[str, Any] = {  # Any: JSON
    "scope": "tenant",
    "metric": "micro_usd",
    "amount": 5_000_000,
    "window": "month",
}


@asynccontextmanager
async def functions(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    application = build(select(("governance-keys", "governance-quotas")), settings)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://platform") as client:
        yield client
    await application.process.close()


@pytest.fixture
async def client(settings: Settings, control: ControlDatabase) -> AsyncIterator[httpx.AsyncClient]:
    async with functions(settings) as client:
        yield client
    await control.execute("DELETE FROM quotas")


@pytest.fixture
async def admin(process: Process, tenant: TenantId) -> Headers:
    return bearer(await key_for(process, tenant))


@pytest.fixture
async def operator(process: Process) -> Headers:
    return bearer(await key_for(process, PLATFORM, "operator"))


def bearer(key: str) -> Headers:
    return {"authorization": f"Bearer {key}"}


async def made(client: httpx.AsyncClient, headers: Headers, path: str = "/v1/quotas", **body: Any) -> Any:  # Any: JSON
    answer = await client.post(path, json=body, headers=headers)
    assert answer.status_code == 201, answer.text
    return answer.json()


async def listed(client: httpx.AsyncClient, headers: Headers) -> list[Any]:  # Any: JSON
    answer = await client.get("/v1/quotas", headers=headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["quotas"])


async def test_a_quota_is_set_listed_changed_and_taken_away(client: httpx.AsyncClient, admin: Headers) -> None:
    quota = await made(client, admin, **MONTHLY)
    assert (quota["window"], quota["hard"], quota["by_operator"]) == ("calendar:month", True, False)
    (standing,) = await listed(client, admin)
    assert (standing["used"], standing["reserved"], standing["resets_at"][8:10]) == (0, 0, "01")
    changed = await client.patch(f"/v1/quotas/{quota['id']}", json={"amount": 7}, headers=admin)
    assert changed.json()["amount"] == 7
    assert (await client.delete(f"/v1/quotas/{quota['id']}", headers=admin)).status_code == 204
    assert await listed(client, admin) == []


@pytest.mark.parametrize(
    ("asked", "window"),
    [
        ({"metric": "requests", "window": "minute"}, "rolling:60"),
        ({"metric": "tokens", "window": "hour"}, "rolling:3600"),
        ({"metric": "tokens", "window": "day"}, "calendar:day"),
        ({"metric": "micro_usd", "window": "minute"}, "calendar:minute"),
        ({"metric": "micro_usd", "window": "month", "rolling": True}, "rolling:2592000"),
        ({"metric": "requests", "window": "minute", "rolling": False}, "calendar:minute"),
        ({"metric": "parallel"}, "ever"),
        ({"metric": "tokens", "window": "ever"}, "ever"),
    ],
)
async def test_rates_roll_and_budgets_go_by_the_calendar(
    client: httpx.AsyncClient, admin: Headers, asked: dict[str, Any], window: str
) -> None:
    assert (await made(client, admin, scope="tenant", amount=1, **asked))["window"] == window


@pytest.mark.parametrize(
    ("body", "status"),
    [
        ({**MONTHLY, "amount": -1}, 422),
        ({**MONTHLY, "amount": 2**53}, 422),
        ({**MONTHLY, "metric": "euros"}, 422),
        ({**MONTHLY, "window": "fortnight"}, 422),
        ({**MONTHLY, "window": "ever", "rolling": True}, 422),
        ({**MONTHLY, "name": "x"}, 422),
        ({**MONTHLY, "scope": "model"}, 422),
        ({**MONTHLY, "scope": "tag", "name": "no tag"}, 422),
        ({**MONTHLY, "scope": "tag", "name": "key:abc"}, 422),
        ({**MONTHLY, "scope": "key", "name": "unknownunknown"}, 404),
    ],
)
async def test_what_is_no_quota_is_refused(
    client: httpx.AsyncClient, admin: Headers, body: dict[str, Any], status: int
) -> None:
    assert (await client.post("/v1/quotas", json=body, headers=admin)).status_code == status
    assert await listed(client, admin) == []


async def test_two_quotas_alike_are_one_too_many(client: httpx.AsyncClient, admin: Headers) -> None:
    await made(client, admin, **MONTHLY)
    assert (await client.post("/v1/quotas", json=MONTHLY, headers=admin)).status_code == 409


async def test_an_operators_quota_is_seen_and_not_touched_by_the_tenant(
    client: httpx.AsyncClient, admin: Headers, operator: Headers, tenant: TenantId
) -> None:
    quota = await made(client, operator, f"/v1/quotas?tenant={tenant}", **MONTHLY)
    assert [one["id"] for one in await listed(client, admin)] == [quota["id"]]
    path = f"/v1/quotas/{quota['id']}"
    assert (await client.patch(path, json={"amount": 10**9}, headers=admin)).status_code == 403
    assert (await client.delete(path, headers=admin)).status_code == 403
    assert (await client.delete(f"{path}?tenant={tenant}", headers=operator)).status_code == 204


async def test_another_tenants_quotas_do_not_exist(
    client: httpx.AsyncClient, admin: Headers, process: Process, tenant: TenantId, other_tenant: TenantId
) -> None:
    quota = await made(client, admin, **MONTHLY)
    stranger = bearer(await key_for(process, other_tenant))
    assert await listed(client, stranger) == []
    path = f"/v1/quotas/{quota['id']}"
    for asked in (f"{path}?tenant={tenant}", path):
        assert (await client.patch(asked, json={"amount": 1}, headers=stranger)).status_code == 404
    assert (await client.get(f"/v1/quotas?tenant={tenant}", headers=stranger)).status_code == 404


async def test_a_key_is_made_with_its_limits_and_tags(client: httpx.AsyncClient, admin: Headers) -> None:
    limits = [{"metric": "micro_usd", "amount": 5_000_000}, {"metric": "requests", "amount": 60, "window": "minute"}]
    key = await made(client, admin, "/v1/keys", limits=limits, tags=["research", "q4", "q4"])
    assert key["tags"] == ["q4", "research"]
    found = [(one["scope"], one["name"], one["metric"], one["window"]) for one in await listed(client, admin)]
    assert found == [
        ("key", key["id"], "micro_usd", "calendar:month"),
        ("key", key["id"], "requests", "rolling:60"),
    ]


@pytest.mark.parametrize("tags", [["key:abcdefghijkl"], ["Big"], [""], ["x" * 64], ["a b"]])
async def test_tags_that_are_none_are_refused(client: httpx.AsyncClient, admin: Headers, tags: list[str]) -> None:
    assert (await client.post("/v1/keys", json={"tags": tags}, headers=admin)).status_code == 422


async def test_a_limited_key_makes_no_keys_and_changes_no_quotas(client: httpx.AsyncClient, admin: Headers) -> None:
    limit = {"metric": "requests", "amount": 5, "window": "day"}
    limited = await made(client, admin, "/v1/keys", role="admin", limits=[limit], tags=[secrets.token_hex(4)])
    headers = bearer(limited["key"])
    (quota,) = await listed(client, headers)
    assert (await client.post("/v1/keys", json={}, headers=headers)).status_code == 403
    assert (await client.post("/v1/quotas", json=MONTHLY, headers=headers)).status_code == 403
    assert (await client.delete(f"/v1/quotas/{quota['id']}", headers=headers)).status_code == 403
    rotated = await client.post(f"/v1/keys/{limited['id']}/rotate", json={}, headers=headers)
    assert (await client.post("/v1/keys", json={}, headers=bearer(rotated.json()["key"]))).status_code == 403


async def test_a_rotated_key_stays_under_the_limits_of_the_first(client: httpx.AsyncClient, admin: Headers) -> None:
    limit = {"metric": "requests", "amount": 5, "window": "day"}
    first = await made(client, admin, "/v1/keys", limits=[limit])
    second = await made(client, admin, f"/v1/keys/{first['id']}/rotate")
    third = await made(client, admin, f"/v1/keys/{second['id']}/rotate")
    assert (second["tags"], third["tags"]) == ([f"key:{first['id']}"], [f"key:{first['id']}"])
    more = await made(client, admin, scope="key", name=third["id"], metric="parallel", amount=1)
    assert more["name"] == first["id"]


async def test_limits_of_members_and_groups_are_set_by_name_in_lower_case(
    client: httpx.AsyncClient, admin: Headers
) -> None:
    member = await made(client, admin, scope="member", name="Ana@Example.com", metric="parallel", amount=1)
    group = await made(client, admin, scope="group", name="research", metric="parallel", amount=1)
    assert (member["name"], group["name"]) == ("ana@example.com", "research")
    for name in ("two words", "key:x", "x" * 101):
        answer = await client.post(
            "/v1/quotas", json={"scope": "member", "name": name, "metric": "parallel", "amount": 1}, headers=admin
        )
        assert answer.status_code in (400, 422), name


async def test_a_key_tells_whose_it_is_and_keeps_that_when_rotated(client: httpx.AsyncClient, admin: Headers) -> None:
    key = await made(client, admin, "/v1/keys", member="ana@example.com", groups=["b", "a"], tags=["t"])
    assert (key["member"], key["groups"], key["tags"]) == ("ana@example.com", ["a", "b"], ["t"])
    turned = await made(client, admin, f"/v1/keys/{key['id']}/rotate")
    assert (turned["member"], turned["groups"]) == ("ana@example.com", ["a", "b"])
    given = await client.put(f"/v1/keys/{turned['id']}/owner", json={"member": "ben"}, headers=admin)
    assert given.status_code == 200
    assert (given.json()["member"], given.json()["groups"]) == ("ben", [])
    assert given.json()["tags"] == ["t", f"key:{key['id']}"]


async def test_nobody_gives_a_key_of_another_tenant_or_names_an_owner_by_a_tag(
    client: httpx.AsyncClient, admin: Headers
) -> None:
    assert (await client.put("/v1/keys/abcdefghijkl/owner", json={"member": "ben"}, headers=admin)).status_code == 404
    forged = await client.post("/v1/keys", json={"tags": ["member:ben"]}, headers=admin)
    assert forged.status_code in (400, 422)


@pytest.mark.parametrize(("scope", "name"), [("member", "ana"), ("group", "research")])
async def test_a_key_whose_member_or_group_is_limited_changes_neither_keys_nor_quotas(
    client: httpx.AsyncClient, admin: Headers, scope: str, name: str
) -> None:
    await made(client, admin, scope=scope, name=name, metric="parallel", amount=1)
    key = await made(client, admin, "/v1/keys", role="admin", member="ana", groups=["research"])
    headers = bearer(key["key"])
    asked = {
        "/v1/keys": await client.post("/v1/keys", json={}, headers=headers),
        "/v1/quotas": await client.post("/v1/quotas", json=MONTHLY, headers=headers),
        "owner": await client.put(f"/v1/keys/{key['id']}/owner", json={"member": "ben"}, headers=headers),
    }
    assert {path: answer.status_code for path, answer in asked.items()} == dict.fromkeys(asked, 403)
