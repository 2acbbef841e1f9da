"""The same question in other words gets the answer that was given before; a question that differs does not."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from shared.llm.answers import REMEMBERED_S, Answers
from tests.fixtures.provider import completion, stream
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway

ASKED = "How do I reset my password?"
REWORDED = "How can I reset my password?"
Json = Any  # Any: JSON


@pytest.fixture
async def semantic(gateway: Gateway) -> AsyncIterator[Gateway]:
    """The tenant with its semantic cache on, nothing in it, and the embedding model loaded."""
    await put(gateway, enabled=True, semantic=True)
    loaded = await gateway.client.post("/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": "warm"})
    loaded.raise_for_status()
    yield gateway
    await put(gateway, enabled=False)


async def put(gateway: Gateway, **setting: Json) -> None:
    (await gateway.client.put("/v1/cache", json=setting)).raise_for_status()
    (await gateway.client.delete("/v1/cache/answers")).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)


async def landed(gateway: Gateway) -> None:
    answers = await gateway.application.process.get(Answers)
    await until(lambda: not answers.flights)


async def ask(gateway: Gateway, *turns: str, headers: dict[str, str] | None = None, **more: Json) -> Json:
    roles = ["user", "assistant"] * len(turns)
    messages = [{"role": role, "content": text} for role, text in zip(roles, turns, strict=False)]
    body = {"model": "gpt-4o-mini", "messages": messages, **more}
    answer = await gateway.client.post("/v1/chat/completions", json=body, headers=headers)
    answer.raise_for_status()
    await landed(gateway)
    return answer


def how(answer: Json) -> str:
    return str(answer.headers["x-dcoder-cache"].partition(";")[0])


async def test_the_same_question_in_other_words_gets_the_same_answer(semantic: Gateway) -> None:
    semantic.provider.will(completion("like this"))
    first = await ask(semantic, ASKED)
    again = await ask(semantic, REWORDED)
    assert (how(first), how(again)) == ("miss", "semantic")
    assert again.content == first.content
    assert again.headers["x-dcoder-cost-micro-usd"] == "0"
    said = dict(part.strip().split("=") for part in again.headers["x-dcoder-cache"].split(";")[1:])
    assert set(said) == {"similarity", "threshold", "entry", "hit", "age", "saved-micro-usd"}
    assert float(said["similarity"]) >= float(said["threshold"])
    assert len(semantic.provider.calls) == 1


async def test_a_stream_is_replayed_for_other_words(semantic: Gateway) -> None:
    semantic.provider.will(stream("like", " this"))
    first = await ask(semantic, ASKED, stream=True)
    again = await ask(semantic, REWORDED, stream=True)
    assert (how(again), again.content) == ("semantic", first.content)
    assert again.headers["content-type"].startswith("text/event-stream")


@pytest.mark.parametrize(
    "other", ["How do I not reset my password?", "How do I reset my password 2?", "How tall is the Eiffel Tower?"]
)
async def test_a_question_that_differs_is_asked(semantic: Gateway, other: str) -> None:
    await ask(semantic, ASKED)
    assert how(await ask(semantic, other)) == "miss"
