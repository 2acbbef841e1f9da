"""What a provider sends is what the caller gets."""

from __future__ import annotations

import json

import pytest

from functions.gateway.llm.bodies import Wanted, for_provider
from shared.llm.usage import tokens_in
from shared.usage import Tokens
from tests.fixtures.provider import (
    DONE,
    FINISH,
    ROLE,
    Pause,
    Script,
    chunk,
    completion,
    event,
    stream,
    usage,
    usage_chunk,
    whole,
)
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway, question

TOOL_DELTAS = [
    {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
    {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": '{"é'}}]},
    {"tool_calls": [{"index": 0, "function": {"arguments": '{"x":'}}]},
    {"tool_calls": [{"index": 1, "function": {"arguments": '": 2}'}}, {"index": 0, "function": {"arguments": "1}"}}]},
]


async def test_a_whole_answer_is_passed_on_byte_for_byte(gateway: Gateway) -> None:
    body = b'{ "id":"x",\n"choices" : [],"usage":{"prompt_tokens":1,"completion_tokens":2},"odd": 1.50, "u":"\\u00e9"}'
    gateway.provider.will(whole(body))
    answer = await gateway.chat()
    assert answer.status_code == 200
    assert answer.content == body


async def test_the_provider_gets_the_callers_bytes_and_the_tenants_key(gateway: Gateway) -> None:
    body = b'  {"model":"gpt-4o-mini" ,"messages":[{"role":"user","content":"h\xc3\xa9"}], "temperature":0.10}'
    await gateway.client.post("/v1/chat/completions", content=body)
    (call,) = gateway.provider.calls
    assert call.body == body
    assert call.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert "dck_" not in str(call.headers)


async def test_a_stream_is_passed_on_byte_for_byte_when_the_caller_asks_for_usage(gateway: Gateway) -> None:
    pieces = [ROLE, b": ping\n\n", *(chunk(delta) for delta in TOOL_DELTAS), b"data:x\r\n\r\n", FINISH]
    pieces += [usage_chunk(5, 6), DONE]
    sent = b"".join(pieces)
    cut_anywhere = [sent[start : start + 7] for start in range(0, len(sent), 7)]
    gateway.provider.will(Script(tuple(cut_anywhere)))
    answer = await gateway.chat(stream=True, stream_options={"include_usage": True})
    assert answer.content == sent


async def test_the_usage_event_that_only_we_asked_for_is_withheld_and_nothing_else(gateway: Gateway) -> None:
    kept = [ROLE, chunk({"content": "Hi"}), FINISH]
    gateway.provider.will(Script((*kept, usage_chunk(5, 6, cached=4), DONE)))
    answer = await gateway.chat(stream=True)
    assert answer.content == b"".join([*kept, DONE])
    assert gateway.provider.calls[0].json["stream_options"] == {"include_usage": True}
    (row,) = await gateway.ledger()
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (5, 6, 4)


async def test_the_first_piece_arrives_before_the_last_is_written(gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, chunk({"content": "now"}), Pause(5.0), DONE)))
    async with gateway.client.stream("POST", "/v1/chat/completions", json=question(stream=True)) as answer:
        received = b""
        async for piece in answer.aiter_raw():
            received += piece
            if b"now" in received:
                break
    assert b"DONE" not in received


async def test_tools_and_unknown_members_reach_the_provider(gateway: Gateway) -> None:
    tools = [{"type": "function", "function": {"name": "f", "parameters": {"type": "object"}, "strict": True}}]
    await gateway.chat(tools=tools, tool_choice="auto", parallel_tool_calls=True, brand_new={"a": [1]})
    asked = gateway.provider.calls[0].json
    assert asked["tools"] == tools
    assert asked["brand_new"] == {"a": [1]}


async def test_the_providers_prefix_chooses_the_provider_and_is_taken_off(gateway: Gateway) -> None:
    await gateway.chat("scripted/house-model")
    assert gateway.provider.calls[0].json["model"] == "house-model"


async def test_embeddings_are_passed_through_with_their_usage(gateway: Gateway) -> None:
    answer = await gateway.client.post(
        "/v1/embeddings", json={"model": "text-embedding-3-small", "input": [[1, 2], [3]]}
    )
    assert answer.json()["data"][1]["embedding"] == [0.5, 0.5]
    (row,) = await gateway.ledger()
    assert (row["feature"], row["input_tokens"], row["output_tokens"]) == ("embeddings", 2, 0)


