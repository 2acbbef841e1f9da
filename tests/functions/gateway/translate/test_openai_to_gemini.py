"""OpenAI's SDK and models of Gemini and of Vertex AI, in Google's own format."""

from __future__ import annotations

import base64
import json
from typing import Any

import openai
import pytest
from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
from cryptography.hazmat.primitives.hashes import SHA256

from tests.fixtures.provider import (
    Cut,
    Script,
    access_token,
    event,
    generated,
    generated_stream,
    google_error,
    whole,
)
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway
from tests.functions.gateway.translate.conftest import KEY, PROJECT, account, store_vertex
from tests.functions.gateway.translate.test_openai_to_anthropic import HI, WEATHER, sdk

MODEL = "gemini-2.5-flash"
VERTEX = f"vertex/{MODEL}"


async def test_a_whole_answer(crossing: Gateway) -> None:
    async with sdk(crossing) as client:
        answer = await client.chat.completions.create(model=MODEL, messages=HI)
    assert (answer.choices[0].message.content, answer.choices[0].finish_reason) == ("Hello", "stop")
    (call,) = crossing.provider.calls
    assert call.path == f"/v1beta/models/{MODEL}:generateContent"
    assert call.headers["x-goog-api-key"] == PROVIDER_KEY
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["provider"], row["input_tokens"], row["output_tokens"]) == ("done", "geminis", 7, 3)
    assert row["cost_micro_usd"] == 10  # 7 × 0.3 + 3 × 2.5, rounded up


async def test_a_stream_with_thoughts_tools_and_usage_that_counts_both(crossing: Gateway) -> None:
    """Thoughts are billed beside the candidates; each event tells the whole so far."""
    crossing.provider.will(
        generated_stream(
            generated({"thought": True, "text": "hm"}, thoughtsTokenCount=4, totalTokenCount=14),
            generated("Let me "),
            generated("see.", {"functionCall": {"name": "weather", "args": {"city": "Köln"}}}),
            generated({"functionCall": {"name": "weather", "args": {"city": "Bonn"}}}),
            generated(finish="STOP", thoughtsTokenCount=4, cachedContentTokenCount=2, totalTokenCount=14),
        )
    )
    tools: Any = [WEATHER]
    async with sdk(crossing) as client:
        stream = await client.chat.completions.create(
            model=MODEL, messages=HI, tools=tools, stream=True, stream_options={"include_usage": True}
        )
        chunks = [chunk async for chunk in stream]
    deltas = [chunk.choices[0].delta for chunk in chunks if chunk.choices]
    assert "".join(delta.content or "" for delta in deltas) == "Let me see."
    assert [getattr(delta, "reasoning_content", None) for delta in deltas].count("hm") == 1
    calls = [call for delta in deltas for call in delta.tool_calls or ()]
    assert [(one.index, json.loads((one.function and one.function.arguments) or "")) for one in calls] == [
        (0, {"city": "Köln"}),
        (1, {"city": "Bonn"}),
    ]
    assert len({one.id for one in calls}) == 2
    reasons = [chunk.choices[0].finish_reason for chunk in chunks if chunk.choices]
    assert [reason for reason in reasons if reason] == ["tool_calls"]
    assert chunks[-1].usage is not None
    assert (chunks[-1].usage.prompt_tokens, chunks[-1].usage.completion_tokens) == (7, 7)
    (row,) = await crossing.ledger()
    assert (row["input_tokens"], row["cached_tokens"], row["output_tokens"]) == (7, 2, 7)


async def test_what_is_asked_is_said_in_googles_terms(crossing: Gateway) -> None:
    image = {"type": "image_url", "image_url": {"url": "data:image/png;base64,iVBORw0KGgo="}}
    form = {"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "object", "properties": {}}}}
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": [image]}]
    body = {"model": MODEL, "messages": messages, "response_format": form, "max_tokens": 99, "seed": 3, "n": 2}
    answer = await crossing.client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text
    told = crossing.provider.calls[0].json
    assert told["system_instruction"] == {"parts": [{"text": "Be brief."}]}
    assert told["contents"][0]["parts"][0]["inline_data"] == {"mime_type": "image/png", "data": "iVBORw0KGgo="}
    made = told["generationConfig"]
    assert (made["max_output_tokens"], made["seed"], made["candidate_count"]) == (99, 3, 2)
    assert made["response_mime_type"] == "application/json"


@pytest.mark.parametrize("url", ["https://127.0.0.1/x.png", "https://example.com/x.png", "gs://bucket/x.png"])
async def test_an_image_that_somebody_would_have_to_fetch_is_refused(crossing: Gateway, url: str) -> None:
    content = [{"type": "image_url", "image_url": {"url": url}}]
    answer = await crossing.chat(MODEL, messages=[{"role": "user", "content": content}])
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "untranslatable")
    assert crossing.provider.calls == []


