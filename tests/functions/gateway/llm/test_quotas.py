"""Limits at the gateway: refused in OpenAI's form with when there is room; nothing forwarded, nothing charged."""

from __future__ import annotations

import asyncio
import json
from dataclasses import replace
from datetime import UTC, datetime

import httpx
import openai
import pytest

from shared.identity import Caller, Tokens
from shared.ids import KeyId, TenantId
from shared.quotas import Meter
from shared.redis.connection import connected
from tests.fixtures.provider import ROLE, Pause, Script, completion, error, stream, usage, usage_chunk
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, limit, make_key, question


async def standing(gateway: Gateway, quota: int) -> tuple[int, int]:
    """Used and reserved, once no call of the tenant is open."""
    meter = await gateway.application.process.get(Meter)
    await meter.flush()
    known = [one for one in (await meter._quotas.of(gateway.tenant)).quotas if one.id == quota]
    (state,) = await meter.building.states(gateway.tenant, known)
    return state.used, state.reserved


async def test_a_rate_of_requests_is_refused_in_openais_form_and_not_forwarded(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    quota = await limit(limited, scope="key", name=key.split("_")[1], metric="requests", span="ever", amount=2)
    async with limited.with_key(key) as client:
        answers = [await client.post("/v1/chat/completions", json=question()) for _ in range(3)]
    assert [answer.status_code for answer in answers] == [200, 200, 429]
    assert len(limited.provider.calls) == 2
    told = answers[2].json()["error"]
    assert (told["type"], told["code"]) == ("rate_limit_error", "rate_limit_exceeded")
    assert "this key may use 2 requests in all" in told["message"]
    assert len(await limited.ledger(2)) == 2
    assert await standing(limited, quota) == (2, 0)


async def test_a_refusal_says_when_there_is_room_in_headers_that_sdks_act_on(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    await limit(limited, scope="key", name=key.split("_")[1], metric="requests", span="rolling:60", amount=1)
    async with limited.with_key(key) as client:
        first = await client.post("/v1/chat/completions", json=question())
        second = await client.post("/v1/chat/completions", json=question())
    assert first.headers["x-ratelimit-limit-requests"] == "1"
    assert first.headers["x-ratelimit-remaining-requests"] == "0"
    assert first.headers["x-ratelimit-reset-requests"] == "60s"
    assert second.status_code == 429
    assert 59 <= int(second.headers["retry-after"]) <= 61
    assert 59_000 <= int(second.headers["retry-after-ms"]) <= 61_000
    assert (await limited.chat()).status_code == 200  # another key has its own


async def test_a_spent_budget_is_refused_until_it_resets_and_sdks_do_not_try_again(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    quota = await limit(
        limited, scope="key", name=key.split("_")[1], metric="micro_usd", span="calendar:month", amount=1000
    )
    limited.provider.will(completion(used=usage(0, 1666)))  # 999.6, so 1000 micro-USD
    async with limited.with_key(key) as client:
        first = await client.post("/v1/chat/completions", json=question(max_tokens=1600))
        assert (first.status_code, first.headers["x-dcoder-cost-micro-usd"]) == (200, "1000")
        assert await standing(limited, quota) == (1000, 0)
        refused = await client.post("/v1/chat/completions", json=question(max_tokens=1))
    assert refused.status_code == 429
    assert refused.headers["x-should-retry"] == "false"
    assert refused.json()["error"]["code"] == "insufficient_quota"
    month_s = 32 * 86_400
    assert 0 < int(refused.headers["retry-after"]) < month_s
    attempts = len(limited.provider.calls)
    sdk = openai.AsyncOpenAI(api_key=key, base_url=f"{limited.url}/v1", max_retries=2)
    with pytest.raises(openai.RateLimitError):
        await sdk.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}])
    assert len(limited.provider.calls) == attempts
    await sdk.close()


async def test_a_call_larger_than_the_whole_budget_is_told_that_waiting_does_not_help(limited: Gateway) -> None:
    await limit(limited, metric="micro_usd", span="calendar:day", amount=100, scope="model", name="gpt-4o-mini")
    answer = await limited.chat(max_tokens=1000)
    assert answer.status_code == 429
    assert "now or later" in answer.json()["error"]["message"]
    assert "retry-after" not in answer.headers
    assert limited.provider.calls == []


async def test_under_a_budget_the_provider_is_told_how_long_an_answer_may_be(limited: Gateway) -> None:
    await limit(limited, metric="micro_usd", span="ever", amount=10**12)
    await limited.chat()
    await limited.chat(stream=True)
    await limited.chat(max_tokens=7)
    assert [call.json.get("max_tokens") for call in limited.provider.calls] == [16_384, 16_384, 7]


