"""A tenant's own names for models, switched by one call and by nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.llm.outbound import REMEMBERED_S
from tests.fixtures.provider import error
from tests.functions.gateway.conftest import CLAUDES, Gateway, make_key, question

BEST = "/v1/aliases/our-best"


async def put(gateway: Gateway, path: str = BEST, **what: Any) -> httpx.Response:  # Any: JSON
    answer = await gateway.client.put(path, json={"provider": "scripted", "model": "gpt-4o-mini", **what})
    await asyncio.sleep(REMEMBERED_S)
    return answer


@pytest.fixture
async def named(gateway: Gateway) -> AsyncIterator[Gateway]:
    """A gateway whose aliases go with the test."""
    yield gateway
    for one in (await gateway.client.get("/v1/aliases")).json()["aliases"]:
        await gateway.client.delete(f"/v1/aliases/{one['name']}")
    await asyncio.sleep(REMEMBERED_S)


async def test_an_alias_is_its_model_until_it_is_switched(named: Gateway) -> None:
    assert (await put(named)).status_code == 200
    await named.chat("our-best")
    assert (await put(named, model="house-model")).status_code == 200
    await named.chat("our-best")
    assert [call.json["model"] for call in named.provider.calls] == ["gpt-4o-mini", "house-model"]
    rows = await named.ledger(2)
    assert [row["model"] for row in rows] == ["gpt-4o-mini", "house-model"]
    listed = (await named.client.get("/v1/models")).json()["data"]
    assert "our-best" in [one["id"] for one in listed]


async def test_a_provider_that_fails_is_asked_once_and_nothing_is_switched(named: Gateway) -> None:
    await put(named)
    named.provider.will(error(500))
    assert (await named.chat("our-best")).status_code == 500
    assert len(named.provider.calls) == 1


async def test_defaults_hold_where_the_caller_says_nothing(named: Gateway) -> None:
    await put(named, defaults={"temperature": 0.1, "max_tokens": 50, "metadata": {"team": "a"}})
    await named.chat("our-best", temperature=0.9)
    sent = named.provider.calls[0].json
    assert sent == question("gpt-4o-mini", temperature=0.9, max_tokens=50, metadata={"team": "a"})


async def test_a_message_goes_by_an_alias_too(named: Gateway) -> None:
    await put(named, provider="claudes", model=CLAUDES[0], defaults={"max_tokens": 7})
    answer = await named.client.post("/v1/messages", json=question("our-best"))
    assert answer.status_code == 200, answer.text
    assert named.provider.calls[0].json == question(CLAUDES[0], max_tokens=7)


async def test_a_key_may_have_an_alias_and_not_its_model(named: Gateway) -> None:
    await put(named)
    key = await make_key(named.application, named.tenant, models=["our-best"])
    async with named.with_key(key) as client:
        told = [
            (await client.post("/v1/chat/completions", json=question(model))).status_code
            for model in ("our-best", "gpt-4o-mini")
        ]
        listed = [one["id"] for one in (await client.get("/v1/models")).json()["data"]]
    assert told == [200, 404]
    assert listed == ["our-best"]


async def test_an_alias_whose_provider_is_gone_is_no_model(named: Gateway) -> None:
    await named.client.put(
        "/v1/secrets/providers/brief",
        json={"base_url": named.provider.base_url, "models": ["brief-model"], "check": False},
    )
    await put(named, provider="brief", model="brief-model")
    await named.client.delete("/v1/secrets/providers/brief")
    await asyncio.sleep(REMEMBERED_S)
    assert (await named.chat("our-best")).status_code == 404
    assert named.provider.calls == []


@pytest.mark.parametrize(
    "what",
    [
        {"provider": "nobody"},
        {"model": "nothing"},
        {"defaults": {"model": "x"}},
        {"defaults": {"Messages": []}},
        {"defaults": {"stop": "x" * 5000}},
        {"defaults": {"stop": "\0"}},
    ],
)
async def test_an_alias_that_cannot_be_is_refused(named: Gateway, what: dict[str, Any]) -> None:  # Any: JSON
    assert (await put(named, **what)).status_code in (400, 422)


@pytest.mark.parametrize("name", ["doc-chat", "all-minilm-l6-v2", "a b", "-a", "x" * 101])
async def test_a_name_that_cannot_be_is_refused(named: Gateway, name: str) -> None:
    assert (await put(named, f"/v1/aliases/{name}")).status_code in (400, 422)


async def test_only_an_administrator_switches_and_it_is_audited(named: Gateway) -> None:
    member = await make_key(named.application, named.tenant, role="member")
    async with named.with_key(member) as client:
        told = await client.put(BEST, json={"provider": "scripted", "model": "gpt-4o-mini"})
    assert told.status_code == 403
    assert (await named.client.delete(BEST)).status_code == 404
