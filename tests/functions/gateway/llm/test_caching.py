"""Answers are given again to the same question of the same tenant, and to no other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.ids import TenantId
from shared.llm.answers import REMEMBERED_S, Answers, key_of
from shared.redis import CacheServer
from shared.secrets import DataKey, TenantSecrets, new_data_key
from tests.fixtures.provider import DONE, FINISH, ROLE, Pause, Script, chunk, completion, error, stream, usage
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import CLAUDES, Gateway, limit, make_key, question

Json = Any  # Any: JSON


@pytest.fixture
async def cached(gateway: Gateway) -> AsyncIterator[Gateway]:
    """The tenant with its cache on, and nothing in it."""
    await put(gateway, enabled=True)
    yield gateway
    await put(gateway, enabled=False)


async def put(gateway: Gateway, **setting: Json) -> None:
    (await gateway.client.put("/v1/cache", json=setting)).raise_for_status()
    (await gateway.client.delete("/v1/cache/answers")).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)


async def landed(gateway: Gateway) -> None:
    """Return once nothing is being made, so that it has been kept."""
    answers = await gateway.application.process.get(Answers)
    await until(lambda: not answers.flights)


async def test_nothing_is_kept_until_somebody_says_so(gateway: Gateway) -> None:
    for _ in range(2):
        answer = await gateway.chat()
        assert "x-dcoder-cache" not in answer.headers
    assert len(gateway.provider.calls) == 2


async def test_the_same_question_is_answered_again_and_costs_nothing(cached: Gateway) -> None:
    cached.provider.will(completion("first", used=usage(100_000, 50_000)))
    first = await cached.chat()
    await landed(cached)
    again = await cached.chat()
    assert again.content == first.content
    assert (first.headers["x-dcoder-cache"], len(cached.provider.calls)) == ("miss", 1)
    assert again.headers["x-dcoder-cache"].startswith("hit; age=")
    assert again.headers["x-dcoder-cache"].endswith(f"saved-micro-usd={first.headers['x-dcoder-cost-micro-usd']}")
    assert again.headers["x-dcoder-cost-micro-usd"] == "0"
    rows = await cached.ledger(2)
    assert [(row["provider"], row["cost_micro_usd"] > 0) for row in rows] == [("scripted", True), ("cache", False)]
    assert [row["saved_micro_usd"] for row in rows] == [None, rows[0]["cost_micro_usd"]]


async def test_a_stream_is_replayed_as_it_was(cached: Gateway) -> None:
    cached.provider.will(stream("Hel", "lo"))
    first = await cached.chat(stream=True)
    await landed(cached)
    again = await cached.chat(stream=True)
    assert again.content == first.content
    assert again.headers["content-type"].startswith("text/event-stream")
    assert again.headers["x-dcoder-cache"].startswith("hit")
    assert len(cached.provider.calls) == 1
    asked, hit = await cached.ledger(2)
    assert hit["saved_micro_usd"] == asked["cost_micro_usd"]
    whole = await cached.chat()
    assert whole.headers["x-dcoder-cache"] == "miss"  # another form of answer is another question


async def test_a_message_is_answered_again(cached: Gateway) -> None:
    asked = question(CLAUDES[0], max_tokens=10)
    first = await cached.client.post("/v1/messages", json=asked)
    await landed(cached)
    again = await cached.client.post("/v1/messages", json=asked)
    assert again.content == first.content
    assert again.headers["request-id"] != first.headers["request-id"]
    assert again.headers["x-dcoder-cache"].startswith("hit")


@pytest.mark.parametrize(
    "script",
    [
        error(500),
        error(429),
        Script((ROLE, chunk({"content": "x"}))),
        Script((ROLE, b"data: {half")),
        Script((ROLE, chunk({"content": "x"}), b'data: {"error":{"message":"no"}}\n\n', DONE)),
    ],
    ids=["500", "429", "cut", "half an event", "error event"],
)
async def test_only_what_is_whole_is_kept(cached: Gateway, script: Script) -> None:
    cached.provider.will(script)
    await cached.chat(stream=True)
    await landed(cached)
    assert (await cached.chat(stream=True)).headers["x-dcoder-cache"] == "miss"
    assert len(cached.provider.calls) == 2


@pytest.mark.parametrize(
    ("headers", "second", "third"),
    [
        ({"x-dcoder-cache": "off"}, "off", "miss"),
        ({"cache-control": "no-store"}, "off", "miss"),
        ({"x-dcoder-cache": "refresh"}, "miss", "hit"),
        ({"cache-control": "max-age=0, no-cache"}, "miss", "hit"),
    ],
)
async def test_a_request_says_what_it_wants(cached: Gateway, headers: dict[str, str], second: str, third: str) -> None:
    asked = question(text=json.dumps(headers))
    told = await cached.client.post("/v1/chat/completions", json=asked, headers=headers)
    assert told.headers["x-dcoder-cache"] == second
    await landed(cached)
    told = await cached.client.post("/v1/chat/completions", json=asked)
    assert told.headers["x-dcoder-cache"].startswith(third)


@pytest.mark.parametrize(
    ("name", "value"), [("x-dcoder-cache", "maybe"), ("x-dcoder-cache-ttl", "0"), ("x-dcoder-cache-ttl", "²")]
)
async def test_a_wish_that_cannot_be_is_refused(cached: Gateway, name: str, value: str) -> None:
    headers = [(name.encode(), value.encode())]
    told = await cached.client.post("/v1/chat/completions", json=question(), headers=headers)
    assert (told.status_code, cached.provider.calls) == (400, [])


async def test_an_answer_is_forgotten_after_its_time(cached: Gateway) -> None:
    await cached.client.post("/v1/chat/completions", json=question(), headers={"x-dcoder-cache-ttl": "1"})
    await landed(cached)
    await asyncio.sleep(1.1)
    assert (await cached.chat()).headers["x-dcoder-cache"] == "miss"


async def test_a_hundred_who_ask_the_same_at_once_are_one_call(cached: Gateway) -> None:
    slow = Script((ROLE, Pause(3.0), *stream("Hello").steps[1:]))
    cached.provider.will(slow)
    answers = await asyncio.gather(*(cached.chat(stream=True) for _ in range(100)))
    assert len(cached.provider.calls) == 1
    assert len({answer.content for answer in answers}) == 1
    told = sorted(answer.headers["x-dcoder-cache"].partition(";")[0] for answer in answers)
    assert told == ["coalesced"] * 99 + ["miss"]
    rows = await cached.ledger(100)
    assert sorted(row["provider"] for row in rows) == ["cache"] * 99 + ["scripted"]


async def test_who_shares_a_call_does_not_learn_how_its_beginners_limits_stand(
    cached: Gateway, limited: Gateway
) -> None:
    watched = await make_key(cached.application, cached.tenant)
    await limit(limited, scope="key", name=watched.split("_")[1], metric="micro_usd", span="ever", amount=10**9)
    cached.provider.will(replace(completion("x", used=usage(1000, 1000)), before=(Pause(1.5),)))
    async with cached.with_key(watched) as client:
        first = asyncio.create_task(client.post("/v1/chat/completions", json=question()))
        await until(lambda: len(cached.provider.calls) == 1)
        second = await cached.chat()
        begun = await first
    assert "x-dcoder-budget-remaining-micro-usd" in begun.headers
    assert "x-dcoder-budget-remaining-micro-usd" not in second.headers
    assert (second.headers["x-dcoder-cache"], second.headers["x-dcoder-cost-micro-usd"]) == ("coalesced", "0")
    assert second.content == begun.content
    saved = [row["saved_micro_usd"] for row in await cached.ledger(2) if row["provider"] == "cache"]
    assert saved == [int(begun.headers["x-dcoder-cost-micro-usd"])]


async def test_a_call_goes_on_for_the_others_when_who_began_it_leaves(cached: Gateway) -> None:
    cached.provider.will(Script((ROLE, chunk({"content": "a"}), Pause(0.6), chunk({"content": "b"}), FINISH, DONE)))
    first = asyncio.create_task(cached.chat(stream=True))
    await until(lambda: len(cached.provider.calls) == 1)
    second = asyncio.create_task(cached.chat(stream=True))
    await asyncio.sleep(0.2)
    first.cancel()
    answer = await second
    assert answer.content.endswith(DONE)
    assert len(cached.provider.calls) == 1


async def test_a_call_ends_when_all_have_left(cached: Gateway) -> None:
    cached.provider.will(Script((ROLE, Pause(5), FINISH, DONE)))
    asking = [asyncio.create_task(cached.chat(stream=True)) for _ in range(3)]
    await until(lambda: len(cached.provider.calls) == 1)
    await asyncio.sleep(0.2)
    for one in asking:
        one.cancel()
    rows = await cached.ledger(3)
    assert [row["outcome"] for row in rows if row["provider"] == "scripted"] == ["client_gone"]
    assert (await cached.chat(stream=True)).headers["x-dcoder-cache"] == "miss"


async def test_who_may_not_call_gets_no_answer_of_another_key(cached: Gateway, limited: Gateway) -> None:
    await cached.chat()
    await landed(cached)
    other = await make_key(cached.application, cached.tenant, models=["house-model"])
    async with cached.with_key(other) as client:
        assert (await client.post("/v1/chat/completions", json=question())).status_code == 404
    spent = await make_key(cached.application, cached.tenant)
    await limit(limited, scope="key", name=spent.split("_")[1], metric="requests", span="ever", amount=1)
    async with cached.with_key(spent) as client:
        told = [(await client.post("/v1/chat/completions", json=question())).status_code for _ in range(2)]
    assert told == [200, 429]


async def test_what_redis_holds_is_sealed(cached: Gateway) -> None:
    cached.provider.will(completion("a very private answer"))
    await cached.chat(model="house-model")
    await landed(cached)
    server = await cached.application.process.get(CacheServer)
    keys = [key async for key in server._client.scan_iter(match=f"t:{cached.tenant}:answer:*")]
    values = b"".join([(await server.get(key.decode())) or b"" for key in keys])
    assert values
    assert b"private" not in values
    assert b"content" not in values


@pytest.mark.parametrize("instead", ["another's", "nonsense"])
async def test_what_redis_holds_in_the_place_of_an_answer_is_passed_over(cached: Gateway, instead: str) -> None:
    cached.provider.will(completion("one"), completion("two"), completion("one again"))
    server = await cached.application.process.get(CacheServer)
    await cached.chat(text=f"one of {instead}")
    await landed(cached)
    pattern = f"t:{cached.tenant}:answer:*"
    before = {key async for key in server._client.scan_iter(match=pattern)}
    await cached.chat(text=f"two of {instead}")
    await landed(cached)
    (second,) = {key async for key in server._client.scan_iter(match=pattern)} - before
    stored = (await server.get(second.decode())) if instead == "another's" else b"nonsense"
    assert stored
    for key in before:
        await server.set(key.decode(), stored, 60)
    answer = await cached.chat(text=f"one of {instead}")
    assert (answer.status_code, answer.headers["x-dcoder-cache"]) == (200, "miss")
    assert answer.json()["choices"][0]["message"]["content"] == "one again"


async def test_only_an_administrator_of_the_tenant_sets_it(gateway: Gateway) -> None:
    member = await make_key(gateway.application, gateway.tenant, role="member")
    async with gateway.with_key(member) as client:
        assert (await client.put("/v1/cache", json={"enabled": True})).status_code == 403
    for odd in ({"enabled": True, "ttl_s": 0}, {"enabled": True, "ttl_s": 10**9}, {}):
        assert (await gateway.client.put("/v1/cache", json=odd)).status_code == 422
    assert (await gateway.client.get("/v1/cache")).json()["enabled"] is False


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inside: st.lists(inside, max_size=3) | st.dictionaries(st.text(max_size=3), inside, max_size=3),
    max_leaves=8,
)
BODIES = st.dictionaries(st.sampled_from(["model", "messages", "tools", "seed", "temperature", "user"]), JSON_VALUES)
ONE, OTHER = (TenantSecrets(DataKey(TenantId(name), b"k" * 32)) for name in ("acme", "globex"))


@given(BODIES, BODIES)
def test_two_questions_have_one_key_only_if_they_are_the_same(first: Json, second: Json) -> None:
    alike = json.dumps(first, sort_keys=False) == json.dumps({name: second[name] for name in first if name in second})
    same = alike and first.keys() == second.keys()
    assert (key_of(ONE, {"m": "x"}, first) == key_of(ONE, {"m": "x"}, second)) == same


@given(BODIES)
def test_no_key_is_of_another_tenant_route_or_model(body: Json) -> None:
    keys = {
        key_of(ONE, {"model": "x"}, body),
        key_of(OTHER, {"model": "x"}, body),
        key_of(ONE, {"model": "y"}, body),
        key_of(ONE, {"model": "x", "route": "/"}, body),
        key_of(TenantSecrets(new_data_key(TenantId("acme"))), {"model": "x"}, body),
    }
    assert len(keys) == 5


@given(BODIES)
def test_the_order_of_a_bodys_members_and_its_white_space_do_not_count(body: Json) -> None:
    turned = dict(reversed(body.items()))
    assert key_of(ONE, {}, json.loads(json.dumps(turned, indent=2))) == key_of(ONE, {}, json.loads(json.dumps(body)))
