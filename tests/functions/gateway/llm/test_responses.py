"""OpenAI's responses over chat completions: what SDKs see, what is kept, and whose it is."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import openai
import pytest

from functions.gateway.llm.responses import stored
from functions.gateway.llm.responses.asked import is_reference
from shared.tenancy import TenantRegistry
from tests.fixtures.provider import (
    DONE,
    FINISH,
    ROLE,
    Cut,
    Script,
    chunk,
    completion,
    error,
    event,
    stream,
    usage,
    usage_chunk,
)
from tests.functions.gateway.conftest import Gateway, limit, make_key

MODEL = "gpt-4o-mini"
TOOLS: Any = [{"type": "function", "name": "weather", "parameters": {"type": "object"}, "strict": True}]


@pytest.fixture
def sdk(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


def sdk_with(gateway: Gateway, key: str) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=key, max_retries=0)


def events_in(raw: bytes) -> list[dict[str, Any]]:  # Any: JSON
    found = []
    for one in raw.decode().strip().split("\n\n"):
        name, data = one.split("\n")
        told = json.loads(data.removeprefix("data: "))
        assert name == f"event: {told['type']}"
        found.append(told)
    assert [one["sequence_number"] for one in found] == list(range(len(found)))
    return found


async def test_the_sdk_gets_a_response_and_the_ledger_a_row(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    gateway.provider.will(completion("Hello", used=usage(7, 3, cached=2)))
    told = await sdk.responses.create(
        model=MODEL, input="Hi", instructions="Be kind", max_output_tokens=50, temperature=0.5, metadata={"a": "b"}
    )
    assert (told.output_text, told.status, told.to_dict()["store"]) == ("Hello", "completed", True)
    assert told.usage is not None
    assert (told.usage.input_tokens, told.usage.output_tokens) == (7, 3)
    assert told.usage.input_tokens_details.cached_tokens == 2
    assert (told.instructions, told.metadata, told.temperature) == ("Be kind", {"a": "b"}, 0.5)
    (call,) = gateway.provider.calls
    assert call.path == "/v1/chat/completions"
    assert call.json == {
        "model": MODEL,
        "temperature": 0.5,
        "max_tokens": 50,
        "messages": [{"role": "system", "content": "Be kind"}, {"role": "user", "content": "Hi"}],
    }
    (row,) = await gateway.ledger()
    assert (row["feature"], row["input_tokens"], row["output_tokens"]) == ("responses", 7, 3)


async def test_every_kind_of_input_reaches_the_chat(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    image, file = "data:image/png;base64,AA==", "data:application/pdf;base64,AA=="
    items: list[Any] = [  # Any: the SDK's unions
        {"role": "developer", "content": "Short"},
        {
            "role": "user",
            "content": [
                {"type": "input_text", "text": "Look"},
                {"type": "input_image", "image_url": image, "detail": "low"},
                {"type": "input_file", "filename": "a.pdf", "file_data": file},
            ],
        },
        {"type": "reasoning", "id": "rs_1", "summary": []},
        {
            "type": "message",
            "role": "assistant",
            "content": [{"type": "output_text", "text": "I will", "annotations": []}],
        },
        {"type": "function_call", "call_id": "c1", "name": "weather", "arguments": '{"at":"Oslo"}'},
        {"type": "function_call", "call_id": "c2", "name": "weather", "arguments": "{}"},
        {"type": "function_call_output", "call_id": "c1", "output": "rain"},
        {"type": "function_call_output", "call_id": "c2", "output": [{"type": "input_text", "text": "sun"}]},
    ]
    text: Any = {"verbosity": "low"}
    text["format"] = {"type": "json_schema", "name": "s", "schema": {"type": "object"}, "strict": True}
    await sdk.responses.create(
        model=MODEL,
        input=items,
        tools=TOOLS,
        tool_choice={"type": "function", "name": "weather"},
        parallel_tool_calls=False,
        text=text,
        reasoning={"effort": "low"},
        include=["message.output_text.logprobs"],
        extra_body={"top_k": 4},
    )
    asked = gateway.provider.calls[0].json
    calls = [
        {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at":"Oslo"}'}},
        {"id": "c2", "type": "function", "function": {"name": "weather", "arguments": "{}"}},
    ]
    assert asked == {
        "model": MODEL,
        "messages": [
            {"role": "developer", "content": "Short"},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look"},
                    {"type": "image_url", "image_url": {"url": image, "detail": "low"}},
                    {"type": "file", "file": {"filename": "a.pdf", "file_data": file}},
                ],
            },
            {"role": "assistant", "content": "I will", "tool_calls": calls},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
            {"role": "tool", "tool_call_id": "c2", "content": "sun"},
        ],
        "tools": [
            {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}, "strict": True}}
        ],
        "tool_choice": {"type": "function", "function": {"name": "weather"}},
        "parallel_tool_calls": False,
        "response_format": {
            "type": "json_schema", "json_schema": {"name": "s", "schema": {"type": "object"}, "strict": True},
        },
        "verbosity": "low",
        "reasoning_effort": "low",
        "logprobs": True,
        "top_k": 4,
    }  # fmt: skip


async def test_calls_reasoning_refusals_and_cut_answers_have_their_own_form(
    gateway: Gateway, sdk: openai.AsyncOpenAI
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    gateway.provider.will(completion("", tool_calls=[call], reasoning_content="Hm"))
    told = await sdk.responses.create(model=MODEL, input="Hi")
    assert [item.type for item in told.output] == ["reasoning", "function_call"]
    call_item = told.output[1].to_dict()
    assert (call_item["call_id"], call_item["arguments"]) == ("c1", "{}")
    gateway.provider.will(completion("", refusal="No"))
    told = await sdk.responses.create(model=MODEL, input="Hi")
    assert told.output[0].to_dict()["content"] == [{"type": "refusal", "refusal": "No"}]
    cut = completion("Hel")
    body = json.loads(b"".join(one for one in cut.steps if isinstance(one, bytes)))
    body["choices"][0]["finish_reason"] = "length"
    raw = json.dumps(body).encode()
    gateway.provider.will(
        Script((raw,), 200, (("content-type", "application/json"), ("content-length", str(len(raw)))))
    )
    told = await sdk.responses.create(model=MODEL, input="Hi")
    assert told.status == "incomplete"
    assert told.incomplete_details is not None
    assert told.incomplete_details.reason == "max_output_tokens"


async def test_a_stream_is_typed_events_in_the_sdks_order(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    gateway.provider.will(stream("Hel", "lo"))
    async with sdk.responses.stream(model=MODEL, input="Hi") as events:
        kinds = [event.type async for event in events]
        final = await events.get_final_response()
    assert kinds == [
        "response.created", "response.in_progress", "response.output_item.added", "response.content_part.added",
        "response.output_text.delta", "response.output_text.delta", "response.output_text.done",
        "response.content_part.done", "response.output_item.done", "response.completed",
    ]  # fmt: skip
    assert final.usage is not None
    assert (final.output_text, final.usage.total_tokens) == ("Hello", 10)
    kept = await sdk.responses.retrieve(final.id)
    assert kept.output_text == "Hello"
    (row,) = await gateway.ledger()
    assert (row["feature"], row["output_tokens"], row["outcome"]) == ("responses", 3, "done")


async def test_parallel_calls_whose_arguments_come_interleaved_are_each_told_whole(gateway: Gateway) -> None:
    def called(index: int, arguments: str, **more: Any) -> bytes:  # Any: JSON
        first = {"id": more["id"], "type": "function"} if more else {}
        function = {"arguments": arguments, **({"name": more["name"]} if more else {})}
        return chunk({"tool_calls": [{"index": index, **first, "function": function}]})

    gateway.provider.will(
        Script(
            (
                ROLE,
                chunk({"reasoning_content": "Let me "}),
                chunk({"reasoning_content": "see"}),
                chunk({"content": "I look"}),
                called(0, "", id="a", name="f"),
                called(1, '{"\u00e9', id="b", name="g"),
                called(0, '{"x":'),
                called(1, '":2}'),
                called(0, "1}"),
                chunk({}, finish="tool_calls"),
                usage_chunk(5, 6),
                DONE,
            )
        )
    )
    answer = await gateway.client.post("/v1/responses", json={"model": MODEL, "input": "Hi", "stream": True})
    told = events_in(answer.content)
    response = told[-1]["response"]
    assert [item["type"] for item in response["output"]] == ["reasoning", "message", "function_call", "function_call"]
    assert [item["status"] for item in response["output"]] == ["completed"] * 4
    assert response["output"][0]["content"] == [{"type": "reasoning_text", "text": "Let me see"}]
    assert [(item["call_id"], item["name"], item["arguments"]) for item in response["output"][2:]] == [
        ("a", "f", '{"x":1}'), ("b", "g", '{"\u00e9":2}'),
    ]  # fmt: skip
    for item in response["output"]:  # what is told in pieces, at its end, and at the end of all, is the same
        mine = [one for one in told if one.get("item_id") == item["id"]]
        pieces = "".join(one["delta"] for one in mine if one["type"].endswith(".delta"))
        whole = item.get("arguments") or item["content"][0]["text"]
        assert pieces == whole
        assert [
            one["item"] for one in told if one["type"].endswith("item.done") and one["item"]["id"] == item["id"]
        ] == [item]


@pytest.mark.parametrize(
    "tail", [(Cut(),), (), (event({"error": {"message": "overloaded"}}),)], ids=["cut", "end", "said"]
)
async def test_a_stream_that_breaks_ends_as_failed_and_is_not_kept(
    gateway: Gateway, sdk: openai.AsyncOpenAI, tail: tuple[Any, ...]
) -> None:
    gateway.provider.will(Script((ROLE, chunk({"content": "Hel"}), *tail)))
    stream = await sdk.responses.create(model=MODEL, input="Hi", stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.failed"
    assert last.response.error is not None
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(last.response.id)
    (row,) = await gateway.ledger()
    assert row["outcome"] in ("cut", "provider_error")


async def test_one_goes_on_from_another_with_all_that_was_said(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    gateway.provider.will(completion("", tool_calls=[call]), completion("Rain"), completion("Yes"))
    first = await sdk.responses.create(model=MODEL, input="Weather?", instructions="Short", tools=TOOLS)
    second = await sdk.responses.create(
        model=MODEL,
        previous_response_id=first.id,
        input=[{"type": "function_call_output", "call_id": "c1", "output": "rain"}],
    )
    third = await sdk.responses.create(model="house-model", previous_response_id=second.id, input="Sure?")
    assert third.previous_response_id == second.id
    assert gateway.provider.calls[2].json["messages"] == [  # instructions are not gone on from
        {"role": "user", "content": "Weather?"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        {"role": "assistant", "content": "Rain"},
        {"role": "user", "content": "Sure?"},
    ]
    assert len(await gateway.ledger(3)) == 3


async def test_an_item_can_stand_for_an_earlier_one(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    first = await sdk.responses.create(model=MODEL, input="Hi")
    items: Any = [{"type": "item_reference", "id": first.output[0].id}, {"role": "user", "content": "Go on"}]
    await sdk.responses.create(model=MODEL, input=items)
    assert gateway.provider.calls[1].json["messages"] == [
        {"role": "assistant", "content": "Hello"},
        {"role": "user", "content": "Go on"},
    ]
    items[0]["id"] = "msg_unknown"
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.create(model=MODEL, input=items)


async def test_what_came_before_is_bounded_before_it_is_read(
    gateway: Gateway, sdk: openai.AsyncOpenAI, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = await sdk.responses.create(model=MODEL, input="Hi")
    second = await sdk.responses.create(model=MODEL, previous_response_id=first.id, input="Go on")
    database = await (await gateway.application.process.get(TenantRegistry)).database(gateway.tenant)
    size = await database.fetchval("SELECT octet_length(sealed) FROM responses WHERE id = $1", second.id)
    monkeypatch.setattr(stored, "CHAIN_BYTES_MAX", size)
    with pytest.raises(openai.BadRequestError, match="what came before"):
        await sdk.responses.create(model=MODEL, previous_response_id=second.id, input="And on")
    items: Any = [{"type": "item_reference", "id": one.output[0].id} for one in (first, second)]
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.create(model=MODEL, input=items)
    assert len(gateway.provider.calls) == 2


async def test_what_was_put_in_can_be_listed_in_pages(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    items: Any = [{"role": "user", "content": str(number)} for number in range(5)]
    told = await sdk.responses.create(model=MODEL, input=items)
    page = await sdk.responses.input_items.list(told.id, limit=2, order="asc")
    found: Any = [item.to_dict() async for item in page]  # the SDK asks for the next pages itself
    assert [item["content"][0]["text"] for item in found] == ["0", "1", "2", "3", "4"]
    newest = await gateway.client.get(f"/v1/responses/{told.id}/input_items?limit=1")
    assert newest.json()["data"][0]["content"][0]["text"] == "4"
    assert newest.json()["has_more"] is True
    for query in ("limit=0", "limit=x", "limit=101", "after=x", "odd=1"):
        refused = await gateway.client.get(f"/v1/responses/{told.id}/input_items?{query}")
        assert refused.status_code == 400, query


async def test_what_is_not_to_be_kept_is_not_kept(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    told = await sdk.responses.create(model=MODEL, input="Hi", store=False)
    assert told.to_dict()["store"] is False
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(told.id)
    with pytest.raises(openai.NotFoundError) as gone:
        await sdk.responses.create(model=MODEL, input="Hi", previous_response_id=told.id)
    assert gone.value.code == "previous_response_not_found"
    assert len(gateway.provider.calls) == 1


async def test_a_deleted_response_is_gone_and_its_deletion_is_audited(
    gateway: Gateway, sdk: openai.AsyncOpenAI
) -> None:
    told = await sdk.responses.create(model=MODEL, input="Hi")
    await sdk.responses.delete(told.id)
    for gone in (sdk.responses.retrieve(told.id), sdk.responses.delete(told.id)):
        with pytest.raises(openai.NotFoundError):
            await gone
    database = await (await gateway.application.process.get(TenantRegistry)).database(gateway.tenant)
    records = [bytes(row["record"]) for row in await database.fetch("SELECT record FROM audit_outbox")]
    assert any(f"response/{told.id}".encode() in record for record in records)


async def test_another_key_finds_nothing_and_a_rotated_one_its_own(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    told = await sdk.responses.create(model=MODEL, input="Hi")
    item = told.output[0].id
    stranger = sdk_with(gateway, await make_key(gateway.application, gateway.tenant))
    reference: Any = [{"type": "item_reference", "id": item}]
    for foreign in (
        stranger.responses.retrieve(told.id),
        stranger.responses.input_items.list(told.id),
        stranger.responses.delete(told.id),
        stranger.responses.create(model=MODEL, input="Hi", previous_response_id=told.id),
        stranger.responses.create(model=MODEL, input=reference),
    ):
        with pytest.raises(openai.NotFoundError):
            await foreign
    own = gateway.key.split("_")[1]
    rotated = sdk_with(gateway, await make_key(gateway.application, gateway.tenant, tags=[f"key:{own}"]))
    assert (await rotated.responses.retrieve(told.id)).id == told.id
    assert len(gateway.provider.calls) == 1


async def test_a_key_that_may_use_the_model_no_longer_finds_nothing(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    told = await sdk.responses.create(model=MODEL, input="Hi")
    tags = [f"key:{gateway.key.split('_')[1]}"]
    narrow = sdk_with(gateway, await make_key(gateway.application, gateway.tenant, tags=tags, models=["house-model"]))
    for foreign in (
        narrow.responses.retrieve(told.id),
        narrow.responses.create(model="house-model", input="Hi", previous_response_id=told.id),
    ):
        with pytest.raises(openai.NotFoundError):
            await foreign


async def test_what_is_kept_is_sealed_and_goes_when_its_time_is_over(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    told = await sdk.responses.create(model=MODEL, input="a-secret-question")
    database = await (await gateway.application.process.get(TenantRegistry)).database(gateway.tenant)
    row = await database.fetchrow(
        "SELECT responses::text AS text, expires_at - created_at AS life FROM responses WHERE id = $1", told.id
    )
    assert row is not None
    assert b"a-secret-question".hex() not in row["text"]
    assert "a-secret-question" not in row["text"]
    assert row["life"].days == 30
    await database.execute("UPDATE responses SET expires_at = now() WHERE id = $1", told.id)
    with pytest.raises(openai.NotFoundError):
        await sdk.responses.retrieve(told.id)


async def test_a_response_is_not_streamed_again(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    told = await sdk.responses.create(model=MODEL, input="Hi")
    assert (await gateway.client.get(f"/v1/responses/{told.id}?stream=true")).status_code == 400


async def test_a_providers_error_is_passed_on(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    gateway.provider.will(error(429, "slow down", headers=[("retry-after", "7")]))
    with pytest.raises(openai.RateLimitError) as told:
        await sdk.responses.create(model=MODEL, input="Hi")
    assert told.value.response.headers["retry-after"] == "7"
    (row,) = await gateway.ledger()
    assert row["outcome"] == "provider_error"


async def test_doc_chat_answers_in_this_form_too(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    whole = await sdk.responses.create(model="doc-chat", input="What is nowhere in here?")
    assert whole.output_text
    stream = await sdk.responses.create(model="doc-chat", input="What is nowhere in here?", stream=True)
    last = [event async for event in stream][-1]
    assert last.type == "response.completed"
    assert last.response.output_text == whole.output_text
    assert gateway.provider.calls == []


async def test_a_hard_limit_holds_with_all_that_came_before(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    sdk = sdk_with(limited, key)
    limited.provider.will(completion("x" * 6000))
    first = await sdk.responses.create(model=MODEL, input="Hi")
    await limit(limited, scope="key", name=key.split("_")[1], metric="tokens", span="ever", amount=5000)
    with pytest.raises(openai.RateLimitError):
        await sdk.responses.create(model=MODEL, input="Hi", previous_response_id=first.id)
    assert (await sdk.responses.create(model=MODEL, input="Hi")).output_text == "Hello"
    assert len(limited.provider.calls) == 2


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"input": None}, "input"),
        ({"input": []}, "input"),
        ({"input": 7}, "input"),
        ({"input": ["a"]}, "input"),
        ({"input": [{"type": "item_reference"}]}, "input"),
        ({"input": [{"type": "computer_call", "id": "x"}]}, "input"),
        ({"input": [{"role": "user", "content": [7]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]}, "input"),
        ({"input": [{"role": "user", "content": [{"type": "input_text", "text": 7}]}]}, "input"),
        ({"background": True}, "background"),
        ({"conversation": "conv_1"}, "conversation"),
        ({"prompt": {"id": "p"}}, "prompt"),
        ({"previous_response_id": "../x"}, "previous_response_id"),
        ({"previous_response_id": 7}, "previous_response_id"),
        ({"store": "no"}, "store"),
        ({"tools": {}}, "tools"),
        ({"tools": [7]}, "tools"),
        ({"tools": [{"type": "web_search"}]}, "tools"),
        ({"tools": [{"type": "custom", "name": "x"}]}, "tools"),
        ({"tool_choice": {"type": "allowed_tools"}}, "tool_choice"),
        ({"text": 7}, "text"),
        ({"truncation": "auto"}, "truncation"),
        ({"max_output_tokens": 0}, "max_output_tokens"),
        ({"max_output_tokens": "many"}, "max_output_tokens"),
        ({"messages": []}, "messages"),
        ({"n": 2}, "n"),
        ({"Store": False}, "store"),
        ({"instructions": ["x"]}, "instructions"),
        ({"model": "nowhere"}, "model"),
        ({"model": "all-minilm-l6-v2"}, "model"),
    ],
)
async def test_bad_input_is_told_and_nothing_is_asked_or_charged(
    gateway: Gateway, more: dict[str, Any], param: str
) -> None:
    told = await gateway.client.post("/v1/responses", json={"model": MODEL, "input": "Hi", **more})
    assert told.status_code in (400, 404), told.text
    assert told.json()["error"]["param"] == param
    assert gateway.provider.calls == []
    assert await gateway.rows() == []


@pytest.mark.parametrize("response_id", ["nothing", "..%2Fmodels", "a%00b", "x" * 300, "%0d%0ax:y"])
async def test_an_id_that_is_none_is_not_found(gateway: Gateway, response_id: str) -> None:
    told = await gateway.client.get(f"/v1/responses/{response_id}")
    assert (told.status_code, gateway.provider.calls) == (404, [])


async def test_what_was_put_in_of_an_id_alone_is_a_reference() -> None:
    assert is_reference({"id": "msg_1"})
    assert is_reference({"type": "item_reference", "id": "msg_1"})
    assert not is_reference({"role": "user", "content": "x", "id": "msg_1"})


async def test_a_caller_who_leaves_ends_the_providers_stream(gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, *(chunk({"content": "x"}) for _ in range(3)), FINISH, Cut())))
    body = {"model": MODEL, "input": "Hi", "stream": True}
    async with gateway.client.stream("POST", "/v1/responses", json=body) as answer:
        async for _ in answer.aiter_raw():
            break
    await asyncio.wait_for(gateway.provider.calls[0].ended.wait(), 5)
    (row,) = await gateway.ledger()
    assert row["outcome"] in ("client_gone", "cut")
