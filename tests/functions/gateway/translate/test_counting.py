"""`/v1/messages/count_tokens` for models of every provider: by its own count, or by an estimate that says so."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import anthropic
import httpx
import pytest

from tests.fixtures.provider import Script, Stall, error, google_error, whole
from tests.functions.gateway.conftest import CLAUDES, Gateway, make_key, store
from tests.functions.gateway.translate.conftest import PROJECT
from tests.functions.gateway.translate.test_anthropic_to_openai import HI, WEATHER, sdk

GEMINI, VERTEX, OPENAI, GPT = "gemini-2.5-flash", "known/gemini-2.5-flash", "gpt-4o-mini", "gpt-4.1"
HEADER = "x-dcoder-token-count"


async def count(gateway: Gateway, model: str, **more: Any) -> httpx.Response:  # Any: JSON
    body = {"model": model, "messages": HI, **more}
    return await gateway.client.post("/v1/messages/count_tokens", json=body)


async def free(gateway: Gateway) -> None:
    """One row, which says that it cost nothing."""
    (row,) = await gateway.ledger()
    assert (row["feature"], row["cost_micro_usd"], row["usage_known"]) == ("count_tokens", 0, True)
    assert (row["input_tokens"], row["output_tokens"]) == (0, 0)


async def test_gemini_counts_the_whole_call(known: Gateway) -> None:
    tools: Any = [WEATHER]
    async with sdk(known) as client:
        counted = await client.messages.with_raw_response.count_tokens(
            model=GEMINI, messages=HI, system="Be brief.", tools=tools
        )
    assert (await counted.parse()).input_tokens == 11
    assert counted.headers[HEADER] == "provider"
    assert counted.headers["request-id"]
    (call,) = known.provider.calls
    assert call.path == f"/v1beta/models/{GEMINI}:countTokens"
    asked = call.json["generateContentRequest"]
    assert asked["model"] == f"models/{GEMINI}"
    assert asked["contents"] == [{"role": "user", "parts": [{"text": "Hi"}]}]
    assert asked["system_instruction"] == {"parts": [{"text": "Be brief."}]}
    assert asked["tools"][0]["function_declarations"][0]["name"] == "weather"
    await free(known)


async def test_vertex_counts_what_it_counts(known: Gateway) -> None:
    answer = await count(known, VERTEX, system="Be brief.", tools=[WEATHER])
    assert (answer.json(), answer.headers[HEADER]) == ({"input_tokens": 11}, "provider")
    (call,) = known.provider.calls
    assert call.path == f"{PROJECT}/publishers/google/models/{GEMINI}:countTokens"
    assert call.json.keys() == {"contents", "system_instruction", "tools"}
    await free(known)


async def test_anthropics_own_count_says_whose_it_is(known: Gateway) -> None:
    answer = await count(known, CLAUDES[0])
    assert (answer.json(), answer.headers[HEADER]) == ({"input_tokens": 11}, "provider")
    await free(known)


@pytest.fixture
async def openais(known: Gateway) -> AsyncIterator[Gateway]:
    """With a provider that is OpenAI itself."""
    await store(known.client, "openais", known.provider.base_url, [GPT], kind="openai")
    yield known
    await known.client.delete("/v1/secrets/providers/openais")


async def test_openai_itself_counts_the_input_of_a_response(openais: Gateway) -> None:
    turns = [
        *HI,
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "rain"}]},
    ]
    answer = await count(openais, GPT, messages=turns, system="Be brief.", tools=[WEATHER])
    assert (answer.json(), answer.headers[HEADER]) == ({"input_tokens": 11}, "provider")
    (call,) = openais.provider.calls
    assert call.path == "/v1/responses/input_tokens"
    assert (call.json["model"], call.json["instructions"]) == (GPT, "Be brief.")
    assert [one.get("type") or one["role"] for one in call.json["input"]] == [
        "user", "function_call", "function_call_output",
    ]  # fmt: skip
    assert call.json["tools"][0]["name"] == "weather"
    await free(openais)


async def test_who_is_stored_as_openai_and_has_no_count_is_estimated(openais: Gateway) -> None:
    openais.provider.will(error(404, "no such route"))
    answer = await count(openais, GPT)
    assert answer.headers[HEADER] == "estimate; tokenizer=o200k_base"
    assert answer.json()["input_tokens"] >= 1
    assert len(openais.provider.calls) == 1
    await free(openais)


async def test_what_openai_refuses_is_not_estimated(openais: Gateway) -> None:
    openais.provider.will(error(429, "slow down", headers=[("retry-after", "9")]))
    answer = await count(openais, GPT)
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "9")
    assert answer.json()["error"] == {"type": "rate_limit_error", "message": "slow down"}
    await free(openais)


async def test_openais_dialect_has_no_count_and_an_estimate_says_that_it_is_one(known: Gateway) -> None:
    async with sdk(known) as client:
        raw = await client.messages.with_raw_response.count_tokens(model=OPENAI, messages=HI)
    counted = await raw.parse()
    assert 1 <= counted.input_tokens <= 20
    assert raw.headers[HEADER] == "estimate; tokenizer=o200k_base"
    assert (counted.model_extra or {})["dcoder"] == {"estimated_by": "o200k_base"}
    assert known.provider.calls == []
    await free(known)


async def test_an_estimate_grows_with_system_tools_thinking_and_images(known: Gateway) -> None:
    image = {"type": "image", "source": {"type": "url", "url": "https://127.0.0.1:9/x.png"}}
    results = [
        {"role": "assistant", "content": [{"type": "tool_use", "id": "t", "name": "weather", "input": {"a": 1}}]},
        {"role": "user", "content": [{"type": "tool_result", "tool_use_id": "t", "content": "rain " * 50}]},
    ]
    bodies: list[dict[str, Any]] = [
        {},
        {"system": "Be brief."},
        {"system": "Be brief.", "tools": [WEATHER]},
        {"system": "Be brief.", "tools": [WEATHER], "messages": [*HI, *results]},
        {"system": "Be brief.", "tools": [WEATHER], "messages": [*HI, *results, {"role": "user", "content": [image]}]},
    ]
    answers = [await count(known, OPENAI, **body) for body in bodies]
    counts = [answer.json()["input_tokens"] for answer in answers]
    assert counts == sorted(set(counts))
    assert counts[3] - counts[2] >= 50


@pytest.mark.parametrize("model", [GEMINI, VERTEX])
async def test_a_refusal_is_told_once_in_anthropics_shape(known: Gateway, model: str) -> None:
    known.provider.will(google_error(429, "RESOURCE_EXHAUSTED", "slow down", [("retry-after", "9")]))
    async with sdk(known) as client:
        with pytest.raises(anthropic.RateLimitError) as refused:
            await client.messages.count_tokens(model=model, messages=HI)
    assert refused.value.response.headers["retry-after"] == "9"
    assert refused.value.response.json()["error"] == {"type": "rate_limit_error", "message": "slow down"}
    assert len(known.provider.calls) == 1
    await free(known)


BROKEN = [
    whole({"tokens": 11}),
    whole({"totalTokens": -1}),
    whole({"totalTokens": "11"}),
    whole(b"<html>"),
    whole(b'{"totalTokens": 1'),
]


@pytest.mark.parametrize("script", BROKEN)
async def test_an_answer_without_a_count_is_an_error_and_never_a_zero(known: Gateway, script: Script) -> None:
    known.provider.will(script)
    answer = await count(known, GEMINI)
    assert answer.status_code == 502
    assert answer.json()["error"]["details"]["error_code"] == "answer_untranslatable"
    await free(known)


async def test_a_provider_that_goes_silent_costs_nothing(known: Gateway) -> None:
    known.provider.will(Script((), before=(Stall(),)))
    answer = await count(known, GEMINI)
    assert (answer.status_code, answer.json()["error"]["type"]) == (504, "timeout_error")
    await free(known)


async def test_a_count_is_of_models_that_the_key_may_use(known: Gateway) -> None:
    key = await make_key(known.application, known.tenant, role="member", models=[OPENAI])
    async with known.with_key(key) as client:
        body = {"model": GEMINI, "messages": HI}
        assert (await client.post("/v1/messages/count_tokens", json=body)).status_code == 404
    assert known.provider.calls == []


async def test_doc_chat_is_counted_by_nobody(known: Gateway) -> None:
    answer = await count(known, "doc-chat")
    assert (answer.status_code, answer.json()["error"]["details"]["error_code"]) == (400, "other_dialect")
