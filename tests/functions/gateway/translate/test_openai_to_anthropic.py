"""OpenAI's SDK and a model whose provider speaks Anthropic's dialect."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import httpx
import openai
import pytest

from tests.fixtures.provider import (
    MESSAGE_STOP,
    PING,
    Cut,
    Pause,
    Script,
    Stall,
    block,
    message,
    message_delta,
    message_error,
    message_event,
    message_start,
    text_block,
    whole,
)
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway, limit, make_key, question

MODEL = "claude-sonnet-4-5"
HI: Any = [{"role": "user", "content": "Hi"}]  # Any: the SDK's own types are many
WEATHER = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "how it is outside",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
    },
}
THINKING = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "hm é"},
    {"type": "signature_delta", "signature": "c2ln"},
)


def called(index: int, ident: str, *parts: str) -> bytes:
    start = {"type": "tool_use", "id": ident, "name": "weather", "input": {}}
    return block(index, start, *({"type": "input_json_delta", "partial_json": part} for part in parts))


def sdk(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


async def events_of(gateway: Gateway, **more: Any) -> list[Any]:  # Any: JSON
    """What a stream's events hold, `[DONE]` as a text."""
    answer = await gateway.chat(MODEL, stream=True, **more)
    assert answer.status_code == 200, answer.text
    lines = [line.removeprefix("data: ") for line in answer.text.split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


async def test_a_whole_answer(crossing: Gateway) -> None:
    async with sdk(crossing) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=HI)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "stop")
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (7, 3)
    (call,) = crossing.provider.calls
    assert (call.path, call.headers["x-api-key"]) == ("/v1/messages", PROVIDER_KEY)
    assert call.json["max_tokens"] == 16_384
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["feature"], row["provider"]) == ("done", "chat", "claudes")
    assert (row["input_tokens"], row["output_tokens"], row["cost_micro_usd"]) == (7, 3, 66)


async def test_a_stream(crossing: Gateway) -> None:
    async with sdk(crossing) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=HI, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    assert [chunk.choices[0].delta.content for chunk in chunks if chunk.choices] == ["", "Hello", " world", None]
    assert len({chunk.id for chunk in chunks}) == 1
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (7, 3)
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["input_tokens"], row["output_tokens"], row["cost_micro_usd"]) == ("done", 7, 3, 66)


async def test_who_did_not_ask_for_usage_gets_none_and_nothing_of_ours(crossing: Gateway) -> None:
    events = await events_of(crossing)
    assert events[-1] == "[DONE]"
    assert all("usage" not in event and "dcoder" not in event for event in events[:-1])
    assert (await crossing.ledger())[0]["cost_micro_usd"] == 66


async def test_frames_arrive_as_they_are_made(crossing: Gateway) -> None:
    crossing.provider.will(Script((message_start(), text_block("early"), Pause(5.0), message_delta(), MESSAGE_STOP)))
    body = question(MODEL, stream=True)
    async with crossing.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async with asyncio.timeout(4):
            async for line in answer.aiter_lines():
                if "early" in line:
                    break


async def test_tools_called_side_by_side_keep_each_fragment_of_their_arguments(crossing: Gateway) -> None:
    first, second = called(1, "toolu_1", "", '{"ci', 'ty": "Köln"}'), called(2, "toolu_2", '{"city": ', '"Bonn"}')
    written = b"".join([message_start(), PING, THINKING, first, second])
    end = message_event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9})
    whole_stream = b"".join([written, end, MESSAGE_STOP])
    crossing.provider.will(Script(tuple(whole_stream[at : at + 7] for at in range(0, len(whole_stream), 7))))
    events = await events_of(crossing, tools=[WEATHER], tool_choice="auto")
    deltas = [event["choices"][0]["delta"] for event in events[:-1]]
    calls: dict[int, list[str]] = {}
    for delta in deltas:
        for part in delta.get("tool_calls", ()):
            calls.setdefault(part["index"], []).append(part["function"].get("arguments", ""))
    assert {at: json.loads("".join(parts)) for at, parts in calls.items()} == {0: {"city": "Köln"}, 1: {"city": "Bonn"}}
    named = [part for delta in deltas for part in delta.get("tool_calls", ()) if "id" in part]
    assert [(one["id"], one["type"], one["function"]["name"]) for one in named] == [
        ("toolu_1", "function", "weather"),
        ("toolu_2", "function", "weather"),
    ]
    assert "".join(delta.get("reasoning_content", "") for delta in deltas) == "hm é"
    assert [b["signature"] for delta in deltas for b in delta.get("thinking_blocks", ()) if "signature" in b] == [
        "c2ln"
    ]
    assert events[-2]["choices"][0]["finish_reason"] == "tool_calls"
    assert (await crossing.ledger())[0]["output_tokens"] == 9