async def test_without_a_budget_the_callers_bytes_are_passed_on_unchanged(limited: Gateway) -> None:
    await limit(limited, metric="requests", span="ever", amount=10**9)
    body = json.dumps(question()).encode()
    await limited.client.post("/v1/chat/completions", content=body, headers={"content-type": "application/json"})
    assert limited.provider.calls[0].body == body


async def test_the_last_of_a_budget_is_an_answer_of_the_length_that_fits(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    await limit(limited, scope="key", name=key.split("_")[1], metric="tokens", span="ever", amount=1000)
    async with limited.with_key(key) as client:
        answer = await client.post("/v1/chat/completions", json=question())
        assert answer.status_code == 200
        bytes_sent = len(httpx.Request("POST", "http://x", json=question()).content)
        assert limited.provider.calls[0].json["max_tokens"] == 1000 - bytes_sent
        assert answer.headers["x-dcoder-provider"] == "scripted"
        limited.provider.will(completion(used=usage(700, 100)))
        await client.post("/v1/chat/completions", json=question())
        refused = await client.post("/v1/chat/completions", json=question())
    assert refused.status_code == 429  # fewer than 256 are left beside the question


async def test_who_asks_again_at_once_is_not_refused_for_what_has_just_ended(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    size = len(httpx.Request("POST", "http://x", json=question(max_tokens=100)).content)
    room = 10 * 11 + size + 100  # ten calls of eleven tokens, and what one more reserves
    await limit(limited, scope="key", name=key.split("_")[1], metric="tokens", span="ever", amount=room)
    limited.provider.will(*(completion(used=usage(10, 1)) for _ in range(11)))
    async with limited.with_key(key) as client:
        asked = [await client.post("/v1/chat/completions", json=question(max_tokens=100)) for _ in range(11)]
    assert [answer.status_code for answer in asked] == [200] * 11


async def test_calls_at_once_are_limited_and_free_when_they_end(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    await limit(limited, scope="key", name=key.split("_")[1], metric="parallel", span="ever", amount=2)
    limited.provider.will(*(Script((ROLE, Pause(0.5), *stream("x").steps[1:])) for _ in range(2)))
    async with limited.with_key(key) as client:

        async def ask() -> int:
            return (await client.post("/v1/chat/completions", json=question(stream=True))).status_code

        first = [asyncio.create_task(ask()) for _ in range(2)]
        await until(lambda: len(limited.provider.calls) == 2)
        assert await ask() == 429
        assert [await one for one in first] == [200, 200]

        async def free() -> bool:
            return await ask() == 200

        await until(free)


async def test_a_soft_limit_counts_and_refuses_nothing(limited: Gateway) -> None:
    quota = await limit(
        limited, metric="tokens", span="rolling:60", amount=1, hard=False, scope="model", name="house-model"
    )
    assert [(await limited.chat("house-model")).status_code for _ in range(3)] == [200, 200, 200]
    used, reserved = await standing(limited, quota)
    assert (used >= 30, reserved) == (True, 0)
    assert "max_tokens" not in limited.provider.calls[0].json


async def test_a_model_of_unknown_price_is_refused_under_a_budget_in_money(limited: Gateway) -> None:
    await limit(limited, metric="micro_usd", span="ever", amount=10**12)
    answer = await limited.chat("house-model")
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "price_unknown")
    assert limited.provider.calls == []


async def test_limits_of_a_tag_hold_for_every_key_that_has_it(limited: Gateway) -> None:
    keys = [await make_key(limited.application, limited.tenant, tags=["research"]) for _ in range(2)]
    await limit(limited, scope="tag", name="research", metric="requests", span="calendar:day", amount=1)
    told = []
    for key in keys:
        async with limited.with_key(key) as client:
            told.append((await client.post("/v1/chat/completions", json=question())).status_code)
    assert told == [200, 429]
    (row,) = await limited.ledger()
    assert row["tags"] == ["research"]


async def test_a_call_that_a_function_makes_for_a_key_counts_against_the_key(limited: Gateway) -> None:
    await limit(limited, scope="key", name="abcdefghijkl", metric="requests", span="ever", amount=1)
    tokens = await limited.application.process.get(Tokens)
    caller = Caller(limited.tenant, "key:abcdefghijkl", "member", "key", key_id=KeyId("abcdefghijkl"))
    token = tokens.mint(caller, audience="gateway-llm")
    async with limited.with_key(token) as client:
        told = [(await client.post("/v1/chat/completions", json=question())).status_code for _ in range(2)]
    assert told == [200, 429]


@pytest.mark.parametrize("script", [error(500), Script((b"{",), headers=(("content-length", "1"),))])
async def test_a_provider_that_fails_frees_what_was_reserved(limited: Gateway, script: Script) -> None:
    quota = await limit(limited, metric="parallel", span="ever", amount=1)
    limited.provider.will(script)
    await limited.chat()
    assert (await standing(limited, quota))[1] == 0


async def test_a_stream_whose_caller_leaves_is_charged_as_reserved(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    quota = await limit(limited, scope="key", name=key.split("_")[1], metric="tokens", span="ever", amount=5000)
    limited.provider.will(Script((ROLE, Pause(30))))
    body = question(stream=True, max_tokens=100)
    sent = len(httpx.Request("POST", "http://x", json=body).content)
    async with limited.with_key(key) as client, client.stream("POST", "/v1/chat/completions", json=body) as answer:
        async for _ in answer.aiter_raw():
            break
    await limited.ledger()
    assert await standing(limited, quota) == (sent + 100, 0)


async def test_a_stream_is_charged_by_its_usage(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    quota = await limit(limited, scope="key", name=key.split("_")[1], metric="tokens", span="ever", amount=50_000)
    limited.provider.will(Script((ROLE, usage_chunk(11, 22), b"data: [DONE]\n\n")))
    async with limited.with_key(key) as client:
        await client.post("/v1/chat/completions", json=question(stream=True))
    assert await standing(limited, quota) == (33, 0)


@pytest.mark.parametrize("length", [0, -1, 1.5, "many", True, 2**40])
async def test_an_absurd_length_is_refused_before_anything_is_reserved(limited: Gateway, length: object) -> None:
    answer = await limited.chat(max_tokens=length)
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, "max_tokens")
    assert limited.provider.calls == []
    assert await limited.rows() == []


async def test_a_budget_counts_what_was_used_before_it_was_set(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    async with limited.with_key(key) as client:
        for _ in range(3):
            await client.post("/v1/chat/completions", json=question())
        await limited.ledger(3)
        quota = await limit(
            limited, scope="key", name=key.split("_")[1], metric="tokens", span="calendar:month", amount=31
        )
        assert await standing(limited, quota) == (30, 0)
        assert (await client.post("/v1/chat/completions", json=question(max_tokens=1))).status_code == 429


async def test_redis_emptied_in_mid_flight_is_built_again_from_the_ledger_in_a_second(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    quota = await limit(
        limited, scope="key", name=key.split("_")[1], metric="tokens", span="calendar:month", amount=10_000
    )
    limited.provider.will(
        completion(used=usage(500, 500)), Script((ROLE, Pause(1.5), usage_chunk(100, 100), b"data: [DONE]\n\n"))
    )
    async with limited.with_key(key) as client:
        await client.post("/v1/chat/completions", json=question(max_tokens=600))
        body = question(stream=True, max_tokens=2000)
        sent = len(httpx.Request("POST", "http://x", json=body).content)
        streaming = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await until(lambda: len(limited.provider.calls) == 2)
        await limited.ledger_open(1)
        await emptied(limited)
        began = datetime.now(UTC)
        assert await standing(limited, quota) == (1000, sent + 2000)
        assert (datetime.now(UTC) - began).total_seconds() < 1
        await streaming
    assert await standing(limited, quota) == (1200, 0)


async def emptied(gateway: Gateway) -> None:
    connection = await connected(gateway.application.process.settings.redis_url)
    await connection.command("FLUSHALL")
    connection.close()


async def test_a_tenants_limits_do_not_touch_another_tenant(limited: Gateway) -> None:
    await limit(replace(limited, tenant=TenantId("somebody-else")), metric="requests", span="ever", amount=0)
    async with limited.with_key(limited.key) as client:
        assert (await client.post("/v1/chat/completions", json=question())).status_code == 200
    await limited.control.execute("DELETE FROM quotas WHERE tenant = 'somebody-else'")


@pytest.mark.parametrize("scope", ["member", "group"])
async def test_limits_of_a_member_or_group_hold_for_all_keys_that_belong_to_it(limited: Gateway, scope: str) -> None:
    name = f"{scope}@example.com"
    marks = ["group:another", f"{scope}:{name}"]
    keys = [await make_key(limited.application, limited.tenant, tags=marks) for _ in range(2)]
    quota = await limit(limited, scope=scope, name=name, metric="requests", span="calendar:day", amount=1)
    told = []
    for key in (*keys, limited.key):
        async with limited.with_key(key) as client:
            told.append(await client.post("/v1/chat/completions", json=question()))
    assert [answer.status_code for answer in told] == [200, 429, 200]
    assert f"the {scope} '{name}'" in told[1].json()["error"]["message"]
    assert (await limited.ledger(2))[0]["tags"] == sorted(marks)
    assert await standing(limited, quota) == (1, 0)
    await emptied(limited)
    assert await standing(limited, quota) == (1, 0)  # as the ledger says
