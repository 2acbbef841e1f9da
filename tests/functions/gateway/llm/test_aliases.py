"""A tenant's own names for models, switched by one call and by nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import urlsplit

import httpx
import pytest

from shared.llm.allowed import allow_all_models, allow_models
from shared.llm.outbound import REMEMBERED_S
from tests.fixtures.provider import DONE, FINISH, Script, chunk, completion, error, usage_chunk
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
        {"request": {"set": {"model": "x"}}},
        {"request": {"without": ["Messages"]}},
        {"request": {"set": {"a b": 1}}},
        {"request": {"without": ["tools.*"]}},
        {"request": {"remove": ["tools"]}},
        {"answer": {"set": {"*": 1}}},
        {"answer": {"set": {"model": "x" * 5000}}},
        {"answer": {"without": [f"a.{number}" for number in range(21)]}},
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


async def test_bodies_are_changed_on_both_ways(named: Gateway) -> None:
    changes: Any = {
        "request": {"set": {"temperature": 0, "metadata.team": "a"}, "without": ["logit_bias", "messages.*.name"]},
        "answer": {
            "set": {"model": "our-best"},
            "without": ["choices.*.message.reasoning", "choices.*.delta.reasoning"],
        },
    }
    assert (await put(named, **changes)).status_code == 200
    (told,) = (await named.client.get("/v1/aliases")).json()["aliases"]
    assert (told["request"], told["answer"]) == (
        changes["request"],
        {"set": changes["answer"]["set"], "without": changes["answer"]["without"]},
    )
    parts = (chunk({"reasoning": "hidden"}), chunk({"content": "Hi"}), FINISH, usage_chunk(7, 3), DONE)
    named.provider.will(completion("Hi", reasoning="hidden"), Script(parts), error(429))
    asked = question("our-best", temperature=1, logit_bias={"1": 2}, metadata={})
    asked["messages"][0]["name"] = "jane"
    whole = await named.client.post("/v1/chat/completions", json=asked)
    assert (whole.json()["model"], "hidden" in whole.text) == ("our-best", False)
    assert named.provider.calls[0].json == question("gpt-4o-mini", temperature=0, metadata={"team": "a"})
    streamed = await named.chat("our-best", stream=True)
    assert "hidden" not in streamed.text
    assert all(
        json.loads(line[6:])["model"] == "our-best" for line in streamed.text.splitlines() if line[:7] == "data: {"
    )
    assert streamed.text.endswith("data: [DONE]\n\n")
    assert (await named.chat("our-best")).status_code == 429
    rows = await named.ledger(3)
    assert [(row["outcome"], row["usage_known"]) for row in rows[:2]] == [("done", True)] * 2


async def test_a_keys_scope_may_have_a_group(named: Gateway) -> None:
    key = await make_key(named.application, named.tenant, models=["group/cheap"])
    path = "/v1/model-groups/cheap"
    async with named.with_key(key) as client:

        async def told() -> list[int]:
            models = ("gpt-4o-mini", "house-model", "group/cheap")
            return [(await client.post("/v1/chat/completions", json=question(one))).status_code for one in models]

        assert await told() == [404, 404, 404]
        assert (await named.client.put(path, json={"models": ["gpt-4o-mini"]})).status_code == 200
        await asyncio.sleep(REMEMBERED_S)
        assert await told() == [200, 404, 404]
        assert [one["id"] for one in (await client.get("/v1/models")).json()["data"]] == ["gpt-4o-mini"]
        await named.client.put(path, json={"models": ["scripted/house-model", "gpt-4o-mini"]})
        await asyncio.sleep(REMEMBERED_S)
        assert await told() == [200, 200, 404]
        (listed,) = (await named.client.get("/v1/model-groups")).json()["groups"]
        assert (listed["name"], listed["models"]) == ("cheap", ["gpt-4o-mini", "scripted/house-model"])
        response = await client.post("/v1/responses", json={"model": "house-model", "input": "Hi"})
        kept = f"/v1/responses/{response.json()['id']}"
        assert (await client.get(kept)).status_code == 200
        assert (await named.client.delete(path)).status_code == 204
        await asyncio.sleep(REMEMBERED_S)
        assert await told() == [404, 404, 404]
        assert (await client.get(kept)).status_code == 404
    assert (await named.client.delete(path)).status_code == 404


@pytest.mark.parametrize("models", [[], [""], ["group/other"], ["a\0"], ["x"] * 201])
async def test_a_group_that_cannot_be_is_refused(named: Gateway, models: list[str]) -> None:
    assert (await named.client.put("/v1/model-groups/cheap", json={"models": models})).status_code in (400, 422)
    assert (await named.client.get("/v1/model-groups")).json() == {"groups": []}


async def test_a_tenant_has_the_models_that_operators_allow(named: Gateway) -> None:
    host = urlsplit(named.provider.origin).hostname

    async def told(allowed: list[str]) -> list[int]:
        async with named.control.transaction() as transaction:
            await allow_models(transaction, named.tenant, allowed)
        await asyncio.sleep(REMEMBERED_S)
        return [(await named.chat(model)).status_code for model in ("gpt-4o-mini", "house-model", "our-best")]

    await put(named)
    try:
        assert await told([f"{host}/house-*"]) == [404, 200, 404]  # the alias is a name for one that is not allowed
        listed = [one["id"] for one in (await named.client.get("/v1/models")).json()["data"]]
        assert ("house-model" in listed, "gpt-4o-mini" in listed, "our-best" in listed) == (True, False, False)
        assert await told([]) == [404] * 3
        assert (await named.chat("doc-chat")).status_code != 404  # built in
        assert await told(["*/*"]) == [200] * 3
    finally:
        async with named.control.transaction() as transaction:
            await allow_all_models(transaction, named.tenant)
        await asyncio.sleep(REMEMBERED_S)
