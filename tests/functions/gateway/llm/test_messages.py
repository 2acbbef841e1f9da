"""Anthropic's messages: bytes unchanged, usage read on the side, errors that Anthropic's SDK understands."""

from __future__ import annotations

import json
from typing import Any

import anthropic
import httpx
import pytest

from functions.gateway.llm.wires import Anthropic
from shared.llm import sse
from shared.usage import Tokens
from tests.fixtures.provider import (
    MESSAGE_STOP,
    PING,
    Cut,
    Script,
    block,
    message,
    message_delta,
    message_error,
    message_event,
    message_start,
    text_block,
    whole,
)
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway, make_key

MODEL = "claude-sonnet-4-5"
JSON_TYPE = {"content-type": "application/json"}
THINKING = block(
    0,
    {"type": "thinking", "thinking": "", "signature": ""},
    {"type": "thinking_delta", "thinking": "hm é"},
    {"type": "signature_delta", "signature": "c2ln"},
)
TOOL = block(
    1,
    {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
    *({"type": "input_json_delta", "partial_json": part} for part in ("", '{"ci', 'ty": "Köln"', "}")),
)
WHOLE_STREAM = b"".join(
    [message_start(cache_read_input_tokens=5), PING, THINKING, TOOL, message_delta(9), MESSAGE_STOP]
)


def wanted(**more: Any) -> dict[str, Any]:  # Any: JSON
    return {"model": MODEL, "max_tokens": 64, "messages": [{"role": "user", "content": "Hi"}], **more}


async def send(gateway: Gateway, path: str = "/v1/messages", **more: Any) -> httpx.Response:  # Any: JSON
    return await gateway.client.post(path, json=wanted(**more))


def sdk(gateway: Gateway, **credential: str) -> anthropic.AsyncAnthropic:
    chosen = credential or {"api_key": gateway.key}
    return anthropic.AsyncAnthropic(base_url=gateway.url, max_retries=0, **chosen)  # type: ignore[arg-type]  # texts


@pytest.mark.parametrize("credential", ["api_key", "auth_token"])
async def test_the_sdk_gets_a_whole_message_with_either_credential(gateway: Gateway, credential: str) -> None:
    async with sdk(gateway, **{credential: gateway.key}) as client:
        answer = await client.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    assert answer.usage.output_tokens == 3
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["feature"], row["provider"]) == ("done", "messages", "claudes")
    assert (row["input_tokens"], row["output_tokens"], row["cost_micro_usd"]) == (7, 3, 66)


async def test_the_sdk_puts_thinking_and_a_tools_arguments_together_from_a_stream(gateway: Gateway) -> None:
    gateway.provider.will(Script(tuple(WHOLE_STREAM[at : at + 1] for at in range(len(WHOLE_STREAM)))))
    async with (
        sdk(gateway) as client,
        client.messages.stream(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi"}]) as stream,
    ):
        final = await stream.get_final_message()
    thinking, tool = final.content
    assert thinking.type == "thinking"
    assert tool.type == "tool_use"
    assert thinking.thinking == "hm é"
    assert tool.input == {"city": "Köln"}
    (row,) = await gateway.ledger()
    assert (row["input_tokens"], row["cached_tokens"], row["output_tokens"]) == (12, 5, 9)


async def test_a_stream_is_passed_on_byte_for_byte(gateway: Gateway) -> None:
    gateway.provider.will(Script(tuple(WHOLE_STREAM[at : at + 7] for at in range(0, len(WHOLE_STREAM), 7))))
    answer = await send(gateway, stream=True)
    assert answer.content == WHOLE_STREAM
    assert answer.headers["request-id"] == answer.headers["x-request-id"]


async def test_the_provider_gets_the_callers_bytes_and_the_tenants_key(gateway: Gateway) -> None:
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "iVBORw0KGgo="}}
    cached = {"type": "text", "text": "é", "cache_control": {"type": "ephemeral"}}
    body = b" " + json.dumps(wanted(system=[cached], messages=[{"role": "user", "content": [image]}])).encode()
    headers = {**JSON_TYPE, "anthropic-version": "2026-10-21", "anthropic-beta": "one-1,two-2"}
    await gateway.client.post("/v1/messages?beta=true&x=1", content=body, headers=headers)
    (call,) = gateway.provider.calls
    assert (call.path, call.body) == ("/v1/messages?beta=true", body)
    assert (call.headers["anthropic-version"], call.headers["anthropic-beta"]) == ("2026-10-21", "one-1,two-2")
    assert call.headers["x-api-key"] == PROVIDER_KEY
    assert "authorization" not in call.headers
    assert "dck_" not in str(call.headers)