async def test_the_sdk_puts_a_streamed_tool_call_together(crossing: Gateway) -> None:
    end = message_event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9})
    crossing.provider.will(Script((message_start(), called(0, "toolu_1", '{"city"', ': "Bonn"}'), end, MESSAGE_STOP)))
    tools: Any = [WEATHER]
    async with (
        sdk(crossing) as client,
        client.chat.completions.stream(model=MODEL, messages=HI, tools=tools) as stream,
    ):
        final = await stream.get_final_completion()
    assert final.choices[0].message.tool_calls is not None
    (made,) = final.choices[0].message.tool_calls
    assert (made.id, made.function.name, made.function.arguments) == ("toolu_1", "weather", '{"city": "Bonn"}')


async def test_what_is_asked_is_said_in_anthropics_terms(crossing: Gateway) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    earlier = {"id": "call_1", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
    messages = [
        {"role": "developer", "content": "Be brief."},
        {"role": "user", "content": [{"type": "text", "text": "Look"}, image]},
        {"role": "assistant", "content": None, "tool_calls": [earlier]},
        {"role": "tool", "tool_call_id": "call_1", "content": "rain"},
    ]
    schema = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    form = {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}}
    asked = {"tools": [WEATHER], "stop": ["END"], "max_tokens": 4096, "reasoning_effort": "low", "user": "u-1"}
    answer = await crossing.client.post(
        "/v1/chat/completions", json={"model": MODEL, "messages": messages, "response_format": form, **asked}
    )
    assert answer.status_code == 200, answer.text
    told = crossing.provider.calls[0].json
    assert told["system"] == [{"type": "text", "text": "Be brief."}]
    assert told["messages"][0]["content"][1]["source"] == {
        "type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo=",
    }  # fmt: skip
    assert told["messages"][1]["content"][0]["input"] == {"city": "Bonn"}
    assert told["messages"][2]["content"][0] == {"type": "tool_result", "tool_use_id": "call_1", "content": "rain"}
    assert told["tools"][0]["input_schema"]["required"] == ["city"]
    assert (told["stop_sequences"], told["max_tokens"]) == (["END"], 4096)
    assert told["thinking"]["type"] == "enabled"
    assert told["output_format"]["schema"]["required"] == ["a"]


async def test_what_was_read_from_a_cache_and_written_to_it_costs_what_it_costs_without_translation(
    crossing: Gateway,
) -> None:
    """The same counts as for Anthropic's own route: 7 × 3 + 10 × 0.3 + 60 × 3.75 + 40 × 6 + 3 × 15 micro-USD."""
    counts = {"cache_creation_input_tokens": 100, "cache_read_input_tokens": 10}
    crossing.provider.will(message(**counts, cache_creation={"ephemeral_1h_input_tokens": 40}))
    answer = await crossing.chat(MODEL)
    assert answer.headers["x-dcoder-cost-micro-usd"] == str(21 + 3 + 225 + 240 + 45)
    usage = answer.json()["usage"]
    assert (usage["prompt_tokens"], usage["prompt_tokens_details"]["cached_tokens"]) == (117, 10)
    (row,) = await crossing.ledger()
    assert (row["input_tokens"], row["cached_tokens"], row["cost_micro_usd"]) == (117, 10, 534)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", openai.BadRequestError),
        (429, "rate_limit_error", openai.RateLimitError),
        (500, "api_error", openai.InternalServerError),
        (529, "overloaded_error", openai.InternalServerError),
    ],
)
async def test_a_providers_error_keeps_its_status_and_its_wait_after_one_attempt(
    crossing: Gateway, status: int, kind: str, raised: type[openai.APIStatusError], stream: bool
) -> None:
    crossing.provider.will(message_error(status, kind, f"said {PROVIDER_KEY}", [("retry-after", "7"), ("x-own", "1")]))
    async with sdk(crossing) as client:
        with pytest.raises(raised) as refused:
            await client.chat.completions.create(model=MODEL, messages=HI, stream=stream)
    answer = refused.value.response
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert "x-own" not in answer.headers
    assert answer.json()["error"]["message"] == "said [key]"
    assert len(crossing.provider.calls) == 1
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


