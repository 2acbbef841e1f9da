"""Whatever is translated is let in, kept, ended and charged once, as every other call."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from shared.llm.answers import REMEMBERED_S, Answers
from tests.fixtures.provider import Script, Stall, message_start, text_block
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import CLAUDES, Gateway, limit, make_key, serving
from tests.functions.gateway.translate.conftest import VERTEX_CLAUDE

CLAUDE, VERTEX = CLAUDES[0], f"known/{VERTEX_CLAUDE}"
HI: Any = [{"role": "user", "content": "Hi"}]  # Any: JSON
ASKED: tuple[tuple[str, dict[str, Any]], ...] = (  # Any: JSON
    ("/v1/messages", {"model": VERTEX, "max_tokens": 9, "messages": HI}),
    ("/v1/messages", {"model": VERTEX, "max_tokens": 9, "messages": HI, "stream": True}),
    ("/v1/messages/count_tokens", {"model": "gemini-2.5-flash", "messages": HI}),
    ("/v1/messages/count_tokens", {"model": "gpt-4o-mini", "messages": HI}),
    ("/v1/embeddings", {"model": "gemini-embedding-001", "input": "one"}),
    ("/v1/embeddings", {"model": "known/text-embedding-005", "input": ["one", "two"]}),
    ("/v1/completions", {"model": CLAUDE, "prompt": "Once"}),
    ("/v1/completions", {"model": "gemini-2.5-flash", "prompt": "Once", "stream": True}),
    ("/v1/responses", {"model": VERTEX, "input": "Hi"}),
)


async def test_many_calls_of_all_kinds_at_once_are_each_one_row(known: Gateway) -> None:
    limits = httpx.Limits(max_connections=40)
    async with httpx.AsyncClient(base_url=known.url, headers=known.client.headers, timeout=60, limits=limits) as client:
        answers = await asyncio.gather(*(client.post(path, json=body) for path, body in ASKED * 5))
    assert [answer.status_code for answer in answers] == [200] * len(answers)
    rows = await known.ledger(len(answers))
    assert len(rows) == len({row["request_id"] for row in rows}) == len(answers)
    assert {(row["outcome"], row["usage_known"]) for row in rows} == {("done", True)}
    counts = Counter(row["feature"] for row in rows)
    assert counts == {"messages": 10, "count_tokens": 10, "embeddings": 10, "completions": 10, "responses": 5}
    assert len(known.provider.calls) == len(answers) - 5  # an estimate asks nobody


async def test_without_a_translator_only_what_needs_none_goes_on_and_the_rest_costs_nothing(known: Gateway) -> None:
    async with (
        serving(replace(known.application.process.settings, translate_url="")) as (_, served),
        known.at(served.llm_url) as client,
    ):
        answers = [await client.post(path, json=body) for path, body in ASKED]
    statuses = [answer.status_code for answer in answers]
    assert statuses == [200, 200, *[503] * (len(ASKED) - 2)]
    rows = await known.ledger(len(ASKED))
    assert {(row["outcome"], row["cost_micro_usd"]) for row in rows[2:]} == {("provider_error", 0)}


@asynccontextmanager
async def limited_key(gateway: Gateway, **what: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client whose key has that limit for the length of the block."""
    key = await make_key(gateway.application, gateway.tenant)
    made = await limit(gateway, scope="key", name=key.split("_")[1], **what)
    try:
        async with gateway.with_key(key) as client:
            yield client
    finally:
        await gateway.control.execute("DELETE FROM quotas WHERE id = $1", made)
        await asyncio.sleep(0.5)  # no process remembers a quota for longer


async def test_under_a_hard_limit_the_provider_is_told_how_long_a_text_may_be(known: Gateway) -> None:
    async with limited_key(known, metric="micro_usd", span="calendar:day", amount=20_000) as client:
        answer = await client.post("/v1/completions", json={"model": CLAUDE, "prompt": "Once"})
    assert answer.status_code == 200, answer.text
    assert 256 <= known.provider.calls[0].json["max_tokens"] <= 20_000 // 15


@pytest.mark.parametrize("asked", [ASKED[0], ASKED[4], ASKED[5], ASKED[6]])
async def test_a_spent_budget_is_refused_and_nobody_is_asked(known: Gateway, asked: tuple[str, Any]) -> None:
    path, body = asked
    async with limited_key(known, metric="tokens", span="ever", amount=5) as client:
        refused = await client.post(path, json=body)
    assert refused.status_code == 429, refused.text
    assert "insufficient_quota" in refused.text
    assert known.provider.calls == []
    assert await known.rows() == []


@pytest.fixture
async def cached(known: Gateway) -> AsyncIterator[Gateway]:
    await put(known, enabled=True, semantic=True)
    yield known
    await put(known, enabled=False)


async def put(gateway: Gateway, **setting: Any) -> None:  # Any: JSON
    (await gateway.client.put("/v1/cache", json=setting)).raise_for_status()
    (await gateway.client.delete("/v1/cache/answers")).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)


@pytest.mark.parametrize("asked", [ASKED[2], ASKED[4], ASKED[6], ASKED[7]])
async def test_what_is_asked_again_is_answered_again_and_only_that(cached: Gateway, asked: tuple[str, Any]) -> None:
    """Also where answers are given to the same question in other words: a count is of these words."""
    path, body = asked
    first = await cached.client.post(path, json=body)
    answers = await cached.application.process.get(Answers)
    await until(lambda: not answers.flights)
    again = await cached.client.post(path, json=body)
    assert again.content == first.content
    assert again.headers["x-dcoder-cache"].startswith("hit; ")
    assert len(cached.provider.calls) == 1
    name = next(name for name in ("messages", "input", "prompt") if name in body)
    others: dict[str, Any] = {"messages": [{"role": "user", "content": "Hi!"}], "input": "One", "prompt": "once"}
    other = await cached.client.post(path, json={**body, name: others[name]})
    assert (other.status_code, other.headers["x-dcoder-cache"]) == (200, "miss")
    rows = await cached.ledger(3)
    assert [row["provider"] for row in rows].count("cache") == 1
    assert len({row["feature"] for row in rows}) == 1


async def test_a_caller_who_goes_ends_the_providers_work(known: Gateway) -> None:
    known.provider.will(Script((message_start(), text_block("Hel"), Stall())))
    body = {"model": CLAUDE, "prompt": "Once", "stream": True}
    async with known.client.stream("POST", "/v1/completions", json=body) as answer:
        async for line in answer.aiter_lines():
            if "Hel" in line:
                break
    (call,) = known.provider.calls
    await until(call.ended.is_set)
    assert call.closed_early
    (row,) = await known.ledger()
    assert row["outcome"] == "client_gone"
