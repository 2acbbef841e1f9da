"""The translator goes away: before a call, in its middle, and between two."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from pathlib import Path

from shared.settings import Settings
from tests.fixtures.provider import Script, Stall, error, message_start, text_block
from tests.fixtures.translator import translator
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, question, serving

MODEL = "claude-sonnet-4-5"


async def test_a_translator_killed_in_a_stream_ends_it_with_an_error_and_one_row(
    crossing: Gateway, settings: Settings, tmp_path: Path
) -> None:
    crossing.provider.will(Script((message_start(), text_block("Hel"), Stall())))
    async with (
        translator(settings, tmp_path / "log", read_timeout_s=30.0) as found,
        serving(replace(settings, translate_url=found.url)) as (_, served),
        crossing.at(served.llm_url) as client,
    ):
        body = question(MODEL, stream=True)
        said = ""
        async with client.stream("POST", "/v1/chat/completions", json=body) as answer:
            async for text in answer.aiter_text():
                said += text
                if "Hel" in text:
                    found.process.kill()
        after = await client.post("/v1/chat/completions", json=question(MODEL))
    assert '"error"' in said
    assert "[DONE]" not in said
    assert (after.status_code, after.json()["error"]["code"]) == (503, "translation_unavailable")
    assert len(crossing.provider.calls) == 1
    first, second = await crossing.ledger(2)
    assert (first["outcome"], first["usage_known"]) == ("cut", False)
    assert (second["outcome"], second["cost_micro_usd"]) == ("provider_error", 0)


async def test_a_translator_killed_before_it_answered_is_one_row_of_unknown_cost(
    crossing: Gateway, settings: Settings, tmp_path: Path
) -> None:
    crossing.provider.will(Script((), before=(Stall(),)))
    async with (
        translator(settings, tmp_path / "log", read_timeout_s=30.0) as found,
        serving(replace(settings, translate_url=found.url)) as (_, served),
        crossing.at(served.llm_url) as client,
    ):
        asking = asyncio.create_task(
            client.post("/v1/embeddings", json={"model": "gemini-embedding-001", "input": "a"})
        )
        await until(lambda: bool(crossing.provider.calls))
        found.process.kill()
        answer = await asking
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    assert len(crossing.provider.calls) == 1
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["usage_known"]) == ("provider_error", False)


async def test_what_is_at_its_place_and_is_not_it_is_not_believed(crossing: Gateway, settings: Settings) -> None:
    """An ingress that answers in its place: here, the provider itself."""
    async with (
        serving(replace(settings, translate_url=crossing.provider.base_url)) as (_, served),
        crossing.at(served.llm_url) as client,
    ):
        answer = await client.post("/v1/chat/completions", json=question(MODEL))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "translation_unavailable")
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_a_translator_that_fails_may_have_asked_and_is_charged_as_such(
    crossing: Gateway, settings: Settings
) -> None:
    async with (
        serving(replace(settings, translate_url=crossing.provider.base_url)) as (_, served),
        crossing.at(served.llm_url) as client,
    ):
        crossing.provider.will(error(500))
        answer = await client.post("/v1/chat/completions", json=question(MODEL))
    assert (answer.status_code, answer.json()["error"]["code"]) == (503, "unavailable")
    (row,) = await crossing.ledger()
    assert (row["outcome"], row["usage_known"]) == ("provider_error", False)
