"""Responses are given again: each as its caller's own, in both lanes, and never across what makes it another's."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import openai
import pytest

from shared.ids import TenantId
from shared.llm.answers import REMEMBERED_S, Answers
from shared.tenancy import TenantRegistry
from tests.fixtures.provider import Pause, Script, completion, error, stream, whole
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, limit, make_key, store

CHAT, NATIVE = "gpt-4o-mini", "gpt-5-nano"
LANES = [CHAT, NATIVE]
USAGE = {
    "input_tokens": 100_000, "input_tokens_details": {"cached_tokens": 0}, "output_tokens": 50_000,
    "output_tokens_details": {"reasoning_tokens": 0}, "total_tokens": 150_000,
}  # fmt: skip
TOOL = {"type": "function", "name": "parts", "parameters": {"type": "object", "properties": {}}, "strict": False}
EMPTY = {"type": "output_text", "text": "", "annotations": []}
Json = Any  # Any: JSON, and what the SDK makes of it


@pytest.fixture
async def cached(gateway: Gateway) -> AsyncIterator[Gateway]:
    """A provider of each kind, and the tenant's cache on with nothing in it."""
    await store(gateway.client, "native", gateway.provider.base_url, [NATIVE], kind="openai")
    await put(gateway, enabled=True)
    yield gateway
    await put(gateway, enabled=False)
    await gateway.client.delete("/v1/secrets/providers/native")


async def put(gateway: Gateway, **setting: Json) -> None:
    (await gateway.client.put("/v1/cache", json=setting)).raise_for_status()
    (await gateway.client.delete("/v1/cache/answers")).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)


async def landed(gateway: Gateway) -> None:
    answers = await gateway.application.process.get(Answers)
    await until(lambda: not answers.flights)


def sdk_of(gateway: Gateway, key: str = "") -> Json:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key or gateway.key, max_retries=0)


def response(response_id: str, text: str = "Hello", status: str = "completed", **more: Json) -> Json:
    part = {"type": "output_text", "text": text, "annotations": [], "logprobs": []}
    thought = {"id": f"rs_{response_id}", "type": "reasoning", "summary": []}
    item = {"id": f"msg_{response_id}", "type": "message", "status": status, "role": "assistant", "content": [part]}
    return {
        "id": response_id, "object": "response", "created_at": 1, "status": status, "model": NATIVE,
        "output": [thought, item], "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": USAGE,
        "previous_response_id": None, "store": True, **more,
    }  # fmt: skip


def events(response_id: str, *texts: str) -> list[bytes]:
    """A provider's stream of a response."""
    done = response(response_id, "".join(texts))
    where = {"item_id": f"msg_{response_id}", "output_index": 1}
    grown = [("response.output_text.delta", {**where, "content_index": 0, "delta": text}) for text in texts]
    told = [
        ("response.created", {"response": {**done, "status": "in_progress", "output": [], "usage": None}}),
        ("response.output_item.added", {"output_index": 0, "item": done["output"][0]}),
        ("response.output_item.done", {"output_index": 0, "item": done["output"][0]}),
        ("response.output_item.added", {"output_index": 1, "item": {**done["output"][1], "content": []}}),
        ("response.content_part.added", {**where, "content_index": 0, "part": EMPTY}),
        *grown,
        ("response.output_item.done", {"output_index": 1, "item": done["output"][1]}),
        ("response.completed", {"response": done}),
    ]  # fmt: skip
    return [
        f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': number, **content})}\n\n".encode()
        for number, (kind, content) in enumerate(told)
    ]


def script(model: str, text: str = "Hello", *, streamed: bool = False, pause_s: float = 0.0, name: str = "") -> Script:
    """What the provider of that model answers."""
    if model == CHAT:
        steps = stream(text, used=(100_000, 50_000)) if streamed else completion(
            text, used={"prompt_tokens": 100_000, "completion_tokens": 50_000, "total_tokens": 150_000}
        )  # fmt: skip
    elif streamed:
        steps = Script(tuple(events(name or f"resp_{abs(hash(text))}", text)))
    else:
        steps = whole(response(name or f"resp_{abs(hash(text))}", text))
    if not pause_s:
        return steps
    first = steps.steps[:1] if streamed else ()
    return Script((*first, Pause(pause_s), *steps.steps[len(first) :]), headers=steps.headers)


