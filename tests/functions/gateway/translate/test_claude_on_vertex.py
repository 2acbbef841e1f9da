"""Claude on Vertex AI: Anthropic's messages under Google's paths, for who speaks Anthropic's dialect or OpenAI's."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import anthropic
import openai
import pytest

from tests.fixtures.provider import (
    MESSAGE_STOP,
    PING,
    Cut,
    Script,
    Stall,
    google_error,
    message_content,
    message_delta,
    message_error,
    message_event,
    message_start,
    text_block,
    whole,
)
from tests.functions.gateway.conftest import Gateway, serving
from tests.functions.gateway.translate.conftest import PROJECT, VERTEX_CLAUDE, account, store_vertex
from tests.functions.gateway.translate.test_openai_to_anthropic import called
from tests.functions.gateway.translate.test_openai_to_anthropic import sdk as openai_sdk

MODEL = f"known/{VERTEX_CLAUDE}"
CLAUDE_PATH = f"{PROJECT}/publishers/anthropic/models/{VERTEX_CLAUDE}"
HI: Any = [{"role": "user", "content": "Hi"}]  # Any: the SDK's own types are many
TOKEN = "ya29.scripted"
CACHED = {"cache_read_input_tokens": 1000, "cache_creation_input_tokens": 200}


def sdk(gateway: Gateway) -> anthropic.AsyncAnthropic:
    return anthropic.AsyncAnthropic(base_url=gateway.url, api_key=gateway.key, max_retries=0)


async def send(gateway: Gateway, path: str = "/v1/messages", **more: Any) -> Any:  # Any: an answer
    return await gateway.client.post(path, json={"model": MODEL, "max_tokens": 64, "messages": HI, **more})


def models_calls(gateway: Gateway) -> list[Any]:  # Any: a call as it arrived
    return [call for call in gateway.provider.calls if call.path != "/token"]


async def test_a_message_is_anthropics_with_the_model_in_the_path_and_the_version_in_the_body(known: Gateway) -> None:
    async with sdk(known) as client:
        answer = await client.beta.messages.create(
            model=MODEL, max_tokens=64, messages=HI, betas=["context-1m-2025-08-07"]
        )
    assert answer.content[0].type == "text"
    (call,) = models_calls(known)
    assert call.path == f"{CLAUDE_PATH}:rawPredict"
    assert call.json == {"max_tokens": 64, "messages": HI, "anthropic_version": "vertex-2023-10-16"}
    assert call.headers["authorization"] == f"Bearer {TOKEN}"
    assert call.headers["anthropic-beta"] == "context-1m-2025-08-07"
    assert "anthropic-version" not in call.headers
    assert "x-api-key" not in call.headers
    (row,) = await known.ledger()
    assert (row["outcome"], row["feature"], row["provider"]) == ("done", "messages", "known")
    assert (row["input_tokens"], row["output_tokens"], row["cost_micro_usd"]) == (7, 3, 66)


async def test_a_stream_is_passed_on_byte_for_byte(known: Gateway) -> None:
    odd = message_event("vertex_event", note="not Anthropic's")
    steps = (message_start(**CACHED), odd, PING, text_block("Hé", "llo"), message_delta(9), MESSAGE_STOP)
    known.provider.will(Script(steps))
    answer = await send(known, stream=True)
    assert answer.content == b"".join(steps)
    assert answer.headers["request-id"]
    (call,) = models_calls(known)
    assert (call.path, call.json["stream"]) == (f"{CLAUDE_PATH}:streamRawPredict", True)
    row = (await known.ledger())[-1]
    assert (row["outcome"], row["input_tokens"], row["cached_tokens"], row["output_tokens"]) == ("done", 1207, 1000, 9)
    assert row["cost_micro_usd"] == 1206  # 7 × 3 + 1000 × 0.3 + 200 × 3.75 + 9 × 15


async def test_the_sdk_reads_a_stream(known: Gateway) -> None:
    async with sdk(known) as client, client.messages.stream(model=MODEL, max_tokens=9, messages=HI) as stream:
        final = await stream.get_final_message()
    assert final.content[0].type == "text"
    assert final.content[0].text == "Hello world"


async def test_no_translator_is_needed_for_anthropics_own_dialect(known: Gateway) -> None:
    async with (
        serving(replace(known.application.process.settings, translate_url="")) as (_, served),
        known.at(served.llm_url) as client,
    ):
        answer = await client.post("/v1/messages", json={"model": MODEL, "max_tokens": 9, "messages": HI})
    assert answer.status_code == 200, answer.text


async def test_openais_sdk_gets_a_whole_answer(known: Gateway) -> None:
    async with openai_sdk(known) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=HI)
    assert answer.choices[0].message.content == "Hello"
    (call,) = models_calls(known)
    assert call.path == f"{CLAUDE_PATH}:rawPredict"
    told = call.json
    assert (told["anthropic_version"], "model" in told) == ("vertex-2023-10-16", False)
    assert told["max_tokens"] == 16_384
    assert call.headers["authorization"] == f"Bearer {TOKEN}"
    (row,) = await known.ledger()
    assert (row["feature"], row["provider"], row["cost_micro_usd"]) == ("chat", "known", 66)


async def test_openais_sdk_gets_a_stream_with_tools(known: Gateway) -> None:
    end = message_event("message_delta", delta={"stop_reason": "tool_use"}, usage={"output_tokens": 9})
    call = called(0, "toolu_1", '{"ci', 'ty": "Köln"}')
    known.provider.will(Script((message_start(**CACHED), PING, call, end, MESSAGE_STOP)))
    tools: Any = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    async with openai_sdk(known) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=HI, tools=tools, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    parts = [one.function for chunk in chunks if chunk.choices for one in chunk.choices[0].delta.tool_calls or ()]
    assert "".join((part and part.arguments) or "" for part in parts) == '{"city": "Köln"}'
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (1207, 9)
    assert models_calls(known)[0].path == f"{CLAUDE_PATH}:streamRawPredict"
    row = (await known.ledger())[-1]
    assert (row["input_tokens"], row["cached_tokens"], row["cost_micro_usd"]) == (1207, 1000, 1206)


def answered(part: dict[str, Any]) -> Script:  # Any: JSON
    return whole({**message_content({"input_tokens": 7, "output_tokens": 3}), "content": [part]})


async def test_openais_schema_is_asked_for_and_answered(known: Gateway) -> None:
    made = {"type": "tool_use", "id": "t", "name": "json_tool_call", "input": {"city": "Bonn"}}
    native = {"type": "text", "text": '{"city": "Bonn"}'}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}}}
    known.provider.usual, usual = lambda call: answered(made if "tools" in call.json else native), known.provider.usual
    try:
        answer = await known.chat(MODEL, response_format=form)
    finally:
        known.provider.usual = usual
    assert answer.json()["choices"][0]["message"]["content"].replace(" ", "") == '{"city":"Bonn"}'


@pytest.mark.parametrize("url", ["https://example.com/x.png", "gs://bucket/x.png"])
async def test_an_image_that_somebody_would_have_to_fetch_is_refused(known: Gateway, url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    answer = await known.chat(MODEL, messages=[{"role": "user", "content": content}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "untranslatable")
    assert models_calls(known) == []


REFUSALS = [
    (google_error(429, "RESOURCE_EXHAUSTED", f"slow down {TOKEN}", [("retry-after", "9")]), 429, "rate_limit_error"),
    (google_error(429, "RESOURCE_EXHAUSTED", f"slow down {TOKEN}", streamed=True), 429, "rate_limit_error"),
    (google_error(404, "NOT_FOUND", f"slow down {TOKEN}"), 404, "not_found_error"),
    (message_error(400, "invalid_request_error", f"slow down {TOKEN}"), 400, "invalid_request_error"),
    (message_error(529, "overloaded_error", f"slow down {TOKEN}"), 529, "overloaded_error"),
    (google_error(500, "INTERNAL", f"slow down {TOKEN}"), 500, "api_error"),
]


@pytest.mark.parametrize(("script", "status", "kind"), REFUSALS)
@pytest.mark.parametrize("stream", [False, True])
async def test_whoever_refuses_the_error_has_the_routes_shape_after_one_attempt(
    known: Gateway, script: Script, status: int, kind: str, stream: bool
) -> None:
    known.provider.will(script, script)
    async with sdk(known) as client:
        with pytest.raises(anthropic.APIStatusError) as refused:
            await client.messages.create(model=MODEL, max_tokens=9, messages=HI, stream=stream)
    answer = refused.value.response
    assert (answer.status_code, answer.json()["type"]) == (status, "error")
    assert (answer.json()["error"]["type"], answer.json()["error"]["message"]) == (kind, "slow down [key]")
    async with openai_sdk(known) as other:
        with pytest.raises(openai.APIStatusError) as openais:
            await other.chat.completions.create(model=MODEL, messages=HI, stream=stream)
    assert openais.value.status_code == status
    assert openais.value.response.json()["error"]["message"] == "slow down [key]"
    wanted = dict(script.headers).get("retry-after")
    assert answer.headers.get("retry-after") == openais.value.response.headers.get("retry-after") == wanted
    assert len(known.provider.calls) == 2
    rows = await known.ledger(2)
    assert {(row["outcome"], row["cost_micro_usd"]) for row in rows} == {("provider_error", 0)}


@pytest.mark.parametrize("end", [(), (Cut(),), (message_delta(),)], ids=["nothing", "cut", "no stop"])
@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_a_broken_stream_ends_with_an_error_and_one_row(known: Gateway, path: str, end: Any) -> None:
    known.provider.will(Script((message_start(), text_block("Hel"), *end)))
    answer = await send(known, path, stream=True)
    assert "Hel" in answer.text
    assert '"error"' in answer.text.splitlines()[-2]
    row = (await known.ledger())[-1]
    assert (row["outcome"], row["usage_known"]) == ("cut", end == (message_delta(),))


async def test_a_stall_in_a_translated_stream_is_an_error(known: Gateway) -> None:
    known.provider.will(Script((message_start(), text_block("Hel"), Stall())))
    answer = await known.chat(MODEL, stream=True)
    assert '"error"' in answer.text
    row = (await known.ledger())[-1]
    assert (row["outcome"], row["usage_known"]) == ("cut", False)


async def test_a_message_without_usage_is_of_unknown_cost(known: Gateway) -> None:
    content = {"id": "m", "type": "message", "role": "assistant", "content": [], "stop_reason": "end_turn"}
    known.provider.will(whole(content))
    answer = await send(known)
    assert (answer.status_code, answer.headers["x-dcoder-cost-micro-usd"]) == (200, "unknown")
    assert (await known.ledger())[-1]["usage_known"] is False


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/chat/completions"])
async def test_an_account_that_gets_no_token_costs_nothing(crossing: Gateway, path: str) -> None:
    assert (await store_vertex(crossing, account(crossing.provider.origin), name="nobody")).status_code == 200
    crossing.provider.will(whole({"error": "invalid_grant"}, status=400))
    answer = await send(crossing, path, model=f"nobody/{VERTEX_CLAUDE}")
    await crossing.client.delete("/v1/secrets/providers/nobody")
    error = answer.json()["error"]
    assert (answer.status_code, error.get("code") or error["details"]["error_code"]) == (502, "provider_access_refused")
    assert models_calls(crossing) == []
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_a_provider_at_a_forbidden_address_is_not_asked(crossing: Gateway) -> None:
    key = account(crossing.provider.origin)
    stored = await store_vertex(crossing, key, name="inside", base_url=f"http://169.254.169.254{PROJECT}")
    assert stored.status_code == 200, stored.text
    model = f"inside/{VERTEX_CLAUDE}"
    answers = [await send(crossing, model=model), await crossing.chat(model)]
    await crossing.client.delete("/v1/secrets/providers/inside")
    assert [answer.status_code for answer in answers] == [400, 400]
    assert "169.254.169.254" in answers[0].json()["error"]["message"]
    rows = await crossing.ledger(2)
    assert {(row["outcome"], row["cost_micro_usd"]) for row in rows} == {("provider_error", 0)}


async def test_its_tokens_are_counted_by_google_for_nothing(known: Gateway) -> None:
    async with sdk(known) as client:
        counted = await client.messages.count_tokens(model=MODEL, messages=HI)
    assert counted.input_tokens == 11
    (call,) = models_calls(known)
    assert call.path == f"{PROJECT}/publishers/anthropic/models/count-tokens:rawPredict"
    assert (call.json["model"], call.json["messages"]) == ("claude-sonnet-4-5", HI)
    (row,) = await known.ledger()
    assert (row["feature"], row["outcome"], row["cost_micro_usd"]) == ("count_tokens", "done", 0)


async def test_an_alias_leads_to_it_and_takes_away_what_vertex_refuses(known: Gateway) -> None:
    body = {
        "provider": "known",
        "model": VERTEX_CLAUDE,
        "defaults": {"temperature": 0.5},
        "request": {"without": ["output_config"]},
    }
    assert (await known.client.put("/v1/aliases/house-claude", json=body)).status_code == 200
    answer = await send(known, model="house-claude", output_config={"effort": "low"})
    assert answer.status_code == 200, answer.text
    told = models_calls(known)[0].json
    assert (told["temperature"], "model" in told, "output_config" in told) == (0.5, False, False)


async def test_responses_go_the_same_way(known: Gateway) -> None:
    async with openai_sdk(known) as client:
        made = await client.responses.create(model=MODEL, input="Hi")
        stream = await client.responses.create(model=MODEL, input="And?", previous_response_id=made.id, stream=True)
        kinds = [event.type async for event in stream]
    assert made.output_text == "Hello"
    assert kinds[-1] == "response.completed"
    second = models_calls(known)[1]
    assert second.path == f"{CLAUDE_PATH}:streamRawPredict"
    assert [one["role"] for one in second.json["messages"]] == ["user", "assistant", "user"]
    rows = await known.ledger(2)
    assert {(row["feature"], row["cost_micro_usd"]) for row in rows} == {("responses", 66)}