@pytest.mark.parametrize(
    "end", [(), (Cut(),), (b"event: content_bl", Cut()), (Stall(),)], ids=["no stop", "cut", "half an event", "stall"]
)
async def test_a_broken_stream_ends_with_an_error_that_the_sdk_raises(crossing: Gateway, end: Any) -> None:
    crossing.provider.will(Script((message_start(), text_block("Hel"), *end)))
    async with sdk(crossing) as client:
        stream = await client.chat.completions.create(model=MODEL, messages=HI, stream=True)
        got: list[str | None] = []

        async def read() -> None:
            async for chunk in stream:
                got.append(chunk.choices[0].delta.content)

        with pytest.raises(openai.APIError):
            await read()
    assert "".join(filter(None, got)) == "Hel"
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["usage_known"]) == ("cut", False)
    assert len(crossing.provider.calls) == 1


async def test_an_error_in_a_stream_is_told_and_no_other_attempt_is_made(crossing: Gateway) -> None:
    own = message_event("error", error={"type": "overloaded_error", "message": "busy"})
    crossing.provider.will(Script((message_start(), text_block("Hel"), own)))
    answer = await crossing.chat(MODEL, stream=True)
    assert "busy" in answer.text
    assert "[DONE]" not in answer.text
    assert len(crossing.provider.calls) == 1
    assert (await crossing.ledger())[0]["outcome"] == "cut"


@pytest.mark.parametrize("before", [(Stall(),), (Cut(),)], ids=["stall", "cut"])
async def test_a_provider_that_does_not_answer_is_charged_as_unknown(crossing: Gateway, before: Any) -> None:
    crossing.provider.will(Script((), before=before))
    answer = await crossing.chat(MODEL)
    assert answer.status_code == (504 if before == (Stall(),) else 503)
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["usage_known"]) == ("provider_error", False)
    assert len(crossing.provider.calls) == 1


async def test_a_provider_that_is_not_there_costs_nothing(crossing: Gateway) -> None:
    body = {"kind": "anthropic", "base_url": "http://127.0.0.1:9", "api_key": "k", "models": ["away"], "check": False}
    await crossing.client.put("/v1/secrets/providers/away", json=body)
    answer = await crossing.chat("away/away")
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "provider_unreachable")
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["cost_micro_usd"] or 0) == ("provider_error", 0)


async def test_a_caller_who_goes_ends_the_providers_work(crossing: Gateway) -> None:
    crossing.provider.will(Script((message_start(), text_block("Hel"), Stall())))
    body = question(MODEL, stream=True)
    async with crossing.client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if "Hel" in line:
                break
    (call,) = crossing.provider.calls
    await until(call.ended.is_set)
    assert call.closed_early
    (row,) = await crossing.ledger()
    assert row["outcome"] == "client_gone"


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"n": 2}, "n"),
        ({"logprobs": True}, "logprobs"),
        ({"frequency_penalty": 0.5}, "frequency_penalty"),
        ({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1/x.png"}}]}]},
         "image_url"),
        ({"messages": [{"role": "nobody"}]}, None),
    ],
)  # fmt: skip
async def test_what_cannot_be_carried_is_refused_and_nothing_is_asked(
    crossing: Gateway, more: dict[str, Any], param: str | None
) -> None:
    answer = await crossing.client.post("/v1/chat/completions", json={**question(MODEL), **more})
    told = answer.json()["error"]
    assert (answer.status_code, told["code"], told["param"]) == (400, "untranslatable", param)
    assert crossing.provider.calls == []
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_what_changes_nothing_is_left_out(crossing: Gateway) -> None:
    answer = await crossing.chat(MODEL, n=1, seed=3, store=False, user="u@x", frequency_penalty=0, metadata={"a": "b"})
    assert answer.status_code == 200, answer.text
    assert not {"n", "seed", "store", "frequency_penalty"} & crossing.provider.calls[0].json.keys()