async def ask(gateway: Gateway, model: str, given: Json = "Hi", *, key: str = "", **more: Json) -> Json:
    """The response, as its SDK read it, and what the cache said; once nothing is being made."""
    told = await sdk_of(gateway, key).responses.with_raw_response.create(
        model=model, input=given, extra_headers=more.pop("headers", None), **more
    )
    await landed(gateway)
    found = told.parse()
    return found, told.headers.get("x-dcoder-cache", "").partition(";")[0], told.headers


async def streamed(gateway: Gateway, model: str, given: Json = "Hi", *, key: str = "", **more: Json) -> Json:
    """The stream's events, checked as a client would trip over them, and what the cache said."""
    told = await sdk_of(gateway, key).responses.with_raw_response.create(model=model, input=given, stream=True, **more)
    found = [one async for one in told.parse()]
    await landed(gateway)
    assert all(one.sequence_number < other.sequence_number for one, other in pairwise(found))
    assert (found[0].type, found[-1].type) == ("response.created", "response.completed")
    ids = {one.response.id for one in found if hasattr(one, "response")}
    assert len(ids) == 1
    items = {one.item.id for one in found if one.type == "response.output_item.added"}
    assert {one.item_id for one in found if hasattr(one, "item_id")} <= items
    assert {one.id for one in found[-1].response.output} == items
    return found, told.headers.get("x-dcoder-cache", "").partition(";")[0]


@pytest.mark.parametrize("model", LANES)
async def test_nothing_is_kept_until_somebody_says_so(cached: Gateway, model: str) -> None:
    await put(cached, enabled=False)
    for number in range(2):
        cached.provider.will(script(model, name=f"resp_off_{number}"))
        assert (await ask(cached, model))[1] == ""
    assert len(cached.provider.calls) == 2


@pytest.mark.parametrize("model", LANES)
async def test_the_same_request_gets_the_same_output_under_an_id_of_its_callers(cached: Gateway, model: str) -> None:
    cached.provider.will(script(model, "only once", name="resp_exact"))
    first, how, headers = await ask(cached, model, metadata={"a": "b"})
    again, how_again, headers_again = await ask(cached, model, metadata={"a": "b"})
    assert (how, how_again, len(cached.provider.calls)) == ("miss", "hit", 1)
    assert again.output_text == first.output_text == "only once"
    assert (again.id != first.id, again.metadata, again.usage) == (True, first.metadata, first.usage)
    assert headers_again["x-dcoder-cost-micro-usd"] == "0"
    assert headers_again["x-dcoder-cache"].endswith(f"saved-micro-usd={headers['x-dcoder-cost-micro-usd']}")
    rows = await cached.ledger(2)
    assert [(row["feature"], row["provider"]) for row in rows] == [
        ("responses", "scripted" if model == CHAT else "native"), ("responses", "cache"),
    ]  # fmt: skip
    assert [row["saved_micro_usd"] for row in rows] == [None, rows[0]["cost_micro_usd"]]


@pytest.mark.parametrize("model", LANES)
async def test_a_copy_is_looked_at_listed_and_deleted_by_its_owner_alone(cached: Gateway, model: str) -> None:
    other = await make_key(cached.application, cached.tenant)
    cached.provider.will(script(model, name="resp_owned"))
    first, _, _ = await ask(cached, model)
    copy, how, _ = await ask(cached, model, key=other)
    mine, theirs = sdk_of(cached), sdk_of(cached, other)
    assert how == "hit"
    found = await theirs.responses.retrieve(copy.id)
    assert (found.id, found.output_text) == (copy.id, "Hello")
    assert [one.content[0].text for one in (await theirs.responses.input_items.list(copy.id)).data] == ["Hi"]
    for foreign in (mine.responses.retrieve(copy.id), theirs.responses.retrieve(first.id)):
        with pytest.raises(openai.NotFoundError):
            await foreign
    await theirs.responses.delete(copy.id)
    with pytest.raises(openai.NotFoundError):
        await theirs.responses.retrieve(copy.id)
    assert len(cached.provider.calls) == 1


