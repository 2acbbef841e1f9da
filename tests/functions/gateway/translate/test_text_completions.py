"""`/v1/completions` over models that have only chat."""

from __future__ import annotations

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
    google_error,
    message_delta,
    message_error,
    message_start,
    text_block,
)
from tests.functions.gateway.conftest import CLAUDES, Gateway
from tests.functions.gateway.translate.conftest import VERTEX_CLAUDE
from tests.functions.gateway.translate.test_openai_to_anthropic import sdk

CLAUDE, GEMINI = CLAUDES[0], "gemini-2.5-flash"
MODELS = [CLAUDE, GEMINI, f"known/{GEMINI}", f"known/{VERTEX_CLAUDE}"]


async def complete(gateway: Gateway, model: str = CLAUDE, **more: Any) -> Any:  # Any: an answer
    return await gateway.client.post("/v1/completions", json={"model": model, "prompt": "Once", **more})


@pytest.mark.parametrize("model", MODELS)
async def test_a_prompt_is_a_message_and_the_answer_a_text(known: Gateway, model: str) -> None:
    async with sdk(known) as client:
        made = await client.completions.create(
            model=model, prompt="Once", max_tokens=9, temperature=0.5, stop=["END"], best_of=1, echo=False
        )
    assert (made.object, made.choices[0].text, made.choices[0].finish_reason) == ("text_completion", "Hello", "stop")
    assert made.choices[0].logprobs is None
    assert made.id.startswith("cmpl-")
    assert made.usage is not None
    assert (made.usage.prompt_tokens, made.usage.completion_tokens) == (7, 3)
    (call,) = known.provider.calls
    assert "Once" in str(call.json.get("messages") or call.json.get("contents"))
    assert "END" in str(call.json)
    (row,) = await known.ledger()
    assert (row["feature"], row["outcome"]) == ("completions", "done")
    assert (row["input_tokens"], row["output_tokens"], row["cost_micro_usd"] > 0) == (7, 3, True)


@pytest.mark.parametrize("model", MODELS)
async def test_a_stream_is_the_same_text_in_pieces_with_usage_when_asked(known: Gateway, model: str) -> None:
    async with sdk(known) as client:
        stream = await client.completions.create(
            model=model, prompt=["Once"], stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
        bare = [chunk async for chunk in await client.completions.create(model=model, prompt="Once", stream=True)]
    for told in (chunks, bare):
        assert "".join(one.choices[0].text for one in told if one.choices) == "Hello world"
        assert [one.choices[0].finish_reason for one in told if one.choices][-1] == "stop"
        assert {one.object for one in told} == {"text_completion"}
        assert len({one.id for one in told}) == 1
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (7, 3)
    assert all(one.usage is None for one in bare)
    rows = await known.ledger(2)
    assert {(row["outcome"], row["input_tokens"], row["output_tokens"]) for row in rows} == {("done", 7, 3)}


async def test_what_was_thought_is_no_text_and_is_counted(known: Gateway) -> None:
    thinking = block(
        0, {"type": "thinking", "thinking": ""}, {"type": "thinking_delta", "thinking": "hm"},
        {"type": "signature_delta", "signature": "c2ln"},
    )  # fmt: skip
    steps = (message_start(), thinking, text_block("upon", index=1), message_delta(9), MESSAGE_STOP)
    known.provider.will(Script(steps))
    answer = await complete(known, stream=True)
    assert "hm" not in answer.text
    assert "upon" in answer.text
    assert answer.text.endswith("data: [DONE]\n\n")
    assert (await known.ledger())[0]["output_tokens"] == 9


async def test_several_answers_of_gemini_are_choices(known: Gateway) -> None:
    one, two = generated("a", finish="STOP"), generated("b", finish="MAX_TOKENS")
    two["candidates"][0]["index"] = 1
    both = {**one, "candidates": [*one["candidates"], *two["candidates"]]}
    known.provider.will(generated_stream(both))
    answer = await complete(known, GEMINI, n=2, stream=True)
    assert '"text": "a", "index": 0' in answer.text
    assert '"text": "b", "index": 1' in answer.text
    assert '"finish_reason": "length"' in answer.text
    assert known.provider.calls[0].json["generationConfig"]["candidate_count"] == 2


@pytest.mark.parametrize(
    ("more", "param"),
    [
        ({"suffix": " the end"}, "suffix"),
        ({"logprobs": 0}, "logprobs"),
        ({"logprobs": 3}, "logprobs"),
        ({"echo": True}, "echo"),
        ({"best_of": 2}, "best_of"),
        ({"prompt": [1, 2, 3]}, "prompt"),
        ({"prompt": [[1, 2]]}, "prompt"),
        ({"prompt": ["a", "b"]}, "prompt"),
        ({"messages": [{"role": "user", "content": "x"}]}, "messages"),
        ({"tools": [{"type": "function"}]}, "tools"),
        ({"guided_json": "{}"}, "guided_json"),
    ],
)
@pytest.mark.parametrize("model", [CLAUDE, GEMINI])
async def test_what_a_chat_cannot_do_is_refused_and_costs_nothing(
    known: Gateway, model: str, more: dict[str, Any], param: str
) -> None:
    answer = await complete(known, model, **more)
    told = answer.json()["error"]
    assert (answer.status_code, told["code"], told["param"]) == (400, "untranslatable", param)
    assert known.provider.calls == []
    (row,) = await known.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_several_answers_of_anthropic_are_refused(known: Gateway) -> None:
    answer = await complete(known, CLAUDE, n=2)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "n")


@pytest.mark.parametrize(
    ("model", "script"),
    [
        (CLAUDE, message_error(429, "rate_limit_error", "slow down", [("retry-after", "9")])),
        (GEMINI, google_error(429, "RESOURCE_EXHAUSTED", "slow down", [("retry-after", "9")])),
        (CLAUDE, error(429, "slow down", headers=[("retry-after", "9")])),
    ],
)
@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_keeps_status_and_wait_after_one_attempt(
    known: Gateway, model: str, script: Script, stream: bool
) -> None:
    known.provider.will(script)
    async with sdk(known) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.completions.create(model=model, prompt="Once", stream=stream)
    assert refused.value.response.headers["retry-after"] == "9"
    assert refused.value.response.json()["error"]["message"] == "slow down"
    assert len(known.provider.calls) == 1
    assert (await known.ledger())[0]["cost_micro_usd"] == 0


@pytest.mark.parametrize("end", [(), (Cut(),), (Stall(),), (b"data: {\n\n",)], ids=["nothing", "cut", "stall", "odd"])
async def test_a_broken_stream_ends_with_an_error_that_the_sdk_raises(known: Gateway, end: Any) -> None:
    known.provider.will(Script((message_start(), text_block("Hel"), *end)))
    async with sdk(known) as client:
        stream = await client.completions.create(model=CLAUDE, prompt="Once", stream=True)
        with pytest.raises(openai.APIError):
            async for _ in stream:
                pass
    (row,) = await known.ledger()
    assert (row["outcome"], row["usage_known"]) == ("cut", False)
