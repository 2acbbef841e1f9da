"""A tenant's own prices over HTTP: who may set them, what is one, and that nobody escapes a budget by them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
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
Json = Any  # Any: JSON
CARD: Json = {"input": "2.5", "output": "10"}
PATH = "/v1/prices/gpt-4o?since=2026-11-01"


@pytest.fixture
async def client(settings: Settings, control: ControlDatabase) -> AsyncIterator[httpx.AsyncClient]:
    application = build(select(("governance-prices", "governance-quotas", "governance-keys")), settings)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://platform") as client:
        yield client
    await application.process.close()
    for table in ("own_prices", "quotas"):
        await control.execute(f"DELETE FROM {table}")


def bearer(key: str) -> Headers:
    return {"authorization": f"Bearer {key}"}


@pytest.fixture
async def admin(process: Process, tenant: TenantId) -> Headers:
    return bearer(await key_for(process, tenant))


@pytest.fixture
async def operator(process: Process) -> Headers:
    return bearer(await key_for(process, PLATFORM, "operator"))


async def put(client: httpx.AsyncClient, headers: Headers, path: str = PATH, *cards: Json) -> Json:
    answer = await client.put(path, json={"cards": list(cards) or [CARD]}, headers=headers)
    assert answer.status_code == 200, answer.text
    return answer.json()


async def listed(client: httpx.AsyncClient, headers: Headers) -> list[Json]:
    answer = await client.get("/v1/prices", headers=headers)
    assert answer.status_code == 200, answer.text
    return list(answer.json()["prices"])


def told(card: Json) -> Json:
    return {name: value for name, value in card.items() if value is not None}


async def test_a_price_is_set_listed_replaced_and_taken_away(client: httpx.AsyncClient, admin: Headers) -> None:
    await put(client, admin)
    await put(client, admin, "/v1/prices/house/big-model?since=2026-12-01", CARD | {"cached": 0.123456})
    first, second = await listed(client, admin)
    assert (first["model"], first["since"], first["by_operator"]) == ("gpt-4o", "2026-11-01", False)
    assert told(first["cards"][0]) == {"tier": "standard", "above": 0, "input": "2.5", "output": "10"}
    assert (second["model"], second["cards"][0]["cached"]) == ("house/big-model", "0.123456")
    await put(client, admin, PATH, {"input": 0, "output": 0})
    assert [one["cards"][0]["input"] for one in await listed(client, admin)] == ["0", "2.5"]
    assert (await client.delete(PATH, headers=admin)).status_code == 204
    assert (await client.delete(PATH, headers=admin)).status_code == 404
    assert [one["model"] for one in await listed(client, admin)] == ["house/big-model"]


async def test_tiers_lengths_and_kinds_of_tokens_are_kept_exactly(client: httpx.AsyncClient, admin: Headers) -> None:
    cards: list[Json] = [
        {"tier": "batch", "above": 0, "input": "1.25", "output": "5"},
        {"tier": "standard", "above": 200_000, "input": "5", "output": "15", "reasoning": "20"},
        {"tier": "standard", "above": 0, "input": "2.5", "output": "10", "cached": "1.25", "written_5m": "3.125",
         "written_1h": "5", "audio_input": "40", "image_input": "3", "reasoning": "12", "audio_output": "80",
         "image_output": "30"},
    ]  # fmt: skip
    price = await put(client, admin, PATH, *cards)
    assert [told(card) for card in price["cards"]] == [cards[2], cards[1], cards[0]]
    (price,) = await listed(client, admin)
    assert [told(card) for card in price["cards"]] == [cards[2], cards[1], cards[0]]


@pytest.mark.parametrize(
    ("cards", "says"),
    [
        ([], "at least 1"),
        ([{"input": "1"}], "output"),
        ([CARD | {"input": "-1"}], "greater than or equal to 0"),
        ([CARD | {"input": "1000.1"}], "less than or equal to 1000"),
        ([CARD | {"input": "0.0000001"}], "6 decimal places"),
        ([CARD | {"input": "NaN"}], "finite number"),
        ([CARD | {"video": "1"}], "Extra inputs"),
        ([CARD | {"tier": "overnight"}], "'batch'"),
        ([CARD | {"tier": "batch"}], "no card for tier 'standard'"),
        ([CARD | {"above": 200_000}], "no card for tier 'standard'"),
        ([CARD, CARD], "two cards of tier 'standard'"),
    ],
)
async def test_what_is_no_price_is_refused_with_its_flaw(
    client: httpx.AsyncClient, admin: Headers, cards: list[Json], says: str
) -> None:
    answer = await client.put(PATH, json={"cards": cards}, headers=admin)
    assert (answer.status_code, says in json.dumps(answer.json()).replace('\\"', '"')) == (422, True), answer.text
    assert await listed(client, admin) == []


@pytest.mark.parametrize("path", ["/v1/prices/a%20b", "/v1/prices/a%09b", "/v1/prices/gpt-4o?since=2099-01-01"])
async def test_names_and_days_that_are_none_are_refused(client: httpx.AsyncClient, admin: Headers, path: str) -> None:
    assert (await client.put(path, json={"cards": [CARD]}, headers=admin)).status_code == 422


async def test_only_administrators_see_and_set_prices(
    client: httpx.AsyncClient, process: Process, tenant: TenantId, other_tenant: TenantId, admin: Headers
) -> None:
    member = bearer(await key_for(process, tenant, "member"))
    assert (await client.put(PATH, json={"cards": [CARD]}, headers=member)).status_code == 403
    assert (await client.get("/v1/prices", headers=member)).status_code == 403
    await put(client, admin)
    stranger = bearer(await key_for(process, other_tenant))
    assert await listed(client, stranger) == []
    assert (await client.delete(f"{PATH}&tenant={tenant}", headers=stranger)).status_code == 404
    assert (await client.get(f"/v1/prices?tenant={tenant}", headers=stranger)).status_code == 404


async def test_an_operators_price_is_seen_and_not_touched_by_the_tenant(
    client: httpx.AsyncClient, admin: Headers, operator: Headers, tenant: TenantId
) -> None:
    await put(client, operator, f"{PATH}&tenant={tenant}")
    assert [one["by_operator"] for one in await listed(client, admin)] == [True]
    assert (await client.put(PATH, json={"cards": [CARD]}, headers=admin)).status_code == 403
    assert (await client.delete(PATH, headers=admin)).status_code == 403
    assert (await client.delete(f"{PATH}&tenant={tenant}", headers=operator)).status_code == 204


async def test_nobody_who_is_limited_sets_what_the_limit_counts(
    client: httpx.AsyncClient, admin: Headers, operator: Headers, tenant: TenantId
) -> None:
    limits = [{"metric": "micro_usd", "amount": 5}]
    key = (await client.post("/v1/keys", json={"role": "admin", "limits": limits}, headers=admin)).json()["key"]
    assert (await client.put(PATH, json={"cards": [CARD]}, headers=bearer(key))).status_code == 403
    await put(client, admin)
    budget = {"scope": "tenant", "metric": "micro_usd", "amount": 5}
    assert (await client.post(f"/v1/quotas?tenant={tenant}", json=budget, headers=operator)).status_code == 201
    for refused in (
        await client.put(PATH, json={"cards": [CARD]}, headers=admin),
        await client.delete(PATH, headers=admin),
    ):
        assert refused.status_code == 403
        assert "operators set its prices" in refused.json()["detail"]
    await put(client, operator, f"{PATH}&tenant={tenant}", {"input": 1, "output": 1})


async def test_a_change_is_audited_with_what_it_was_before(
    client: httpx.AsyncClient, admin: Headers, control: ControlDatabase, tenant: TenantId
) -> None:
    await put(client, admin)
    await put(client, admin, PATH, {"input": 3, "output": 9})
    kept = await control.fetch("SELECT record FROM audit_outbox WHERE tenant = $1", tenant)
    record = max((json.loads(row["record"]) for row in kept), key=lambda record: record["at"])
    assert (record["resource"], record["details"]["since"]) == ("price/gpt-4o", "2026-11-01")
    assert record["details"]["before"] == "standard input=2500000 output=10000000"
    assert record["details"]["now"] == "standard input=3000000 output=9000000"