@pytest.mark.parametrize("model", LANES)
async def test_a_stream_is_replayed_as_a_stream_of_its_callers_own(cached: Gateway, model: str) -> None:
    cached.provider.will(script(model, "in pieces", streamed=True, name="resp_stream"))
    first, how = await streamed(cached, model)
    again, how_again = await streamed(cached, model)
    assert (how, how_again, len(cached.provider.calls)) == ("miss", "hit", 1)
    assert [one.type for one in again] == [one.type for one in first]
    assert again[-1].response.output_text == "in pieces"
    assert again[-1].response.id != first[-1].response.id
    assert (await sdk_of(cached).responses.retrieve(again[-1].response.id)).output_text == "in pieces"
    _, how_whole, _ = await ask(cached, model)
    assert how_whole == "miss"  # another form of answer is another question


@pytest.mark.parametrize("model", LANES)
async def test_the_sdk_puts_a_replayed_stream_together(cached: Gateway, model: str) -> None:
    cached.provider.will(script(model, "put together", streamed=True, name="resp_helper"))
    ends = []
    for _ in range(2):
        async with sdk_of(cached).responses.stream(model=model, input="Hi") as told:
            ends.append(await told.get_final_response())
        await landed(cached)
    assert len(cached.provider.calls) == 1
    assert [end.output_text for end in ends] == ["put together"] * 2
    assert ends[0].id != ends[1].id


@pytest.mark.parametrize("model", LANES)
async def test_those_who_ask_at_once_are_one_call_and_each_has_a_response(cached: Gateway, model: str) -> None:
    cached.provider.will(script(model, "shared", streamed=True, pause_s=2.0, name="resp_flight"))
    told = await asyncio.gather(*(streamed(cached, model) for _ in range(20)))
    assert len(cached.provider.calls) == 1
    assert sorted(how for _, how in told) == ["coalesced"] * 19 + ["miss"]
    assert len({found[-1].response.id for found, _ in told}) == 20
    copies = [found[-1].response.id for found, how in told if how == "coalesced"]
    assert {(await sdk_of(cached).responses.retrieve(one)).output_text for one in copies} == {"shared"}
    rows = await cached.ledger(20)
    cost = next(row["cost_micro_usd"] for row in rows if row["provider"] != "cache")
    assert cost > 0
    assert [row["saved_micro_usd"] for row in rows if row["provider"] == "cache"] == [cost] * 19


async def test_who_goes_on_from_a_copy_at_the_provider_sends_what_it_holds(cached: Gateway) -> None:
    cached.provider.will(script(NATIVE, "one", name="resp_root"), script(NATIVE, "two", name="resp_second"))
    root, _, _ = await ask(cached, NATIVE, "first")
    second, _, _ = await ask(cached, NATIVE, "second", previous_response_id=root.id)
    copy, how, _ = await ask(cached, NATIVE, "second", previous_response_id=root.id)
    assert (how, copy.previous_response_id, copy.id != second.id) == ("hit", root.id, True)
    cached.provider.will(script(NATIVE, "three", name="resp_third"))
    third, _, _ = await ask(cached, NATIVE, "third", previous_response_id=copy.id)
    sent = cached.provider.calls[-1].json
    assert sent["previous_response_id"] == "resp_root"
    texts = [one["content"] if isinstance(one["content"], str) else one["content"][0]["text"] for one in sent["input"]]
    assert texts == ["second", "two", "third"]
    assert not any("id" in one for one in sent["input"])
    cached.provider.will(script(NATIVE, "four", name="resp_fourth"))
    await ask(cached, NATIVE, "fourth", previous_response_id=third.id)
    assert cached.provider.calls[-1].json["previous_response_id"] == "resp_third"


