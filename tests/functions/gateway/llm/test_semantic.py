"""The same question in other words gets the answer that was given before; a question that differs does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from functions.gateway.llm.semantic import entries, lookup
from functions.gateway.llm.semantic.lookup import LOOKUP_S
from shared.llm.answers import REMEMBERED_S, Answers
from shared.postgres import TenantDatabase
from shared.tenancy import TenantRegistry
from tests.fixtures.provider import ROLE, Script, chunk, completion, stream
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import CLAUDES, Gateway, make_key

ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
Json = Any  # Any: JSON


@pytest.fixture
async def semantic(gateway: Gateway, patient: None) -> AsyncIterator[Gateway]:
    """The tenant with its semantic cache on, nothing in it, and the embedding model loaded."""
    await put(gateway, enabled=True, semantic=True)
    loaded = await gateway.client.post("/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": "warm"})
    loaded.raise_for_status()
    yield gateway
    await put(gateway, enabled=False)
    await (await tenant_database(gateway)).execute("DELETE FROM semantic_hits")


async def tenant_database(gateway: Gateway) -> TenantDatabase:
    return await (await gateway.application.process.get(TenantRegistry)).database(gateway.tenant)


async def put(gateway: Gateway, **setting: Json) -> None:
    (await gateway.client.put("/v1/cache", json=setting)).raise_for_status()
    (await gateway.client.delete("/v1/cache/answers")).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)


async def landed(gateway: Gateway) -> None:
    answers = await gateway.application.process.get(Answers)
    await until(lambda: not answers.flights)


def body_of(*turns: str, **more: Json) -> Json:
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    return {"model": "gpt-4o-mini", "messages": messages, **more}


async def ask(gateway: Gateway, *turns: str, headers: dict[str, str] | None = None, **more: Json) -> Json:
    answer = await gateway.client.post("/v1/chat/completions", json=body_of(*turns, **more), headers=headers)
    answer.raise_for_status()
    await landed(gateway)
    return answer


def said_of(answer: Json) -> dict[str, str]:
    """What a hit says of itself."""
    return dict(part.strip().split("=") for part in answer.headers["x-dcoder-cache"].split(";")[1:])


def how(answer: Json) -> str:
    return str(answer.headers["x-dcoder-cache"].partition(";")[0])


async def test_the_same_question_in_other_words_gets_the_same_answer(semantic: Gateway) -> None:
    semantic.provider.will(completion("like this"))
    first = await ask(semantic, ASKED)
    again = await ask(semantic, REWORDED)
    assert (how(first), how(again)) == ("miss", "semantic")
    assert again.content == first.content
    assert again.headers["x-dcoder-cost-micro-usd"] == "0"
    said = said_of(again)
    assert set(said) == {"similarity", "threshold", "entry", "hit", "age", "saved-micro-usd"}
    assert float(said["similarity"]) >= float(said["threshold"])
    assert len(semantic.provider.calls) == 1


async def test_a_stream_is_replayed_for_other_words(semantic: Gateway) -> None:
    semantic.provider.will(stream("like", " this"))
    first = await ask(semantic, ASKED, stream=True)
    again = await ask(semantic, REWORDED, stream=True)
    assert (how(again), again.content) == ("semantic", first.content)
    assert again.headers["content-type"].startswith("text/event-stream")


async def test_a_message_of_anthropic_is_answered_again_in_other_words(semantic: Gateway) -> None:
    said = []
    for text in (ASKED, REWORDED):
        body = {"model": CLAUDES[0], "max_tokens": 10, "messages": [{"role": "user", "content": text}]}
        said.append(await semantic.client.post("/v1/messages", json=body))
        await landed(semantic)
    assert (how(said[1]), said[1].content) == ("semantic", said[0].content)


@pytest.mark.parametrize(
    "other",
    [
        "How do I not reset my password?",
        "How do I reset my 2 passwords?",
        "How tall is the Eiffel Tower?",
        "How do I change my username?",
        "Wie setze ich mein Passwort zurück?",
        "Why do I reset my password?",
        "How do I reset all my passwords?",
    ],
)
async def test_a_question_that_differs_is_asked(semantic: Gateway, other: str) -> None:
    await ask(semantic, ASKED)
    assert how(await ask(semantic, other)) == "miss"


@pytest.mark.parametrize(
    "more",
    [
        {"temperature": 0.5},
        {"max_tokens": 5},
        {"tools": [{"type": "function", "function": {"name": "f", "parameters": {}}}]},
        {"response_format": {"type": "json_object"}},
        {"model": "house-model"},
        {"stream": True},
        {"user": "somebody"},
    ],
    ids=lambda more: str(next(iter(more))),
)
async def test_nothing_but_the_last_words_may_differ(semantic: Gateway, more: Json) -> None:
    await ask(semantic, ASKED)
    assert how(await ask(semantic, REWORDED, **more)) == "miss"


async def test_the_turns_before_must_be_the_same(semantic: Gateway) -> None:
    await ask(semantic, "I use a Mac.", "Good.", ASKED)
    assert how(await ask(semantic, "I use Windows.", "Good.", REWORDED)) == "miss"
    assert how(await ask(semantic, REWORDED)) == "miss"
    assert how(await ask(semantic, "I use a Mac.", "Good.", REWORDED)) == "semantic"


async def test_a_picture_beside_the_words_must_be_the_same(semantic: Gateway) -> None:
    def turn(text: str, picture: str) -> Json:
        return [
            {"type": "image_url", "image_url": {"url": f"https://example.com/{picture}"}},
            {"type": "text", "text": text},
        ]

    async def shown(text: str, picture: str) -> str:
        messages = [{"role": "user", "content": turn(text, picture)}]
        body = {"model": "gpt-4o-mini", "messages": messages}
        answer = await semantic.client.post("/v1/chat/completions", json=body)
        await landed(semantic)
        return how(answer)

    assert [await shown(ASKED, "a.png"), await shown(REWORDED, "b.png"), await shown(REWORDED, "a.png")] == [
        "miss",
        "miss",
        "semantic",
    ]


JSON_ANSWER = (("content-type", "application/json"),)
CALLS_A_TOOL = json.dumps(
    {
        "choices": [
            {
                "index": 0,
                "finish_reason": "tool_calls",
                "message": {
                    "role": "assistant",
                    "content": None,
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "{}"}}],
                },
            }
        ],
        "usage": {"prompt_tokens": 1, "completion_tokens": 1, "total_tokens": 2},
    }
).encode()


@pytest.mark.parametrize(
    "script",
    [
        Script((CALLS_A_TOOL,), headers=JSON_ANSWER),
        Script((CALLS_A_TOOL.replace(b"tool_calls", b"length", 1),), headers=JSON_ANSWER),
    ],
    ids=["tool call", "length"],
)
async def test_an_answer_that_is_not_a_whole_text_is_for_the_same_question_only(
    semantic: Gateway, script: Script
) -> None:
    semantic.provider.will(script)
    await ask(semantic, ASKED)
    assert how(await ask(semantic, ASKED)) == "hit"
    assert how(await ask(semantic, REWORDED)) == "miss"


async def test_a_cut_stream_is_for_nobody(semantic: Gateway) -> None:
    semantic.provider.will(Script((ROLE, chunk({"content": "x"}))))
    await semantic.client.post("/v1/chat/completions", json=body_of(ASKED, stream=True))
    await landed(semantic)
    assert how(await ask(semantic, REWORDED, stream=True)) == "miss"


@pytest.mark.parametrize("wish", ["exact", "off", "refresh"])
async def test_a_request_can_do_without(semantic: Gateway, wish: str) -> None:
    await ask(semantic, ASKED)
    assert how(await ask(semantic, REWORDED, headers={"x-dcoder-cache": wish})) in ("miss", "off")


async def test_an_entry_goes_with_its_time(semantic: Gateway) -> None:
    await ask(semantic, ASKED, headers={"x-dcoder-cache-ttl": "1"})
    await asyncio.sleep(1.1)
    assert how(await ask(semantic, REWORDED)) == "miss"


async def test_nothing_is_kept_for_other_words_until_somebody_says_so(semantic: Gateway) -> None:
    await put(semantic, enabled=True)
    await ask(semantic, ASKED)
    assert how(await ask(semantic, REWORDED)) == "miss"
    await put(semantic, enabled=True, semantic=True)
    assert how(await ask(semantic, "How could I reset my password?")) == "miss"


async def test_an_answer_marked_as_wrong_is_not_given_again_and_the_threshold_moves(semantic: Gateway) -> None:
    await ask(semantic, ASKED)
    hit = said_of(await ask(semantic, REWORDED))
    member = await make_key(semantic.application, semantic.tenant, role="member")
    async with semantic.with_key(member) as client:
        told = await client.post("/v1/cache/feedback", json={"hit": hit["hit"], "correct": False})
    assert told.status_code == 200, told.text
    assert told.json()["entry"] == hit["entry"]
    assert told.json()["threshold"] > float(hit["similarity"]) - 0.0001
    await asyncio.sleep(REMEMBERED_S)
    await ask(semantic, ASKED, headers={"x-dcoder-cache": "refresh"})
    assert how(await ask(semantic, REWORDED)) == "miss"
    listed = (await semantic.client.get("/v1/cache/applications")).json()["applications"]
    assert [(one["hits"], one["wrong"]) for one in listed if one["wrong"]] == [(1, 1)]


async def test_only_who_may_can_judge(semantic: Gateway) -> None:
    viewer = await make_key(semantic.application, semantic.tenant, role="viewer")
    unknown = {"hit": "00000000-0000-4000-8000-000000000000", "correct": True}
    async with semantic.with_key(viewer) as client:
        assert (await client.post("/v1/cache/feedback", json=unknown)).status_code == 403
    assert (await semantic.client.post("/v1/cache/feedback", json=unknown)).status_code == 404


async def test_what_the_database_holds_of_a_question_is_sealed(semantic: Gateway) -> None:
    await ask(semantic, "How do I reset my very private password?")
    rows = await (await tenant_database(semantic)).fetch("SELECT * FROM semantic_entries")
    assert rows
    assert b"private" not in b"".join(bytes(row["question"]) for row in rows)
    assert "private" not in str([dict(row) for row in rows])


async def test_a_lookup_that_fails_costs_the_call_nothing(semantic: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> bool:
        raise OSError("no database")

    await ask(semantic, ASKED)
    monkeypatch.setattr(entries, "any_in", broken)
    assert how(await ask(semantic, REWORDED)) == "miss"


async def test_a_lookup_that_takes_too_long_is_given_up(semantic: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    async def slow(*_: object) -> bool:
        await asyncio.sleep(30)
        return True

    await ask(semantic, ASKED)
    monkeypatch.setattr(entries, "any_in", slow)
    monkeypatch.setattr(lookup, "LOOKUP_S", LOOKUP_S)
    async with asyncio.timeout(10):
        assert how(await ask(semantic, REWORDED)) == "miss"