async def test_the_answer_says_its_cost_its_provider_and_its_request(gateway: Gateway) -> None:
    gateway.provider.will(completion(used=usage(1_000_000, 1_000_000)))
    answer = await gateway.chat()
    assert answer.headers["x-dcoder-cost-micro-usd"] == "750000"
    assert answer.headers["x-dcoder-provider"] == "scripted"
    (row,) = await gateway.ledger()
    assert row["cost_micro_usd"] == 750_000
    assert row["request_id"] == answer.headers["x-request-id"]


@pytest.mark.parametrize("streaming", [False, True])
async def test_the_answer_says_what_the_gateway_took_beside_the_provider(gateway: Gateway, streaming: bool) -> None:
    answer = completion()
    slow = Script(answer.steps, answer.status, answer.headers, before=(Pause(0.3),))
    gateway.provider.will(Script(stream("Hi").steps, before=(Pause(0.3),)) if streaming else slow)
    told = await gateway.chat(stream=streaming)
    assert 0 < float(told.headers["x-dcoder-overhead-ms"]) < 300


async def test_a_model_without_a_known_price_costs_unknown_and_not_nothing(gateway: Gateway) -> None:
    answer = await gateway.chat("house-model")
    assert answer.headers["x-dcoder-cost-micro-usd"] == "unknown"
    (row,) = await gateway.ledger()
    assert (row["cost_micro_usd"], row["price_known"], row["usage_known"]) == (None, False, True)


async def test_an_answer_without_usage_costs_unknown_and_not_nothing(gateway: Gateway) -> None:
    gateway.provider.will(stream("Hi", used=None))
    assert b"[DONE]" in (await gateway.chat(stream=True)).content
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["cost_micro_usd"], row["usage_known"]) == ("done", None, False)


async def test_a_stream_asked_for_but_answered_whole_is_passed_on_whole(gateway: Gateway) -> None:
    gateway.provider.will(completion("whole"))
    answer = await gateway.chat(stream=True)
    assert answer.json()["choices"][0]["message"]["content"] == "whole"
    assert b"data:" not in answer.content


async def test_two_calls_with_the_same_request_id_are_two_rows(gateway: Gateway) -> None:
    for _ in range(2):
        await gateway.client.post(
            "/v1/chat/completions", json=question(), headers={"x-request-id": "the-same-request-id"}
        )
    rows = await gateway.ledger(2)
    assert [row["request_id"] for row in rows] == ["the-same-request-id"] * 2


@pytest.mark.parametrize("raw", [b'{"model":"m","messages":[1]}', b' \n{ "messages":[1], "x": "\\ud800", "model":"m"}'])
def test_asking_for_usage_adds_one_member_and_changes_no_other_byte(raw: bytes) -> None:
    sent = for_provider(Wanted("m", json.loads(raw), raw), "m", ask_usage=True)
    assert sent.endswith(raw.lstrip()[1:])
    assert json.loads(sent) == {**json.loads(raw), "stream_options": {"include_usage": True}}


def test_a_callers_own_stream_options_are_kept_beside_the_wish_for_usage() -> None:
    content = {"model": "m", "stream_options": {"include_obfuscation": False}}
    sent = for_provider(Wanted("m", content, json.dumps(content).encode()), "m", ask_usage=True)
    assert json.loads(sent)["stream_options"] == {"include_obfuscation": False, "include_usage": True}


@pytest.mark.parametrize(
    ("content", "told"),
    [
        ({"usage": {"prompt_tokens": 3, "completion_tokens": 4}}, Tokens(3, 4)),
        ({"x_groq": {"usage": {"prompt_tokens": 3, "completion_tokens": 4}}}, Tokens(3, 4)),
        ({"usage": {"prompt_tokens": 3, "total_tokens": 3}}, Tokens(3)),
        ({"usage": None}, None),
        ({"usage": {"prompt_tokens": -1, "completion_tokens": 4}}, None),
        ({"usage": {"prompt_tokens": "3", "completion_tokens": True}}, None),
        ({"usage": {"prompt_tokens": 2**60, "completion_tokens": 0}}, None),
        ({"usage": [1]}, None),
    ],
)
def test_usage_is_read_where_providers_put_it_and_nonsense_is_no_usage(
    content: dict[str, object], told: Tokens
) -> None:
    assert tokens_in(content) == told


def test_the_scripted_provider_writes_events_as_openai_does() -> None:
    assert event("[DONE]") == b"data: [DONE]\n\n"