@pytest.mark.parametrize("stream", [False, True])
async def test_a_refusal_keeps_status_and_wait(crossing: Gateway, stream: bool) -> None:
    refusal = google_error(429, "RESOURCE_EXHAUSTED", "slow down", [("retry-after", "9")], streamed=stream)
    crossing.provider.will(refusal)
    async with sdk(crossing) as client:
        with pytest.raises(openai.RateLimitError) as refused:
            await client.chat.completions.create(model=MODEL, messages=HI, stream=stream)
    assert refused.value.response.headers["retry-after"] == "9"
    assert refused.value.response.json()["error"]["message"] == "slow down"
    assert len(crossing.provider.calls) == 1


async def test_a_blocked_prompt_is_filtered_content(crossing: Gateway) -> None:
    blocked = {"promptFeedback": {"blockReason": "SAFETY"}, "usageMetadata": {"promptTokenCount": 7}}
    crossing.provider.will(whole(blocked), generated_stream(blocked))
    told = (await crossing.chat(MODEL)).json()
    assert told["choices"][0]["finish_reason"] == "content_filter"
    streamed = await crossing.chat(MODEL, stream=True)
    assert '"content_filter"' in streamed.text
    assert streamed.text.endswith("data: [DONE]\n\n")


@pytest.mark.parametrize("end", [(), (Cut(),), (event({"error": {"code": 503, "message": "busy"}}),)])
async def test_a_stream_that_does_not_say_why_it_ended_is_no_whole_answer(crossing: Gateway, end: Any) -> None:
    crossing.provider.will(Script((event(generated("Hel")), *end)))
    answer = await crossing.chat(MODEL, stream=True)
    assert "Hel" in answer.text
    assert "[DONE]" not in answer.text
    assert '"error"' in answer.text
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["usage_known"]) == ("cut", False)


async def test_vertex_is_asked_with_an_access_token_that_is_fetched_once(vertex: Gateway) -> None:
    for stream in (False, True):
        answer = await vertex.chat(VERTEX, stream=stream)
        assert answer.status_code == 200, answer.text
    token, first, second = vertex.provider.calls
    assert token.path == "/token"
    assert first.path == f"{PROJECT}/publishers/google/models/{MODEL}:generateContent"
    assert second.path == f"{PROJECT}/publishers/google/models/{MODEL}:streamGenerateContent?alt=sse"
    assert {first.headers["authorization"], second.headers["authorization"]} == {"Bearer ya29.scripted"}
    rows = await vertex.ledger(2)
    assert {(row["provider"], row["outcome"], row["cost_micro_usd"]) for row in rows} == {("vertex", "done", 10)}


async def test_the_assertion_is_signed_for_that_token_server(vertex: Gateway) -> None:
    await vertex.chat(VERTEX)
    sent = dict(part.split("=", 1) for part in vertex.provider.calls[0].body.decode().split("&"))
    head, claims, signature = sent["assertion"].split(".")
    KEY.public_key().verify(decoded(signature), f"{head}.{claims}".encode(), PKCS1v15(), SHA256())
    told = json.loads(decoded(claims))
    assert told["aud"] == f"{vertex.provider.origin}/token"
    assert (told["iss"], told["exp"] - told["iat"]) == ("sa@p-1.iam", 3600)


def decoded(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))


async def test_a_token_that_has_ended_is_fetched_anew(vertex: Gateway) -> None:
    vertex.provider.will(access_token("first", expires_in=30), whole(generated("Hello", finish="STOP")))
    await vertex.chat(VERTEX)
    vertex.provider.will(access_token("second"))
    await vertex.chat(VERTEX)
    assert [call.headers.get("authorization") for call in vertex.provider.calls] == [
        None, "Bearer first", None, "Bearer second",
    ]  # fmt: skip


async def test_an_account_that_gets_no_token_is_a_documented_error_that_costs_nothing(vertex: Gateway) -> None:
    vertex.provider.will(whole({"error": "invalid_grant"}, status=400))
    answer = await vertex.chat(VERTEX)
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "provider_access_refused")
    assert len(vertex.provider.calls) == 1
    (row,) = await vertex.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_a_token_server_of_a_forbidden_address_is_not_asked(crossing: Gateway) -> None:
    await store_vertex(crossing, account("", token_uri="http://169.254.169.254/token"))
    answer = await crossing.chat(VERTEX)
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "forbidden_address")
    await crossing.client.delete("/v1/secrets/providers/vertex")


async def test_an_account_is_tried_before_it_is_stored(crossing: Gateway) -> None:
    crossing.provider.will(whole({"error": "invalid_grant"}, status=400))
    refused = await store_vertex(crossing, account(crossing.provider.origin), check=True)
    assert (refused.status_code, refused.json()["code"]) == (422, "provider_not_accepted")
    stored = await store_vertex(crossing, account(crossing.provider.origin), check=True)
    assert stored.status_code == 200
    await crossing.client.delete("/v1/secrets/providers/vertex")


@pytest.mark.parametrize("key", ["sk-plain", "{}", '{"client_email": "a", "private_key": "-----BEGIN"}'])
async def test_what_is_no_service_account_is_not_stored(crossing: Gateway, key: str) -> None:
    stored = await store_vertex(crossing, key)
    assert stored.status_code == 422
    assert "BEGIN" not in stored.text.replace("private_key", "")