async def test_an_item_of_a_copy_is_sent_in_its_place_and_one_of_the_providers_is_named(cached: Gateway) -> None:
    other = await make_key(cached.application, cached.tenant)
    cached.provider.will(script(NATIVE, "said", name="resp_item"))
    await ask(cached, NATIVE)
    await ask(cached, NATIVE, key=other)
    named = [{"type": "item_reference", "id": f"{kind}_resp_item"} for kind in ("msg", "rs")]
    named.append({"role": "user", "content": "And?"})
    cached.provider.will(script(NATIVE, "x", name="resp_x"), script(NATIVE, "y", name="resp_y"))
    await ask(cached, NATIVE, named, key=other)
    await ask(cached, NATIVE, named)
    theirs, mine = (call.json["input"] for call in cached.provider.calls[1:])
    assert mine == named
    assert (theirs[0]["content"][0]["text"], "id" in theirs[0]) == ("said", False)
    assert theirs[1:] == named[2:]  # what was thought is at the provider under the id of another's


async def test_over_chats_a_copy_is_gone_on_from_like_any_response(cached: Gateway) -> None:
    other = await make_key(cached.application, cached.tenant)
    cached.provider.will(script(CHAT, "one"), script(CHAT, "two"))
    roots = [(await ask(cached, CHAT, "first", key=key))[0] for key in (cached.key, other)]
    told = [
        await ask(cached, CHAT, "second", previous_response_id=root.id, key=key)
        for root, key in zip(roots, (cached.key, other), strict=True)
    ]
    assert [how for _, how, _ in told] == ["miss", "hit"]  # what came before is the same, whatever its id
    assert [one.previous_response_id for one, _, _ in told] == [root.id for root in roots]


@pytest.mark.parametrize("model", LANES)
async def test_with_store_false_the_output_is_given_again_and_nothing_is_found_under_its_id(
    cached: Gateway, model: str
) -> None:
    cached.provider.will(script(model, name="resp_unstored"))
    for expected in ("miss", "hit"):
        told, how, _ = await ask(cached, model, store=False)
        assert how == expected
        with pytest.raises(openai.NotFoundError):
            await sdk_of(cached).responses.retrieve(told.id)


@pytest.mark.parametrize("member", [{"background": True}, {"conversation": "conv_1"}, {"prompt": {"id": "p"}}])
@pytest.mark.parametrize("model", LANES)
async def test_what_is_refused_is_refused_before_the_cache(cached: Gateway, model: str, member: Json) -> None:
    with pytest.raises(openai.BadRequestError):
        await ask(cached, model, extra_body=member)
    assert cached.provider.calls == []


async def test_a_tool_that_the_provider_runs_is_run_anew(cached: Gateway) -> None:
    for number in range(2):
        cached.provider.will(script(NATIVE, name=f"resp_hosted_{number}"))
        _, how, _ = await ask(cached, NATIVE, tools=[{"type": "web_search"}])
        assert how == "off"
    assert len(cached.provider.calls) == 2


@pytest.mark.parametrize("odd", [error(500), whole(response("resp_failed", status="failed"))], ids=["500", "failed"])
async def test_only_what_is_whole_is_kept(cached: Gateway, odd: Script) -> None:
    cached.provider.will(odd, script(NATIVE, name="resp_fine"))
    body = {"model": NATIVE, "input": "Hi"}
    await cached.client.post("/v1/responses", json=body)
    await landed(cached)
    assert (await cached.client.post("/v1/responses", json=body)).headers["x-dcoder-cache"] == "miss"
    assert len(cached.provider.calls) == 2


@pytest.mark.parametrize(
    ("headers", "second", "third"),
    [({"x-dcoder-cache": "off"}, "off", "miss"), ({"x-dcoder-cache": "refresh"}, "miss", "hit")],
)
@pytest.mark.parametrize("model", LANES)
async def test_a_request_says_what_it_wants(
    cached: Gateway, model: str, headers: dict[str, str], second: str, third: str
) -> None:
    for number, (wish, expected) in enumerate(((headers, second), ({}, third))):
        cached.provider.will(script(model, name=f"resp_wish_{number}"))
        assert (await ask(cached, model, headers=wish))[1] == expected


