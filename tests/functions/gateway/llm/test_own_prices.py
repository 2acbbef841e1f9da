"""What a call is charged at a tenant's own prices: in the header, the ledger and its reservation, in every process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from shared.function.app import Application
from shared.settings import Settings
from shared.usage.own_prices import REMEMBERED_S
from tests.fixtures.provider import Pause, completion, stream, usage
from tests.functions.gateway.conftest import Gateway, limit, make_key, question, serving
from tests.functions.gateway.llm.test_caching import put as switch_cache

USED = usage(1000, 100, cached=400)
COST, PRICE = "x-dcoder-cost-micro-usd", "x-dcoder-price"


@pytest.fixture
async def priced(gateway: Gateway) -> AsyncIterator[Gateway]:
    """A gateway whose own prices and limits go with the test."""
    yield gateway
    for table in ("own_prices", "quotas"):
        await gateway.control.execute(f"DELETE FROM {table} WHERE tenant = $1", gateway.tenant)
    await asyncio.sleep(REMEMBERED_S)


def today() -> date:
    return datetime.now(UTC).date()


async def put_price(gateway: Gateway, model: str, since: date | None = None, **card: Any) -> None:  # Any: JSON
    query = {"since": since.isoformat()} if since else {}
    answer = await gateway.client.put(f"/v1/prices/{model}", params=query, json={"cards": [card]})
    assert answer.status_code == 200, answer.text


async def in_force() -> None:
    await asyncio.sleep(REMEMBERED_S)


async def test_a_call_costs_what_the_tenant_pays_from_that_day_on(priced: Gateway) -> None:
    priced.provider.will(*(completion(used=USED) for _ in range(3)))
    published = await priced.chat()
    await put_price(priced, "gpt-4o-mini", today() - timedelta(days=1), input=100, output=1000, cached=10)
    await put_price(priced, "gpt-4o-mini", today() + timedelta(days=1), input=0, output=0)
    await in_force()
    own = await priced.chat()
    assert published.headers[PRICE].startswith("published; since=")
    assert own.headers[PRICE] == f"own; since={today() - timedelta(days=1)}"
    assert own.headers[COST] == str(600 * 100 + 400 * 10 + 100 * 1000)
    rows = await priced.ledger(2)
    assert [str(row["cost_micro_usd"]) for row in rows] == [published.headers[COST], own.headers[COST]]
    answer = await priced.client.delete("/v1/prices/gpt-4o-mini", params={"since": str(today() - timedelta(days=1))})
    assert answer.status_code == 204
    await in_force()
    again = await priced.chat()
    assert (again.headers[PRICE], again.headers[COST]) == (published.headers[PRICE], published.headers[COST])


async def test_a_price_for_one_provider_goes_before_the_one_for_all(priced: Gateway) -> None:
    priced.provider.will(completion(used=usage(10, 0)), completion(used=usage(10, 0)))
    await put_price(priced, "scripted/gpt-4o-mini", input=7, output=7)
    await put_price(priced, "gpt-4o-mini", input=5, output=5)
    await put_price(priced, "another/house-model", input=9, output=9)
    await in_force()
    assert (await priced.chat()).headers[COST] == "70"
    unknown = await priced.chat("house-model")
    assert (unknown.headers[PRICE], unknown.headers[COST]) == ("unknown", "unknown")


async def test_a_model_without_a_published_price_has_a_cost_and_fits_a_budget_once_it_has_one(priced: Gateway) -> None:
    key = await make_key(priced.application, priced.tenant)
    await limit(priced, scope="key", name=key.split("_")[1], metric="micro_usd", span="ever", amount=10**9)
    priced.provider.will(completion(used=usage(100, 10)))
    async with priced.with_key(key) as client:
        refused = await client.post("/v1/chat/completions", json=question("house-model"))
        assert (refused.status_code, refused.json()["error"]["code"]) == (403, "price_unknown")
        await put_price(priced, "house-model", input="0.5", output=1)
        await in_force()
        answer = await client.post("/v1/chat/completions", json=question("house-model"))
    assert (answer.status_code, answer.headers[COST]) == (200, "60")
    (row,) = await priced.ledger(1)
    assert (row["cost_micro_usd"], row["charged_micro_usd"], row["price_known"]) == (60, 60, True)


async def test_the_price_that_reserved_a_call_is_the_one_that_settles_it(priced: Gateway) -> None:
    """A price that is raised meanwhile must not charge more than what the budget was asked for."""
    await put_price(priced, "gpt-4o-mini", input=10, output=10)
    await in_force()
    slow = replace(completion(used=usage(100, 10)), before=(Pause(REMEMBERED_S + 0.4),))
    priced.provider.will(slow)
    asking = asyncio.create_task(priced.chat(max_tokens=10))
    await priced.ledger_open(1)
    await put_price(priced, "gpt-4o-mini", input=1000, output=1000)
    assert (await asking).headers[COST] == "1100"
    (row,) = await priced.ledger(1)
    assert row["cost_micro_usd"] == 1100


async def test_an_unknown_price_is_told_in_a_streams_head_the_ledger_and_the_usage(priced: Gateway) -> None:
    priced.provider.will(stream("x", used=(5, 2)))
    answer = await priced.chat("house-model", stream=True)
    assert answer.headers[PRICE] == "unknown"
    (row,) = await priced.ledger(1)
    assert (row["price_known"], row["cost_micro_usd"]) == (False, None)
    report = (await priced.client.get("/v1/usage", params={"by": "model"})).json()
    (group,) = [one for one in report["rows"] if one["group"] == "house-model"]
    assert group["calls_of_unknown_price"] >= 1


async def test_a_kept_answer_of_a_model_without_a_price_costs_nothing(priced: Gateway) -> None:
    await switch_cache(priced, enabled=True)
    try:
        await priced.chat("house-model")
        hit = await priced.chat("house-model")
        assert hit.headers["x-dcoder-cache"].startswith("hit")
        assert (hit.headers[COST], PRICE in hit.headers) == ("0", False)
    finally:
        await switch_cache(priced, enabled=False)


async def test_a_price_holds_in_another_process_within_a_second(
    priced: Gateway, served: tuple[Application, Settings]
) -> None:
    async with serving(replace(served[1])) as (_, elsewhere), priced.at(elsewhere.llm_url) as client:
        before = await client.post("/v1/chat/completions", json=question())
        assert before.headers[PRICE].startswith("published")
        since = time.monotonic()
        await put_price(priced, "gpt-4o-mini", input=1, output=1)
        said = ""
        while not said.startswith("own") and time.monotonic() - since < 1:
            said = (await client.post("/v1/chat/completions", json=question())).headers[PRICE]
        assert said.startswith("own")
