"""How another function asks a model: through the served gateway, on the caller's behalf."""

from __future__ import annotations

import pytest

from shared.errors import Refusal, TooManyRequests, Unavailable
from shared.function.invoke import FunctionClient, Invoke
from shared.identity import Caller, Tokens
from shared.ids import KeyId
from shared.llm.client import LanguageModel
from shared.telemetry import traceparent
from tests.fixtures.provider import ROLE, Script, chunk, completion, error, stream, whole
from tests.functions.gateway.conftest import Gateway

ASKED = [{"role": "user", "content": "Hi"}]


@pytest.fixture
async def model(gateway: Gateway) -> LanguageModel:
    caller = Caller(gateway.tenant, "key:abc", "member", "key", key_id=KeyId("abc"))
    process = gateway.application.process
    tokens = await process.get(Tokens)
    client = await process.get(FunctionClient)
    return LanguageModel(Invoke(client, lambda function: tokens.mint(caller, audience=function), traceparent("")))


async def test_a_completion_is_asked_for_the_caller_and_ledgered_under_its_key(
    model: LanguageModel, gateway: Gateway
) -> None:
    answer = await model.complete(ASKED, "gpt-4o-mini")
    assert (answer.text, answer.input_tokens, answer.output_tokens) == ("Hello", 7, 3)
    (row,) = await gateway.ledger()
    assert (row["tenant"], row["key_id"]) == (gateway.tenant, "abc")


async def test_a_stream_gives_the_text_as_it_is_written(model: LanguageModel, gateway: Gateway) -> None:
    gateway.provider.will(stream("Hel", "lo"))
    assert [text async for text in model.stream(ASKED, "gpt-4o-mini")] == ["Hel", "lo"]


async def test_a_stream_that_breaks_raises(model: LanguageModel, gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, chunk({"content": "Hel"}))))
    with pytest.raises(Unavailable, match="before it was complete"):
        [text async for text in model.stream(ASKED, "gpt-4o-mini")]


@pytest.mark.parametrize(
    ("script", "kind"),
    [
        (error(400, "too long"), Refusal),
        (error(429, "slow down"), TooManyRequests),
        (error(500, "broken"), Unavailable),
        (whole({"choices": []}), Unavailable),
        (whole(b"nonsense"), Unavailable),
        (completion(used={"prompt_tokens": "x"}), Unavailable),
    ],
)
async def test_a_failure_is_a_problem_that_says_whether_a_retry_helps(
    model: LanguageModel, gateway: Gateway, script: Script, kind: type[Exception]
) -> None:
    gateway.provider.will(script)
    with pytest.raises(kind, match="'gpt-4o-mini'"):
        await model.complete(ASKED, "gpt-4o-mini")