@pytest.mark.parametrize("model", LANES)
async def test_other_words_get_the_same_output(cached: Gateway, patient: None, model: str) -> None:
    await put(cached, enabled=True, semantic=True)
    (await cached.client.post("/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": "warm"})).raise_for_status()
    cached.provider.will(script(model, "like this", name="resp_words"))
    first, _, _ = await ask(cached, model, "How do I reset my password?", instructions="Be kind")
    again, how, headers = await ask(cached, model, "How can I reset my password?", instructions="Be kind")
    assert (how, again.output_text, again.id != first.id) == ("semantic", "like this", True)
    assert "similarity=" in headers["x-dcoder-cache"]
    listed = await sdk_of(cached).responses.input_items.list(again.id)
    assert listed.data[0].content[0].text == "How can I reset my password?"
    cached.provider.will(script(model, "like that", name="resp_others"))
    _, how, _ = await ask(cached, model, "How can I reset my password?", instructions="Be brief")
    assert how == "miss"
    cached.provider.will(script(model, "no", name="resp_not"))
    _, how, _ = await ask(cached, model, "How can I not reset my password?", instructions="Be kind")
    assert how == "miss"


@pytest.mark.parametrize("model", LANES)
async def test_an_answer_that_calls_a_tool_is_not_given_to_other_words(
    cached: Gateway, patient: None, model: str
) -> None:
    await put(cached, enabled=True, semantic=True)
    (await cached.client.post("/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": "warm"})).raise_for_status()
    called = {"id": "fc_1", "type": "function_call", "call_id": "c1", "name": "parts", "arguments": "{}"}
    call = {"id": "c1", "type": "function", "function": {"name": "parts", "arguments": "{}"}}
    cached.provider.will(
        completion("", tool_calls=[call]) if model == CHAT else whole(response("resp_call", output=[called])),
        script(model, name="resp_after"),
    )
    for text in ("How do I reset my password?", "How can I reset my password?"):
        _, how, _ = await ask(cached, model, text, tools=[TOOL])
        assert how == "miss"