async def test_the_providers_prefix_is_taken_off_and_a_version_is_always_named(gateway: Gateway) -> None:
    await send(gateway, model=f"claudes/{MODEL}")
    (call,) = gateway.provider.calls
    assert (call.json["model"], call.headers["anthropic-version"]) == (MODEL, "2023-06-01")


async def test_counting_tokens_is_a_free_row(gateway: Gateway) -> None:
    async with sdk(gateway) as client:
        counted = await client.messages.count_tokens(model=MODEL, messages=[{"role": "user", "content": "Hi"}])
    assert counted.input_tokens == 11
    assert gateway.provider.calls[0].path == "/v1/messages/count_tokens"
    (row,) = await gateway.ledger()
    assert (row["feature"], row["outcome"], row["cost_micro_usd"]) == ("count_tokens", "done", 0)


@pytest.mark.parametrize(
    ("an_hour", "micro_usd"), [(None, 7 * 3 + 3 + 375 + 45), (40, 7 * 3 + 3 + 225 + 240 + 45)], ids=["5m", "some 1h"]
)
async def test_what_was_read_from_the_cache_and_written_to_it_has_prices_of_its_own(
    gateway: Gateway, an_hour: int | None, micro_usd: int
) -> None:
    """Per million tokens of this model: 3 USD of input, 0.3 read, 3.75 written for five minutes, 6 for an hour, 15 of
    output."""
    told = {} if an_hour is None else {"cache_creation": {"ephemeral_1h_input_tokens": an_hour}}
    gateway.provider.will(message(cache_creation_input_tokens=100, cache_read_input_tokens=10, **told))
    answer = await send(gateway)
    assert answer.headers["x-dcoder-cost-micro-usd"] == str(micro_usd)
    (row,) = await gateway.ledger()
    assert (row["input_tokens"], row["cached_tokens"], row["cost_micro_usd"]) == (117, 10, micro_usd)
    assert (row["usage_known"], row["price_known"]) == (True, True)


@pytest.mark.parametrize(
    ("status", "kind", "raised"),
    [
        (400, "invalid_request_error", anthropic.BadRequestError),
        (429, "rate_limit_error", anthropic.RateLimitError),
        (529, "overloaded_error", anthropic.InternalServerError),
    ],
)
async def test_a_providers_error_is_passed_on_after_one_attempt(
    gateway: Gateway, status: int, kind: str, raised: type[anthropic.APIStatusError]
) -> None:
    limits = [("retry-after", "7"), ("anthropic-ratelimit-requests-remaining", "0"), ("set-cookie", "no=1")]
    gateway.provider.will(message_error(status, kind, f"said {PROVIDER_KEY}", limits))
    async with sdk(gateway) as client:
        with pytest.raises(raised) as refused:
            await client.messages.create(model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi"}])
    headers = refused.value.response.headers
    assert (headers["retry-after"], headers["anthropic-ratelimit-requests-remaining"]) == ("7", "0")
    assert "set-cookie" not in headers
    assert refused.value.response.json()["error"] == {"type": kind, "message": "said [key]"}
    assert len(gateway.provider.calls) == 1
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


@pytest.mark.parametrize("body", [b"<html>", b'{"error": "text"}', b"\xff"])
async def test_an_error_in_any_other_shape_is_put_into_anthropics(gateway: Gateway, body: bytes) -> None:
    gateway.provider.will(whole(body, status=502))
    answer = await send(gateway)
    told = answer.json()
    assert (answer.status_code, told["type"], told["error"]["type"]) == (502, "error", "api_error")
    assert told["error"]["message"].startswith("the provider answered 502")
    assert told["request_id"] == answer.headers["request-id"]


@pytest.mark.parametrize("end", [(), (Cut(),), (b"event: content_bl", Cut())], ids=["no stop", "cut", "half an event"])
async def test_a_broken_stream_ends_with_an_error_that_the_sdk_raises(gateway: Gateway, end: Any) -> None:
    gateway.provider.will(Script((message_start(), text_block("Hel"), *end)))
    async with sdk(gateway) as client:
        stream = await client.messages.create(
            model=MODEL, max_tokens=9, messages=[{"role": "user", "content": "Hi"}], stream=True
        )
        with pytest.raises(anthropic.APIStatusError):
            async for _ in stream:
                pass
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["usage_known"], row["cost_micro_usd"]) == ("cut", False, None)


