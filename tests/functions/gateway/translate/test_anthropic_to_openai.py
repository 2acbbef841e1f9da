"""Anthropic's SDK and models whose provider speaks OpenAI's dialect, or Google's."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import pytest

from functions.gateway.translate.chat import Piece
from functions.gateway.translate.for_anthropic import Blocks
from shared.usage import Tokens
from tests.fixtures.provider import (
    DONE,
    FINISH,
    ROLE,
    Cut,
    Script,
    Stall,
    chunk,
    completion,
    error,
    generated,
    generated_stream,
    usage,
    usage_chunk,
    whole,
)
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway

MODEL = "gpt-4o-mini"
HI: Any = [{"role": "user", "content": "Hi"}]  # Any: the SDK's own types are many
WEATHER = {"name": "weather", "description": "outside", "input_schema": {"type": "object", "properties": {}}}


def sdk(gateway: Gateway) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)


async def send(gateway: Gateway, model: str = MODEL, **more: Any) -> httpx.Response:  # Any: JSON
    body = {"model": model, "max_tokens": 64, "messages": HI, **more}
    return await gateway.client.post("/v1/messages", json=body)


def part(index: int, arguments: str, **more: Any) -> bytes:  # Any: JSON
    call: dict[str, Any] = {"index": index, "function": {"arguments": arguments}}
    if more:
        call = {
            "index": index,
            "type": "function",
            "id": more["id"],
            "function": {"name": more["name"], "arguments": arguments},
        }
    return chunk({"tool_calls": [call]})


async def test_a_whole_message(crossing: Gateway) -> None:
    crossing.provider.will(completion("Hello", used=usage(7, 3, cached=2)))
    async with sdk(crossing) as client:
        answer = await client.messages.create(model=MODEL, max_tokens=64, messages=HI)
    assert (answer.content[0].type, getattr(answer.content[0], "text", "")) == ("text", "Hello")
    assert (answer.stop_reason, answer.model) == ("end_turn", MODEL)
    assert (answer.usage.input_tokens, answer.usage.cache_read_input_tokens, answer.usage.output_tokens) == (5, 2, 3)
    (call,) = crossing.provider.calls
    assert (call.path, call.headers["authorization"]) == ("/v1/chat/completions", f"Bearer {PROVIDER_KEY}")
    assert "x-api-key" not in call.headers
    assert call.json["max_tokens"] == 64
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["feature"], row["input_tokens"], row["cached_tokens"]) == ("done", "messages", 7, 2)


async def test_a_stream_of_text(crossing: Gateway) -> None:
    async with sdk(crossing) as client, client.messages.stream(model=MODEL, max_tokens=64, messages=HI) as stream:
        texts = [text async for text in stream.text_stream]
        final = await stream.get_final_message()
    assert texts == ["Hello", " world"]
    assert (final.stop_reason, final.usage.input_tokens, final.usage.output_tokens) == ("end_turn", 7, 3)
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["input_tokens"], row["output_tokens"]) == ("done", 7, 3)


async def test_tools_whose_fragments_interleave_come_as_one_block_after_the_other(crossing: Gateway) -> None:
    crossing.provider.will(
        Script(
            (
                ROLE,
                chunk({"reasoning_content": "hm"}),
                chunk({"content": "Let me see."}),
                part(0, "", id="call_a", name="weather"),
                part(0, '{"city": "K'),
                part(1, '{"city"', id="call_b", name="weather"),
                part(0, 'öln"}'),
                part(1, ': "Bonn"}'),
                chunk({}, finish="tool_calls"),
                usage_chunk(7, 9),
                DONE,
            )
        )
    )
    tools: Any = [WEATHER]
    async with (
        sdk(crossing) as client,
        client.messages.stream(model=MODEL, max_tokens=64, messages=HI, tools=tools) as stream,
    ):
        kinds = [event.type async for event in stream if event.type.startswith("content_block_st")]
        final = await stream.get_final_message()
    assert kinds == ["content_block_start", "content_block_stop"] * 4
    thought, text, first, second = final.content
    assert (thought.type, text.type) == ("thinking", "text")
    assert first.type == "tool_use"
    assert second.type == "tool_use"
    assert (first.id, first.name, first.input) == ("call_a", "weather", {"city": "Köln"})
    assert (second.id, second.input) == ("call_b", {"city": "Bonn"})
    assert (final.stop_reason, final.usage.output_tokens) == ("tool_use", 9)


async def test_a_whole_message_with_a_tools_call(crossing: Gateway) -> None:
    call = {"id": "call_a", "type": "function", "function": {"name": "weather", "arguments": '{"city": "Bonn"}'}}
    content = {
        "id": "c", "object": "chat.completion", "created": 1, "model": MODEL, "usage": usage(7, 3),
        "choices": [{"index": 0, "message": {"role": "assistant", "content": None, "tool_calls": [call]},
                     "finish_reason": "tool_calls"}],
    }  # fmt: skip
    crossing.provider.will(whole(content))
    told = (await send(crossing, tools=[WEATHER])).json()
    assert told["stop_reason"] == "tool_use"
    (made,) = told["content"]
    assert (made["type"], made["id"], made["input"]) == ("tool_use", "call_a", {"city": "Bonn"})


async def test_what_is_asked_is_said_in_openais_terms(crossing: Gateway) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "Look", "cache_control": {"type": "ephemeral"}}, image]},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t1", "name": "weather", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t1", "content": "rain"}]},
    ]
    more: Any = {"system": "Be brief.", "stop_sequences": ["END"], "temperature": 0.5, "metadata": {"user_id": "u"}}
    choice = {"type": "tool", "name": "weather", "disable_parallel_tool_use": True}
    answer = await send(crossing, messages=messages, tools=[WEATHER], tool_choice=choice, **more)
    assert answer.status_code == 200, answer.text
    told = crossing.provider.calls[0].json
    assert [one["role"] for one in told["messages"]] == ["system", "user", "assistant", "tool"]
    assert told["messages"][1]["content"] == [
        {"type": "text", "text": "Look"},
        {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}},
    ]
    assert told["messages"][3] == {"role": "tool", "tool_call_id": "t1", "content": "rain"}
    assert (told["stop"], told["temperature"], told["parallel_tool_calls"]) == (["END"], 0.5, False)
    assert told["tool_choice"] == {"type": "function", "function": {"name": "weather"}}
    assert "cache_control" not in json.dumps(told)


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (500, "api_error", anthropic.InternalServerError),
    ],
)
async def test_a_providers_error_comes_in_anthropics_shape_after_one_attempt(
    crossing: Gateway, status: int, kind: str, raised: type[anthropic.APIStatusError]
) -> None:
    crossing.provider.will(error(status, f"said {PROVIDER_KEY}", headers=[("retry-after", "7")]))
    async with sdk(crossing) as client:
        with pytest.raises(raised) as refused:
            await client.messages.create(model=MODEL, max_tokens=9, messages=HI)
    answer = refused.value.response
    assert (answer.status_code, answer.headers["retry-after"]) == (status, "7")
    assert answer.json()["error"] == {"type": kind, "message": "said [key]"}
    assert answer.headers["request-id"]
    assert len(crossing.provider.calls) == 1
    assert (await crossing.ledger())[0]["cost_micro_usd"] == 0


@pytest.mark.parametrize("end", [(), (Cut(),), (FINISH,), (Stall(),)], ids=["nothing", "cut", "no done", "stall"])
async def test_a_broken_stream_ends_with_an_error_that_the_sdk_raises(crossing: Gateway, end: Any) -> None:
    crossing.provider.will(Script((ROLE, chunk({"content": "Hel"}), *end)))
    async with sdk(crossing) as client:
        stream = await client.messages.create(model=MODEL, max_tokens=9, messages=HI, stream=True)
        with pytest.raises(anthropic.APIStatusError):
            async for _ in stream:
                pass
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["usage_known"]) == ("cut", False)


async def test_a_model_of_google_answers_anthropics_route_too(crossing: Gateway) -> None:
    crossing.provider.will(
        generated_stream(
            generated({"thought": True, "text": "hm"}),
            generated({"functionCall": {"name": "weather", "args": {"city": "Bonn"}}}, finish="STOP"),
        )
    )
    tools: Any = [WEATHER]
    async with (
        sdk(crossing) as client,
        client.messages.stream(model="gemini-2.5-flash", max_tokens=64, messages=HI, tools=tools) as stream,
    ):
        final = await stream.get_final_message()
    thought, tool = final.content
    assert thought.type == "thinking"
    assert tool.type == "tool_use"
    assert (tool.input, final.stop_reason) == ({"city": "Bonn"}, "tool_use")
    assert (await crossing.ledger())[0]["feature"] == "messages"


@pytest.mark.parametrize("more", [{"top_k": 5}, {"container": "c"}, {"mcp_servers": [{"url": "https://x"}]}])
async def test_what_openai_has_no_word_for_is_refused(crossing: Gateway, more: dict[str, Any]) -> None:
    answer = await send(crossing, **more)
    told = answer.json()["error"]
    assert (answer.status_code, told["type"]) == (400, "invalid_request_error")
    assert told["details"]["error_code"] == "untranslatable"
    assert crossing.provider.calls == []


async def test_an_alias_leads_to_it_with_its_defaults(crossing: Gateway) -> None:
    body = {"provider": "scripted", "model": MODEL, "defaults": {"temperature": 0.5}}
    assert (await crossing.client.put("/v1/aliases/ours", json=body)).status_code == 200
    async with sdk(crossing) as client, client.messages.stream(model="ours", max_tokens=64, messages=HI) as stream:
        final = await stream.get_final_message()
    assert (final.model, final.content[0].type) == ("ours", "text")
    told = crossing.provider.calls[0].json
    assert (told["model"], told["temperature"]) == (MODEL, 0.5)


async def test_a_document_is_a_file_and_what_spares_tokens_is_left_out(crossing: Gateway) -> None:
    pdf = {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": "JVBERi0="}}
    edits = {"edits": [{"type": "clear_tool_uses_20250919"}]}
    answer = await send(crossing, messages=[{"role": "user", "content": [pdf]}], context_management=edits)
    assert answer.status_code == 200, answer.text
    told = crossing.provider.calls[0].json
    (part,) = told["messages"][0]["content"]
    assert part == {
        "type": "file",
        "file": {"filename": "document.pdf", "file_data": "data:application/pdf;base64,JVBERi0="},
    }
    assert "context_management" not in told


def test_every_split_of_a_tools_arguments_gives_valid_blocks() -> None:
    text = json.dumps({"city": "Köln"})
    for at in range(len(text) + 1):
        blocks = Blocks("m", {})
        calls = [{"index": 0, "id": "a", "function": {"name": "w", "arguments": text[:at]}}]
        made = blocks.take(Piece(delta={"tool_calls": calls}))
        made += blocks.take(Piece(delta={"tool_calls": [{"index": 0, "function": {"arguments": text[at:]}}]}))
        made += blocks.take(Piece(finish="tool_calls")) + blocks.end(Tokens(7, 3))
        events = [json.loads(one.partition("data: ")[2]) for one in made.decode().split("\n\n") if one]
        parts = [one["delta"]["partial_json"] for one in events if one["type"] == "content_block_delta"]
        assert json.loads("".join(parts)) == {"city": "Köln"}
        assert [one["type"] for one in events][-3:] == ["content_block_stop", "message_delta", "message_stop"]
