"""Streams that reach a limit: they finish within what was reserved, or stop between two events, as the limit says."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import anthropic
import httpx
import openai
import pytest

from functions.gateway.llm.stopping import AnthropicEnding, OpenAiEnding, text_bytes
from shared.quotas import Meter
from shared.quotas.limits import Quota
from tests.fixtures.provider import (
    DONE,
    FINISH,
    MESSAGE_STOP,
    ROLE,
    Pause,
    Script,
    block,
    chunk,
    message_delta,
    message_event,
    message_start,
    stream,
    usage_chunk,
)
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, limit, make_key, question
from tests.functions.gateway.llm.test_quotas import emptied, standing

WORD = "abcdefghij"
"""Ten bytes."""


async def key_with(gateway: Gateway, amount: int, *, metric: str = "tokens", at_limit: str = "stop") -> tuple[str, int]:
    key = await make_key(gateway.application, gateway.tenant)
    quota = await limit(
        gateway, scope="key", name=key.split("_")[1], metric=metric, span="ever", amount=amount, at_limit=at_limit
    )
    return key, quota


def words(count: int) -> list[bytes]:
    return [chunk({"content": WORD}) for _ in range(count)]


def sent_by(body: dict[str, Any], path: str = "/") -> int:  # Any: JSON
    return len(httpx.Request("POST", f"http://x{path}", json=body).content)


def events_of(content: bytes) -> list[Any]:  # Any: JSON
    lines = [line.removeprefix("data: ") for line in content.decode().splitlines() if line.startswith("data: ")]
    return [json.loads(line) if line != "[DONE]" else line for line in lines]


async def test_a_stream_stops_between_two_events_and_is_charged_for_what_was_delivered(limited: Gateway) -> None:
    body = question(stream=True, max_tokens=10_000)
    sent = sent_by(body)
    key, quota = await key_with(limited, sent + 3005)
    limited.provider.will(Script((ROLE, *words(1000), FINISH, usage_chunk(7, 1000), DONE)))
    async with limited.with_key(key) as client:
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.status_code == 200
        events = events_of(answer.content)
        text = "".join(event["choices"][0]["delta"].get("content", "") for event in events[:-1])
        assert text == WORD * 300  # 3000 bytes, and five more have no room
        assert events[-1] == "[DONE]"
        assert events[-2]["choices"] == [{"index": 0, "delta": {}, "finish_reason": "length"}]
        assert events[-2]["dcoder"]["stopped_by"] == "quota"
        assert answer.content.startswith(ROLE + words(1)[0])  # what is delivered is the provider's bytes
        (row,) = await limited.ledger()
        assert (row["outcome"], row["usage_known"], row["charged_tokens"]) == ("stopped", False, sent + 3000)
        assert await standing(limited, quota) == (sent + 3000, 0)
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 429


async def test_by_default_a_stream_finishes_as_all_of_it_was_reserved(limited: Gateway) -> None:
    body = question(stream=True, max_tokens=2000)
    sent = sent_by(body)
    key, quota = await key_with(limited, sent + 3005, at_limit="finish")
    limited.provider.will(Script((ROLE, *words(1000), FINISH, usage_chunk(7, 1000), DONE)))
    async with limited.with_key(key) as client:
        answer = await client.post("/v1/chat/completions", json=body)
        assert answer.content.count(WORD.encode()) == 1000
        too_long = await client.post("/v1/chat/completions", json=question(stream=True, max_tokens=3000))
        assert too_long.status_code == 429  # it could not finish
    assert await standing(limited, quota) == (1007, 0)


async def test_a_stream_reserves_as_it_goes_and_leaves_room_for_others(limited: Gateway) -> None:
    body = question(stream=True, max_tokens=10_000)
    sent = sent_by(body)
    key, quota = await key_with(limited, 2 * sent + 4000)
    limited.provider.will(*(Script((ROLE, Pause(0.6), *words(30), FINISH, usage_chunk(7, 60), DONE)) for _ in range(2)))
    async with limited.with_key(key) as client:
        both = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(2)))
    assert [events_of(one.content)[-1] for one in both] == ["[DONE]"] * 2
    assert [event["choices"][0]["finish_reason"] for one in both for event in events_of(one.content)[-2:-1]] == [
        "stop"
    ] * 2
    assert await standing(limited, quota) == (2 * 67, 0)


async def test_what_is_reserved_more_outlives_redis_and_the_process(limited: Gateway) -> None:
    body = question(stream=True, max_tokens=10_000)
    sent = sent_by(body)
    key, quota = await key_with(limited, sent + 8000)
    limited.provider.will(Script((ROLE, *words(250), Pause(2.5), *words(100), FINISH, usage_chunk(7, 400), DONE)))
    async with limited.with_key(key) as client:
        streaming = asyncio.create_task(client.post("/v1/chat/completions", json=body))

        async def is_reserved() -> bool:
            sql = "SELECT reserved_tokens FROM usage_open WHERE tenant = $1"
            return bool(await limited.control.fetchval(sql, limited.tenant) == sent + 3 * 1024)

        await until(is_reserved)
        await emptied(limited)
        meter = await limited.application.process.get(Meter)
        (known,) = [one for one in (await meter._quotas.of(limited.tenant)).quotas if one.id == quota]
        (state,) = await meter.building.states(limited.tenant, [known])
        assert (state.used, state.reserved) == (0, sent + 3 * 1024)
        await emptied(limited)  # it goes on all the same
        answer = await streaming
    assert answer.content.count(WORD.encode()) == 350
    assert await standing(limited, quota) == (407, 0)


async def test_streams_at_once_never_take_more_than_there_is(limited: Gateway) -> None:
    body = question(stream=True, max_tokens=10_000)
    sent = sent_by(body)
    key, quota = await key_with(limited, 20 * sent + 30_000)
    limited.provider.will(*(Script((ROLE, *words(400), FINISH, usage_chunk(sent, 4000), DONE)) for _ in range(20)))
    async with limited.with_key(key) as client:
        told = await asyncio.gather(*(client.post("/v1/chat/completions", json=body) for _ in range(20)))
    assert {answer.status_code for answer in told} <= {200, 429}
    used, reserved = await standing(limited, quota)
    assert (used <= 20 * sent + 30_000, reserved) == (True, 0)
    rows = await limited.ledger(sum(answer.status_code == 200 for answer in told))
    assert "stopped" in {row["outcome"] for row in rows} <= {"done", "stopped"}
    assert sum(row["charged_tokens"] for row in rows) == used


async def test_a_budget_in_money_stops_a_stream_too(limited: Gateway) -> None:
    key, quota = await key_with(limited, 1000, metric="micro_usd")
    limited.provider.will(Script((ROLE, *words(1000), FINISH, usage_chunk(7, 3000), DONE)))
    async with limited.with_key(key) as client:
        answer = await client.post("/v1/chat/completions", json=question(stream=True, max_tokens=16_000))
    delivered = answer.content.count(WORD.encode()) * 10
    assert 1500 < delivered < 1667  # at 0.6 micro-USD a token
    used, reserved = await standing(limited, quota)
    assert (990 <= used <= 1000, reserved) == (True, 0)


async def test_a_limit_that_finishes_beside_one_that_stops_is_kept_by_reserving_all(limited: Gateway) -> None:
    body = question(stream=True, max_tokens=3000)
    key, _ = await key_with(limited, 10**6)
    await limit(limited, scope="key", name=key.split("_")[1], metric="tokens", span="rolling:60", amount=2000)
    async with limited.with_key(key) as client:
        assert (await client.post("/v1/chat/completions", json=body)).status_code == 429


async def test_openais_sdk_reads_a_stopped_stream_as_one_cut_at_its_length(limited: Gateway) -> None:
    key, _ = await key_with(limited, 2500)
    call = chunk(
        {"tool_calls": [{"index": 0, "id": "c", "type": "function", "function": {"name": "f", "arguments": ""}}]}
    )
    parts = [chunk({"tool_calls": [{"index": 0, "function": {"arguments": WORD}}]}) for _ in range(1000)]
    limited.provider.will(Script((ROLE, call, *parts, FINISH, usage_chunk(7, 1000), DONE)))
    sdk = openai.AsyncOpenAI(api_key=key, base_url=f"{limited.url}/v1", max_retries=0)
    chunks = [
        one
        async for one in await sdk.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}], stream=True
        )
    ]
    await sdk.close()
    assert chunks[-1].choices[0].finish_reason == "length"
    assert chunks[-1].model_extra is not None
    assert chunks[-1].model_extra["dcoder"]["quota"]["metric"] == "tokens"
    assert 100 < len(chunks) < 300


def blocks(count: int) -> Script:
    deltas = [{"type": "text_delta", "text": WORD}] * count
    parts = [message_event("content_block_start", index=0, content_block={"type": "text", "text": ""})]
    parts += [message_event("content_block_delta", index=0, delta=delta) for delta in deltas]
    parts.append(message_event("content_block_stop", index=0))
    return Script((message_start(), *parts, message_delta(count), MESSAGE_STOP))


async def test_anthropics_sdk_reads_a_stopped_stream_as_one_that_reached_its_length(limited: Gateway) -> None:
    key, quota = await key_with(limited, 4000)
    limited.provider.will(blocks(1000))
    sdk = anthropic.AsyncAnthropic(api_key=key, base_url=limited.url, max_retries=0)
    asked: Any = {
        "model": "claude-sonnet-4-5", "max_tokens": 9000, "messages": [{"role": "user", "content": "Hi"}],
    }  # fmt: skip  # Any: what the SDK takes
    async with sdk.messages.stream(**asked) as streamed:
        final = await streamed.get_final_message()
    await sdk.close()
    (row,) = await limited.ledger()
    assert final.stop_reason == "max_tokens"
    (content,) = final.content
    assert content.type == "text"
    assert (len(content.text) % 10, content.text[:10]) == (0, WORD)
    assert row["outcome"] == "stopped"
    assert row["charged_tokens"] == sent_of(limited) + len(content.text)
    assert final.usage.output_tokens == len(content.text)
    assert await standing(limited, quota) == (row["charged_tokens"], 0)
    assert 4000 - row["charged_tokens"] < 10


def sent_of(gateway: Gateway) -> int:
    """The bytes that the caller sent, which are reserved as input: the provider got the same."""
    return len(gateway.provider.calls[-1].body)


async def test_a_whole_answer_is_reserved_whole_whatever_the_limit_says(limited: Gateway) -> None:
    key, _ = await key_with(limited, 2500)
    async with limited.with_key(key) as client:
        assert (await client.post("/v1/chat/completions", json=question(max_tokens=5000))).status_code == 429


async def test_what_was_stopped_is_not_kept_for_others(limited: Gateway) -> None:
    key, _ = await key_with(limited, 2500)
    limited.provider.will(Script((ROLE, *words(1000), FINISH, DONE)), stream("whole"))
    await limited.client.put("/v1/cache", json={"enabled": True})
    try:
        body = question(text="not kept", stream=True)
        async with limited.with_key(key) as client:
            stopped = await client.post("/v1/chat/completions", json=body)
        assert b'"stopped_by"' in stopped.content
        again = await limited.client.post("/v1/chat/completions", json=body)
        assert (again.headers["x-dcoder-cache"], b"whole" in again.content) == ("miss", True)
    finally:
        await limited.client.put("/v1/cache", json={"enabled": False})


QUOTA = Quota(1, "key", "k", "tokens", "ever", 10, True, at_limit="stop")


def test_each_answer_that_is_being_written_ends_and_those_that_have_ended_do_not_again() -> None:
    ending = OpenAiEnding()
    head = {"id": "x", "object": "chat.completion.chunk", "created": 5, "model": "m"}

    def told(index: int, text: str, finish: str | None = None) -> int:
        choice = {"index": index, "delta": {"role": "assistant", "content": text}, "finish_reason": finish}
        return ending.written(json.dumps({**head, "choices": [choice]}).encode())

    assert [told(0, "ab"), told(1, "é"), told(2, "", "stop")] == [2, 2, 0]
    events = events_of(ending.end(QUOTA, 4))
    assert [event["choices"][0]["index"] for event in events[:-1]] == [0, 1]
    assert all(event["id"] == "x" and event["created"] == 5 for event in events[:-1])


def test_a_text_completion_ends_in_its_own_form() -> None:
    ending = OpenAiEnding()
    choice = {"index": 0, "text": "abc", "finish_reason": None}
    data = {"id": "x", "object": "text_completion", "created": 5, "model": "m", "choices": [choice]}
    assert ending.written(json.dumps(data).encode()) == 3
    assert events_of(ending.end(QUOTA, 3))[0]["choices"] == [{"index": 0, "text": "", "finish_reason": "length"}]


def test_between_two_blocks_only_the_message_ends() -> None:
    ending = AnthropicEnding()
    for event in block(0, {"type": "text", "text": ""}, {"type": "text_delta", "text": "ab"}).split(b"\n\n")[:-1]:
        ending.written(event.partition(b"data: ")[2])
    kinds = [event["type"] for event in events_of(ending.end(QUOTA, 2))]
    assert kinds == ["message_delta", "message_stop"]


@pytest.mark.parametrize(
    ("delta", "size"),
    [
        ({"role": "assistant", "content": ""}, 0),
        ({"content": None, "reasoning_content": "ab"}, 2),
        (
            {
                "tool_calls": [
                    {"index": 0, "id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}
                ]
            },
            3,
        ),
        ("text", 4),
        ({"type": "signature_delta", "signature": "xyz"}, 3),
        ({"content": "\ud800"}, 3),
    ],
)
def test_what_a_model_has_written_is_counted_in_bytes(delta: object, size: int) -> None:
    assert text_bytes(delta) == size