@pytest.mark.parametrize("body", [b"<html>", b'{"type": "message"}', b"[]", b'{"content": 7}'])
async def test_an_answer_that_is_none_is_a_documented_error(crossing: Gateway, body: bytes) -> None:
    crossing.provider.will(whole(body))
    answer = await crossing.chat(MODEL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "answer_untranslatable")
    assert (await crossing.ledger())[0]["outcome"] == "provider_error"


async def test_a_redirect_is_not_followed_and_costs_nothing(crossing: Gateway) -> None:
    crossing.provider.will(whole(b"", status=307, headers=[("location", f"{crossing.provider.origin}/elsewhere")]))
    answer = await crossing.chat(MODEL)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "answer_untranslatable")
    assert len(crossing.provider.calls) == 1
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_under_a_budget_the_provider_is_told_how_long_the_answer_may_be(crossing: Gateway) -> None:
    """15 micro-USD a token of this model's output."""
    key = await make_key(crossing.application, crossing.tenant)
    made = await limit(
        crossing, scope="key", name=key.split("_")[1], metric="micro_usd", span="calendar:day", amount=20_000
    )
    try:
        async with crossing.with_key(key) as client:
            for model in (MODEL, "gemini-2.5-flash"):
                answer = await client.post("/v1/chat/completions", json=question(model))
                assert answer.status_code == 200, answer.text
    finally:
        await crossing.control.execute("DELETE FROM quotas WHERE id = $1", made)
        await asyncio.sleep(0.5)  # no process remembers a quota for longer
    claude, gemini = crossing.provider.calls
    assert 256 <= claude.json["max_tokens"] <= 20_000 // 15
    assert 256 <= gemini.json["generationConfig"]["max_output_tokens"] <= 16_384


async def test_an_alias_leads_to_it_with_its_defaults(crossing: Gateway) -> None:
    body = {"provider": "claudes", "model": MODEL, "defaults": {"temperature": 0.5, "max_tokens": 77}}
    stored = await crossing.client.put("/v1/aliases/house", json=body)
    assert stored.status_code == 200, stored.text
    async with sdk(crossing) as client:
        answer = await client.chat.completions.create(model="house", messages=HI)
    assert answer.choices[0].message.content == "Hello"
    told = crossing.provider.calls[0].json
    assert (told["model"], told["temperature"], told["max_tokens"]) == (MODEL, 0.5, 77)


async def test_a_response_goes_the_same_way(crossing: Gateway) -> None:
    async with sdk(crossing) as client:
        whole_one = await client.responses.create(model=MODEL, input="Hi")
        stream = await client.responses.create(model=MODEL, input="Hi", stream=True)
        kinds = [event.type async for event in stream]
    assert whole_one.output_text == "Hello"
    assert kinds[-1] == "response.completed"
    rows = await crossing.ledger(2)
    assert {(row["feature"], row["outcome"], row["cost_micro_usd"]) for row in rows} == {("responses", "done", 66)}


async def test_many_calls_at_once_are_each_one_row_and_one_call(crossing: Gateway) -> None:
    async def ask(number: int) -> int:
        limits = httpx.Limits(max_connections=40)
        async with httpx.AsyncClient(
            base_url=crossing.url, headers=crossing.client.headers, timeout=60, limits=limits
        ) as client:
            answer = await client.post("/v1/chat/completions", json=question(MODEL, stream=number % 2 == 0))
            return answer.status_code

    statuses = await asyncio.gather(*(ask(number) for number in range(40)))
    assert statuses == [200] * 40
    rows = await crossing.ledger(40)
    assert len(rows) == len(crossing.provider.calls) == 40
    assert {(row["outcome"], row["cost_micro_usd"]) for row in rows} == {("done", 66)}
