"""OpenAI's SDK and an alias whose provider speaks Anthropic's dialect."""

from __future__ import annotations

import openai

from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway

MODEL = "claude-sonnet-4-5"


def sdk(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


async def test_a_whole_answer(crossing: Gateway) -> None:
    async with sdk(crossing) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
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
            model=MODEL,
            messages=[{"role": "user", "content": "Hi"}],
            stream=True,
            stream_options={"include_usage": True},
        )
        chunks = [chunk async for chunk in stream]
    texts = [chunk.choices[0].delta.content for chunk in chunks if chunk.choices]
    assert texts == ["", "Hello", " world", None]
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (7, 3)
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["input_tokens"], row["output_tokens"], row["cost_micro_usd"]) == ("done", 7, 3, 66)