async def test_a_providers_own_error_event_is_the_last_one(gateway: Gateway) -> None:
    own = message_event("error", error={"type": "overloaded_error", "message": "busy"})
    gateway.provider.will(Script((message_start(), own)))
    answer = await send(gateway, stream=True)
    assert answer.content == message_start() + own
    assert (await gateway.ledger())[0]["outcome"] == "provider_error"


async def test_malformed_events_are_passed_on_and_do_no_harm(gateway: Gateway) -> None:
    odd = b'event: message_start\ndata: {"type":"message_start","message":[1]}\n\ndata: "message_\n\n: c\n\n'
    odd += b'event: message_delta\r\ndata: {"type":"message_delta","usage":{"output_tokens":-1}}\r\n\r\n'
    gateway.provider.will(Script((odd, MESSAGE_STOP)))
    assert (await send(gateway, stream=True)).content == odd + MESSAGE_STOP
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["usage_known"]) == ("done", False)


@pytest.mark.parametrize(
    ("path", "model", "code"),
    [
        ("/v1/messages", "doc-chat", "other_dialect"),
        ("/v1/messages/count_tokens", "doc-chat", "other_dialect"),
        ("/v1/messages", "absent", "model_not_found"),
    ],
)
async def test_a_model_of_another_dialect_is_refused_and_nothing_is_asked(
    gateway: Gateway, path: str, model: str, code: str
) -> None:
    answer = await send(gateway, path, model=model)
    told = answer.json()
    assert told["error"]["details"] == {"error_code": code}
    assert answer.status_code == (404 if code == "model_not_found" else 400)
    assert answer.headers["request-id"] == told["request_id"]
    assert gateway.provider.calls == []
    assert await gateway.rows() == []


async def test_where_no_translator_is_deployed_that_is_said_and_nothing_is_charged(gateway: Gateway) -> None:
    openais = await gateway.client.post("/v1/chat/completions", json=wanted())
    anthropics = await send(gateway, model="gpt-4o-mini")
    assert (openais.status_code, openais.json()["error"]["code"]) == (503, "translation_unavailable")
    assert openais.headers["retry-after"] == "5"
    assert (anthropics.status_code, anthropics.json()["error"]["type"]) == (503, "api_error")
    assert anthropics.json()["error"]["details"] == {"error_code": "translation_unavailable"}
    assert gateway.provider.calls == []
    rows = await gateway.ledger(2)
    assert {(row["outcome"], row["cost_micro_usd"]) for row in rows} == {("provider_error", 0)}


async def test_embeddings_are_not_translated(gateway: Gateway) -> None:
    answer = await gateway.client.post("/v1/embeddings", json={"model": MODEL, "input": "x"})
    assert (answer.status_code, answer.json()["error"]["code"]) == (400, "other_dialect")
    assert gateway.provider.calls == []


async def test_refusals_of_ours_are_in_anthropics_dialect(gateway: Gateway) -> None:
    async with httpx.AsyncClient(base_url=gateway.url) as client:
        nobody = await client.post("/v1/messages", json=wanted())
    malformed = await gateway.client.post("/v1/messages", content=b"{", headers=JSON_TYPE)
    assert (nobody.status_code, nobody.json()["error"]["type"]) == (401, "authentication_error")
    assert (malformed.status_code, malformed.json()["error"]["type"]) == (400, "invalid_request_error")
    assert gateway.provider.calls == []


async def test_no_route_leads_past_a_keys_models(gateway: Gateway) -> None:
    key = await make_key(gateway.application, gateway.tenant, role="member", models=["gpt-4o-mini"])
    async with gateway.with_key(key) as client:
        for path in ("/v1/messages", "/v1/messages/count_tokens"):
            assert (await client.post(path, json=wanted())).status_code == 404
    assert gateway.provider.calls == []


def test_usage_is_the_same_wherever_the_stream_is_split() -> None:
    for at in range(len(WHOLE_STREAM) + 1):
        events, wire = sse.Events(), Anthropic("r")
        passed = [event for part in (WHOLE_STREAM[:at], WHOLE_STREAM[at:]) for event in events.feed(part)]
        assert all([wire.keep(event.data) for event in passed])
        assert b"".join(event.raw for event in passed) == WHOLE_STREAM
        assert (wire.complete, wire.failed, wire.used) == (True, False, Tokens(12, 9, 5))