@pytest.mark.parametrize("model", LANES)
async def test_a_prompt_is_shortened_and_the_saving_told(cached: Gateway, model: str) -> None:
    await put(cached, enabled=False)
    rows = json.dumps([{"id": one, "name": f"part {one}", "price": 1.5, "ok": True} for one in range(60)], indent=2)
    given = [
        {"role": "user", "content": "Parts?"},
        {"type": "function_call", "call_id": "c1", "name": "parts", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": rows},
    ]
    cached.provider.will(script(model, name="resp_short"))
    told, _, headers = await ask(cached, model, given, tools=[TOOL], headers={"x-dcoder-compression": "lossless"})
    assert headers["x-dcoder-compression"].startswith("lossless; original-bytes=")
    sent = cached.provider.calls[0].json
    result = sent["messages"][-1]["content"] if model == CHAT else sent["input"][-1]["output"]
    assert len(result) < len(rows) / 2
    listed = await sdk_of(cached).responses.input_items.list(told.id) if model == CHAT else None
    assert listed is None or listed.data[0].output == rows  # it is kept as it came


async def test_old_results_are_put_aside_for_their_owner_and_so_is_the_answer(cached: Gateway) -> None:
    other = await make_key(cached.application, cached.tenant)
    given: list[Json] = [{"role": "user", "content": "Parts?"}]
    for number in range(8):
        name = {"call_id": f"c{number}"}
        given.append({"type": "function_call", "name": "parts", "arguments": "{}", **name})
        given.append({"type": "function_call_output", "output": f"{number} text, so it stays. " * 400, **name})
    wish = {"x-dcoder-compression": "reversible"}
    for number, key in enumerate((cached.key, other)):
        cached.provider.will(script(NATIVE, name=f"resp_aside_{number}"))
        _, how, _ = await ask(cached, NATIVE, given, tools=[TOOL], headers=wish, key=key)
        assert how == "miss"
    mine, theirs = (call.json for call in cached.provider.calls)
    assert mine["tools"][-1]["name"] == "retrieve_original"
    assert "retrieve_original" in mine["input"][2]["output"]
    assert mine["input"][2]["output"] != theirs["input"][2]["output"]
    assert (await ask(cached, NATIVE, given, tools=[TOOL], headers=wish))[1] == "hit"


async def test_a_key_that_is_over_its_limit_gets_no_copy(cached: Gateway, limited: Gateway) -> None:
    cached.provider.will(script(NATIVE, name="resp_limit"))
    await ask(cached, NATIVE)
    spent = await make_key(cached.application, cached.tenant)
    await limit(limited, scope="key", name=spent.split("_")[1], metric="requests", span="ever", amount=1)
    assert (await ask(cached, NATIVE, key=spent))[1] == "hit"
    with pytest.raises(openai.RateLimitError):
        await ask(cached, NATIVE, key=spent)


@dataclass(frozen=True)
class Asked:
    """All that an answer may depend on. `before`: the provider's id of what it goes on from, or what was said there.
    `owner`: where the prompt is shortened so that the answer may name what is kept for its owner."""

    tenant: str
    model: str
    text: str
    tool: str
    temperature: float
    instructions: str
    before: object
    owner: str

    def said(self, answer: str) -> tuple[object, ...]:
        """The conversation so far."""
        return (self.before, self.text, answer)


@dataclass
class Caller:
    """A key, and the responses that it has: by model and id, what going on from them means."""

    tenant: str
    key: str
    had: dict[tuple[str, str], object] = field(default_factory=dict)


@pytest.fixture
async def callers(cached: Gateway) -> AsyncIterator[list[Caller]]:
    """Two keys of the tenant, and one of another with the same providers and its cache on too."""
    registry = await cached.application.process.get(TenantRegistry)
    other = TenantId(f"{cached.tenant}-other")
    await registry.create(other)
    foreign = await make_key(cached.application, other)
    async with cached.with_key(foreign) as client:
        await store(client, "scripted", cached.provider.base_url, [CHAT])
        await store(client, "native", cached.provider.base_url, [NATIVE], kind="openai")
        await put(replace(cached, client=client), enabled=True)
    second = await make_key(cached.application, cached.tenant)
    yield [Caller(cached.tenant, cached.key), Caller(cached.tenant, second), Caller(other, foreign)]
    await registry.delete(other)


async def test_no_answer_crosses_what_makes_it_anothers(cached: Gateway, callers: list[Caller]) -> None:
    chance = random.Random(33)
    made_for: dict[str, Asked] = {}
    hits = 0
    for number in range(300):
        caller, model = chance.choice(callers), chance.choice(LANES)
        mine = [one for of_model, one in caller.had if of_model == model][:3]
        previous = chance.choice(mine) if mine and chance.random() < 0.4 else None
        before = caller.had[model, previous] if previous else None
        owner = caller.key if chance.random() < 0.2 else ""
        text, tool, instructions = (chance.choice(pair) for pair in (("Hi", "Hi "), "ab", "xy"))
        asked = Asked(caller.tenant, model, text, tool, chance.choice([0.0, 1.0]), instructions, before, owner)
        cached.provider.will(script(model, f"answer {number}", name=f"resp_{number}"))
        told, how, _ = await ask(
            cached, model, text, key=caller.key, temperature=asked.temperature, instructions=instructions,
            previous_response_id=previous, tools=[{**TOOL, "description": tool}],
            headers={"x-dcoder-compression": "reversible" if owner else "off"},
        )  # fmt: skip
        cached.provider.reset()
        assert made_for.setdefault(told.output_text, asked) == asked, how
        assert not any(told.id == one for every in callers for _, one in every.had)
        at_provider = model == NATIVE and how == "miss"
        caller.had[model, told.id] = told.id if at_provider else asked.said(told.output_text)
        hits += how == "hit"
    assert 30 < hits < 270
