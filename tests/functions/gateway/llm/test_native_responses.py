"""Responses of a provider that has them: its bytes, and nobody's but their owner's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import openai
import pytest

from functions.gateway.llm.wires import Responses, response_tokens
from shared.ids import TenantId
from shared.tenancy import TenantRegistry
from shared.usage import Tokens
from tests.fixtures.provider import Cut, Script, Stall, error, whole
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway, limit, make_key, store

MODEL = "gpt-5-nano"
USAGE = {
    "input_tokens": 7, "input_tokens_details": {"cached_tokens": 4}, "output_tokens": 5,
    "output_tokens_details": {"reasoning_tokens": 2}, "total_tokens": 12,
}  # fmt: skip


@pytest.fixture
async def native(gateway: Gateway) -> AsyncIterator[Gateway]:
    await store(gateway.client, "native", gateway.provider.base_url, [MODEL], kind="openai")
    yield gateway
    await gateway.client.delete("/v1/secrets/providers/native")


@pytest.fixture
def sdk(native: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{native.url}/v1", api_key=native.key, max_retries=0)


def response(response_id: str, status: str = "completed", **more: Any) -> dict[str, Any]:  # Any: JSON
    part = {"type": "output_text", "text": "Hello", "annotations": [], "logprobs": []}
    item = {"id": f"msg_{response_id}", "type": "message", "status": status, "role": "assistant", "content": [part]}
    return {
        "id": response_id, "object": "response", "created_at": 1, "status": status, "model": MODEL, "output": [item],
        "parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "usage": USAGE, **more,
    }  # fmt: skip


def event(kind: str, **content: Any) -> bytes:  # Any: JSON
    return f"event: {kind}\ndata: {json.dumps({'type': kind, 'sequence_number': 1, **content})}\n\n".encode()


def created(response_id: str) -> bytes:
    return event("response.created", response=response(response_id, "in_progress", output=[], usage=None))


def delta(text: str) -> bytes:
    where = {"item_id": "m", "output_index": 0, "content_index": 0, "obfuscation": "xY"}
    return event("response.output_text.delta", delta=text, logprobs=[], **where)


async def make(gateway: Gateway, sdk: openai.AsyncOpenAI, response_id: str, **more: Any) -> Any:  # Any: SDK's unions
    gateway.provider.will(whole(response(response_id)))
    return await sdk.responses.create(model=MODEL, input="Hi", **more)


async def test_bytes_are_passed_on_both_ways_and_the_usage_is_read(native: Gateway) -> None:
    asked = b'  {"model":"gpt-5-nano" ,"input":"h\xc3\xa9", "temperature":0.10,"store":true,"brand_new":{"a":[1]}}'
    body = json.dumps(response("resp_a") | {"odd": 1.5}, indent=1).encode()
    native.provider.will(whole(body))
    answer = await native.client.post("/v1/responses", content=asked)
    assert answer.content == body
    (call,) = native.provider.calls
    assert (call.path, call.body, call.headers["authorization"]) == ("/v1/responses", asked, f"Bearer {PROVIDER_KEY}")
    (row,) = await native.ledger()
    assert (row["feature"], row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == ("responses", 7, 5, 4)
    assert row["cost_micro_usd"] is not None


async def test_a_stream_is_passed_on_byte_for_byte_however_it_is_cut(native: Gateway) -> None:
    sent = b"".join(
        [created("resp_s"), b": ping\n\n", delta("h\u00e9"), event("response.new.kind", x=1).replace(b"\n", b"\r\n"),
         event("response.completed", response=response("resp_s"))]
    )  # fmt: skip
    for step in (1, 7, len(sent)):
        native.provider.will(Script(tuple(sent[start : start + step] for start in range(0, len(sent), step))))
        body = {"model": MODEL, "input": "Hi", "stream": True}
        assert (await native.client.post("/v1/responses", json=body)).content == sent
    rows = await native.ledger(3)
    assert {(row["outcome"], row["output_tokens"]) for row in rows} == {("done", 5)}


async def test_a_response_of_a_stream_can_be_gone_on_from_once_its_end_is_seen(
    native: Gateway, sdk: openai.AsyncOpenAI
) -> None:
    native.provider.will(Script((created("resp_1"), event("response.completed", response=response("resp_1")))))
    async for told in await sdk.responses.create(model=MODEL, input="Hi", stream=True):
        last = told
    assert last.type == "response.completed"
    await make(native, sdk, "resp_2", previous_response_id="resp_1")
    assert native.provider.calls[1].json["previous_response_id"] == "resp_1"


@pytest.mark.parametrize("tail", [(Cut(),), ()], ids=["cut", "end"])
async def test_a_stream_that_breaks_raises_in_the_sdk(
    native: Gateway, sdk: openai.AsyncOpenAI, tail: tuple[Any, ...]
) -> None:
    native.provider.will(Script((created("resp_cut"), delta("Hel"), *tail)))
    with pytest.raises(openai.APIError):
        async for _ in await sdk.responses.create(model=MODEL, input="Hi", stream=True):
            pass
    (row,) = await native.ledger()
    assert (row["outcome"], row["usage_known"]) == ("cut", False)


@pytest.mark.parametrize(
    ("last", "outcome"),
    [
        (event("response.failed", response=response("resp_f", "failed")), "provider_error"),
        (event("response.incomplete", response=response("resp_f", "incomplete")), "done"),
        (event("error", code="server_error", message="no", param=None), "provider_error"),
    ],
)
async def test_each_end_that_a_provider_can_tell_is_one(native: Gateway, last: bytes, outcome: str) -> None:
    native.provider.will(Script((created("resp_f"), last)))
    answer = await native.client.post("/v1/responses", json={"model": MODEL, "input": "Hi", "stream": True})
    assert answer.content == created("resp_f") + last
    (row,) = await native.ledger()
    assert row["outcome"] == outcome


async def test_its_owner_looks_at_lists_and_deletes_what_the_provider_keeps(
    native: Gateway, sdk: openai.AsyncOpenAI
) -> None:
    await make(native, sdk, "resp_own")
    native.provider.will(
        whole(response("resp_own")),
        whole({"object": "list", "data": [], "has_more": False, "first_id": None, "last_id": None}),
        whole({"id": "resp_own", "object": "response", "deleted": True}),
    )
    await sdk.responses.retrieve("resp_own", include=["reasoning.encrypted_content"])
    await sdk.responses.input_items.list("resp_own", limit=5, order="asc")
    await sdk.responses.delete("resp_own")
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve("resp_own")
    assert [(call.method, call.path) for call in native.provider.calls[1:]] == [
        ("GET", "/v1/responses/resp_own?include[]=reasoning.encrypted_content"),
        ("GET", "/v1/responses/resp_own/input_items?limit=5&order=asc"),
        ("DELETE", "/v1/responses/resp_own"),
    ]
    rows = await native.ledger(4)
    assert [row["cost_micro_usd"] for row in rows[1:]] == [0, 0, 0]


@pytest.mark.parametrize("query", ["stream=true", "include=a%26b", "limit=9999", "x=1", "after=..%2F"])
async def test_what_of_a_query_is_not_passed_on_is_refused(
    native: Gateway, sdk: openai.AsyncOpenAI, query: str
) -> None:
    await make(native, sdk, "resp_query")
    assert (await native.client.get(f"/v1/responses/resp_query?{query}")).status_code == 400
    assert len(native.provider.calls) == 1


async def test_ids_of_others_are_not_found_and_the_provider_is_not_asked(
    native: Gateway, sdk: openai.AsyncOpenAI
) -> None:
    await make(native, sdk, "resp_mine")
    own = f"key:{native.key.split('_')[1]}"
    strangers = [
        await make_key(native.application, native.tenant),
        await make_key(native.application, native.tenant, tags=[own], models=["gpt-4o-mini"]),
    ]
    for key in strangers:
        other = openai.AsyncOpenAI(base_url=f"{native.url}/v1", api_key=key, max_retries=0)
        reference: Any = [{"type": "item_reference", "id": "msg_resp_mine"}]
        for foreign in (
            other.responses.retrieve("resp_mine"),
            other.responses.input_items.list("resp_mine"),
            other.responses.delete("resp_mine"),
            other.responses.create(model=MODEL, input="Hi", previous_response_id="resp_mine"),
            other.responses.create(model=MODEL, input=reference),
        ):
            with pytest.raises(openai.NotFoundError):
                await foreign
    assert len(native.provider.calls) == 1
    native.provider.will(whole(response("resp_next")))
    await sdk.responses.create(model=MODEL, input=reference)  # its owner may


async def test_ids_of_another_tenant_are_not_found(native: Gateway, sdk: openai.AsyncOpenAI) -> None:
    await make(native, sdk, "resp_tenant")
    registry = await native.application.process.get(TenantRegistry)
    other = TenantId(f"{native.tenant}-b")
    await registry.create(other)
    try:
        key = await make_key(native.application, other)
        async with native.with_key(key) as client:
            await store(client, "native", native.provider.base_url, [MODEL], kind="openai")
            assert (await client.get("/v1/responses/resp_tenant")).status_code == 404
            body = {"model": MODEL, "input": "Hi", "previous_response_id": "resp_tenant"}
            assert (await client.post("/v1/responses", json=body)).status_code == 404
    finally:
        await registry.delete(other)
    assert len(native.provider.calls) == 1


async def test_what_is_not_to_be_kept_has_no_owner(native: Gateway, sdk: openai.AsyncOpenAI) -> None:
    await make(native, sdk, "resp_unkept", store=False)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve("resp_unkept")


async def test_what_one_lane_keeps_the_other_does_not_go_on_from(native: Gateway, sdk: openai.AsyncOpenAI) -> None:
    await make(native, sdk, "resp_there")
    here = await sdk.responses.create(model="gpt-4o-mini", input="Hi")
    for model, previous in (("gpt-4o-mini", "resp_there"), (MODEL, here.id)):
        with pytest.raises(openai.BadRequestError) as told:
            await sdk.responses.create(model=model, input="Hi", previous_response_id=previous)
        assert "send it as input" in told.value.message
    assert len(native.provider.calls) == 2


async def test_a_providers_refusal_is_passed_on_and_nothing_is_noted(native: Gateway, sdk: openai.AsyncOpenAI) -> None:
    native.provider.will(error(400, "what it said"))
    with pytest.raises(openai.BadRequestError, match="what it said"):
        await sdk.responses.create(model=MODEL, input="Hi")
    (row,) = await native.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_under_a_hard_limit_the_length_is_told_what_came_before_counts_and_hosted_tools_are_refused(
    native: Gateway, limited: Gateway
) -> None:
    key = await make_key(native.application, native.tenant)
    sdk = openai.AsyncOpenAI(base_url=f"{native.url}/v1", api_key=key, max_retries=0)
    await limit(native, scope="key", name=key.split("_")[1], metric="tokens", span="ever", amount=4000)
    await make(native, sdk, "resp_long")
    assert native.provider.calls[0].json["max_output_tokens"] < 4000
    tools: Any = [{"type": "web_search"}]
    with pytest.raises(openai.BadRequestError) as told:
        await sdk.responses.create(model=MODEL, input="Hi", tools=tools)
    assert told.value.param == "tools"
    database = await (await native.application.process.get(TenantRegistry)).database(native.tenant)
    await database.execute("UPDATE responses SET tokens = 100000 WHERE id = 'resp_long'")
    with pytest.raises(openai.RateLimitError):
        await sdk.responses.create(model=MODEL, input="Hi", previous_response_id="resp_long")
    assert len(native.provider.calls) == 1
    assert {row["charged_tokens"] for row in (await native.ledger(2))} == {12, 0}


async def test_a_caller_who_leaves_closes_the_provider(native: Gateway) -> None:
    native.provider.will(Script((created("resp_left"), delta("x"), Stall())))
    body = {"model": MODEL, "input": "Hi", "stream": True}
    async with native.client.stream("POST", "/v1/responses", json=body) as answer:
        async for _ in answer.aiter_raw():
            break
    await asyncio.wait_for(native.provider.calls[0].ended.wait(), 5)
    (row,) = await native.ledger()
    assert row["outcome"] == "client_gone"


def test_the_wire_reads_what_an_event_tells() -> None:
    wire = Responses()
    for raw in (created("r"), delta("response.completed"), event("response.completed", response=response("r"))):
        assert wire.keep(raw.split(b"data: ")[1].strip())
    assert (wire.complete, wire.failed, wire.id, wire.items) == (True, False, "r", ("msg_r",))
    assert wire.used == Tokens(7, 5, cached=4, reasoning=2)
    assert response_tokens({"usage": {"input_tokens": -1, "output_tokens": 2}}) is None
