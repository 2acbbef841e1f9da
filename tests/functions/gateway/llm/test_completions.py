"""OpenAI's older route: a text goes on, with what follows it."""

from __future__ import annotations

import json
from typing import Any

import openai
import pytest

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.reservation import choices_of, prompts_in, wish_of
from shared.errors import Malformed
from tests.fixtures.provider import DONE, Script, event, usage, whole
from tests.functions.gateway.conftest import Gateway, limit, make_key

MODEL = "gpt-4o-mini"


def answer(text: str = " time") -> dict[str, Any]:  # Any: JSON
    choices = [{"index": 0, "text": text, "finish_reason": "stop", "logprobs": None}]
    return {"id": "c", "object": "text_completion", "created": 1, "model": MODEL, "choices": choices}


def piece(text: str) -> bytes:
    return event(answer(text))


@pytest.fixture
def sdk(gateway: Gateway) -> openai.AsyncOpenAI:
    return openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)


async def test_the_sdk_gets_a_completion_and_the_ledger_a_row(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    gateway.provider.will(whole(answer() | {"usage": usage(4, 1)}))
    told = await sdk.completions.create(model=MODEL, prompt="Once upon a", suffix=" there was", max_tokens=5)
    assert told.choices[0].text == " time"
    (call,) = gateway.provider.calls
    assert (call.path, call.json["suffix"]) == ("/v1/completions", " there was")
    (row,) = await gateway.ledger()
    assert (row["feature"], row["input_tokens"], row["output_tokens"]) == ("completions", 4, 1)


async def test_a_stream_is_passed_on_and_its_usage_is_read(gateway: Gateway, sdk: openai.AsyncOpenAI) -> None:
    counted = event(answer() | {"choices": [], "usage": usage(4, 2)})
    gateway.provider.will(Script((piece(" ti"), piece("me"), counted, DONE)))
    stream = await sdk.completions.create(model=MODEL, prompt="Once upon a", stream=True)
    assert "".join([one.choices[0].text async for one in stream]) == " time"
    (row,) = await gateway.ledger()
    assert (row["output_tokens"], row["usage_known"]) == (2, True)


async def test_under_a_hard_limit_the_provider_is_told_the_length_that_is_its_default(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    await limit(limited, scope="key", name=key.split("_")[1], metric="tokens", span="ever", amount=100_000)
    async with limited.with_key(key) as client:
        limited.provider.will(whole(answer() | {"usage": usage(4, 1)}))
        asked = {"model": MODEL, "prompt": ["a", "b"], "best_of": 3}
        assert (await client.post("/v1/completions", json=asked)).status_code == 200
    assert limited.provider.calls[0].json == {**asked, "max_tokens": 16}


@pytest.mark.parametrize(
    ("content", "answers"),
    [
        ({"prompt": "a"}, 1),
        ({"prompt": "a", "n": 2}, 2),
        ({"prompt": "a", "n": 2, "best_of": 5}, 5),
        ({"prompt": ["a", "b", "c"], "n": 2}, 6),
        ({"prompt": [1, 2, 3]}, 1),
        ({"prompt": [[1, 2], [3]]}, 2),
    ],
)
def test_all_that_is_written_is_reserved(content: dict[str, Any], answers: int) -> None:  # Any: JSON
    raw = json.dumps(content).encode()
    wish = wish_of(Wanted(MODEL, content, raw), unlimited=16)
    assert choices_of(Wanted(MODEL, content, raw)) == wish.answers == answers
    assert wish.most.output == 16 * answers


def test_too_many_prompts_are_refused() -> None:
    with pytest.raises(Malformed):
        prompts_in(["a"] * 2049)


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ({"model": MODEL}, "prompt"),
        ({"model": MODEL, "prompt": "a", "best_of": 0}, "best_of"),
        ({"model": MODEL, "prompt": "a", "Prompt": "b"}, "prompt"),
        ({"model": "doc-chat", "prompt": "a"}, "model"),
        ({"model": "nowhere", "prompt": "a"}, "model"),
    ],
)
async def test_bad_input_is_told_and_nothing_is_asked(gateway: Gateway, body: dict[str, Any], code: str) -> None:
    told = await gateway.client.post("/v1/completions", json=body)
    assert told.status_code in (400, 404)
    assert told.json()["error"]["param"] == code
    assert gateway.provider.calls == []
