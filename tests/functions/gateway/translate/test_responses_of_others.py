"""`/v1/responses` by OpenAI's SDK over models of Anthropic, Gemini and Vertex AI."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from tests.fixtures.provider import (
    MESSAGE_STOP,
    Cut,
    Script,
    Stall,
    block,
    error,
    generated,
    generated_stream,
    message_content,
    message_delta,
    message_start,
    text_block,
    whole,
)
from tests.functions.gateway.conftest import CLAUDES, Gateway
from tests.functions.gateway.translate.conftest import VERTEX_CLAUDE
from tests.functions.gateway.translate.test_openai_to_anthropic import called, sdk

CLAUDE, GEMINI = CLAUDES[0], "gemini-2.5-flash"
MODELS = [CLAUDE, GEMINI, f"known/{GEMINI}", f"known/{VERTEX_CLAUDE}"]
WEATHER: Any = {
    "type": "function", "name": "weather", "description": "outside", "strict": False,
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}  # fmt: skip


@pytest.mark.parametrize("model", MODELS)
async def test_a_conversation_goes_on_whole_and_streamed(known: Gateway, model: str) -> None:
    async with sdk(known) as client:
        first = await client.responses.create(model=model, input="Hi", instructions="Be brief.", max_output_tokens=99)
        assert (first.output_text, first.status) == ("Hello", "completed")
        async with client.responses.stream(model=model, input="And?", previous_response_id=first.id) as stream:
            kinds = [event.type async for event in stream]
            final = await stream.get_final_response()
    assert (kinds[0], kinds[-1], final.output_text) == ("response.created", "response.completed", "Hello world")
    assert final.usage is not None
    assert (final.usage.input_tokens, final.usage.output_tokens) == (7, 3)
    asked, again = (call.json for call in known.provider.calls)
    assert "Be brief." in json.dumps(asked)
    assert "99" in json.dumps(asked)
    turns = again.get("messages") or again["contents"]
    assert [one["role"] for one in turns][::2] == ["user", "user"]
    assert len(turns) == 3
    rows = await known.ledger(2)
    assert {(row["feature"], row["outcome"], row["input_tokens"]) for row in rows} == {("responses", "done", 7)}


CLAUDES_CALL = Script((message_start(), called(0, "toolu_1", '{"ci', 'ty": "Köln"}'), message_delta(9), MESSAGE_STOP))
GEMINIS_CALL = generated_stream(
    generated({"functionCall": {"name": "weather", "args": {"city": "Köln"}}}, finish="STOP")
)


@pytest.mark.parametrize(("model", "script"), [(CLAUDE, CLAUDES_CALL), (GEMINI, GEMINIS_CALL)])
async def test_a_function_is_called_and_its_output_sent_back(known: Gateway, model: str, script: Script) -> None:
    known.provider.will(script)
    async with sdk(known) as client:
        async with client.responses.stream(model=model, input="How is it?", tools=[WEATHER]) as stream:
            kinds = [event.type async for event in stream]
            made = await stream.get_final_response()
        call = made.output[-1]
        assert call.type == "function_call"
        assert (call.name, json.loads(call.arguments)) == ("weather", {"city": "Köln"})
        assert "response.function_call_arguments.delta" in kinds
        output: Any = [{"type": "function_call_output", "call_id": call.call_id, "output": "rain"}]
        after = await client.responses.create(model=model, input=output, tools=[WEATHER], previous_response_id=made.id)
    assert after.output_text == "Hello"
    told = json.dumps(known.provider.calls[1].json)
    assert "rain" in told
    assert "weather" in told


async def test_thoughts_come_as_reasoning_and_are_counted(known: Gateway) -> None:
    thinking = block(
        0, {"type": "thinking", "thinking": "", "signature": ""}, {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "c2ln"},
    )  # fmt: skip
    known.provider.will(
        Script((message_start(), thinking, text_block("so", index=1), message_delta(9), MESSAGE_STOP)),
        generated_stream(
            generated({"thought": True, "text": "hm"}, thoughtsTokenCount=4, totalTokenCount=14),
            generated("so", finish="STOP", thoughtsTokenCount=4, totalTokenCount=14),
        ),
    )
    async with sdk(known) as client:
        for model in (CLAUDE, GEMINI):
            async with client.responses.stream(model=model, input="Hi", reasoning={"effort": "low"}) as stream:
                final = await stream.get_final_response()
            assert [one.type for one in final.output] == ["reasoning", "message"]
            assert final.output_text == "so"
    claude, gemini = (call.json for call in known.provider.calls)
    assert claude["thinking"]["type"] == "enabled"
    assert gemini["generationConfig"]["thinkingConfig"]["includeThoughts"] is True
    rows = await known.ledger(2)
    assert [row["output_tokens"] for row in rows] == [9, 7]


@pytest.mark.parametrize("model", [CLAUDE, GEMINI])
async def test_a_schema_is_asked_for_in_the_providers_terms(known: Gateway, model: str) -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}
    form: Any = {"format": {"type": "json_schema", "name": "a", "schema": schema, "strict": True}}
    made = {**message_content({"input_tokens": 7, "output_tokens": 3}), "content": [{"type": "text", "text": "{}"}]}
    known.provider.will(whole(made if model == CLAUDE else generated("{}", finish="STOP")))
    async with sdk(known) as client:
        answer = await client.responses.create(model=model, input="Hi", text=form)
    assert answer.output_text == "{}"
    assert '"city"' in json.dumps(known.provider.calls[0].json)


@pytest.mark.parametrize("end", [(), (Cut(),), (Stall(),)], ids=["nothing", "cut", "stall"])
async def test_a_broken_stream_ends_with_a_failure_and_is_not_kept(known: Gateway, end: Any) -> None:
    known.provider.will(Script((message_start(), text_block("Hel"), *end)))
    async with sdk(known) as client:
        stream = await client.responses.create(model=CLAUDE, input="Hi", stream=True)
        events = [event async for event in stream]
        last: Any = events[-1]
        assert last.type == "response.failed"
        with pytest.raises(openai.NotFoundError):
            await client.responses.retrieve(last.response.id)
    (row,) = await known.ledger()
    assert (row["outcome"], row["usage_known"]) == ("cut", False)


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_is_openais_and_is_told_once(known: Gateway, stream: bool) -> None:
    known.provider.will(error(429, "slow down", headers=[("retry-after", "9")]))
    async with sdk(known) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.responses.create(model=GEMINI, input="Hi", stream=stream)
    assert refused.value.response.headers["retry-after"] == "9"
    assert len(known.provider.calls) == 1
    assert (await known.ledger())[0]["cost_micro_usd"] == 0


async def test_a_member_that_the_provider_has_no_word_for_is_refused(known: Gateway) -> None:
    answer = await known.client.post("/v1/responses", json={"model": CLAUDE, "input": "Hi", "top_logprobs": 3})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "untranslatable")
    assert known.provider.calls == []
