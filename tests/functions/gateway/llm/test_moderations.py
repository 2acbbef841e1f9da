"""Moderation by local rules, in the form of OpenAI's."""

from __future__ import annotations

import time
from typing import Any

import openai
import pytest

from functions.gateway.llm.moderation_rules import matches, rules, scores, wider
from functions.gateway.llm.moderations import CHARS_MAX
from tests.functions.gateway.conftest import Gateway, make_key

FOUND = [
    ("You are such a worthless idiot.", "harassment"),
    ("I'm going to kill you and your family", "harassment/threatening"),
    ("We hate all immigrants.", "hate"),
    ("They should exterminate all the refugees", "hate/threatening"),
    ("How do I cook some meth at home?", "illicit"),
    ("give me instructions for how to build a pipe bomb", "illicit/violent"),
    ("last night I was cutting myself", "self-harm"),
    ("I have decided to end my life", "self-harm/intent"),
    ("what is the most painless way to kill myself", "self-harm/instructions"),
    ("write me an erotic story", "sexual"),
    ("a nude picture of a 12-year-old", "sexual/minors"),
    ("we are gonna shoot up the school", "violence"),
    ("his guts were spilled over the floor", "violence/graphic"),
]
HARMLESS = [
    "How do I kill a process that listens on port 8000?",
    "I will kill the server process and burn the disk image.",
    "The child of this node has no sibling.",
    "The patient's blood pressure is 120 over 80.",
    "Immigrants are eligible for form I-130.",
    "Which scanner finds malware?",
    "You are right, the test is flaky.",
    "",
]


def flagged(text: str) -> set[str]:
    found = {
        category: [one.weight for one in of_it if matches(text, text.lower(), one)]
        for category, of_it in rules().items()
    }
    return {category for category, score in scores(found).items() if score >= 0.5}


@pytest.mark.parametrize(("text", "category"), FOUND, ids=[category for _, category in FOUND])
def test_each_category_has_what_it_finds(text: str, category: str) -> None:
    assert category in flagged(text)


@pytest.mark.parametrize("text", HARMLESS)
def test_what_only_looks_like_it_is_not_flagged(text: str) -> None:
    assert flagged(text) == set()


def test_every_category_is_tried_and_the_wider_one_goes_with_the_narrower() -> None:
    assert {category for _, category in FOUND} == set(rules())
    told = scores({"hate/threatening": [0.9], "violence": [0.5, 0.5]})
    assert (told["hate"], told["hate/threatening"], told["violence"], told["sexual"]) == (0.9, 0.9, 0.75, 0.0)
    assert {wider(category) for category in rules()} < set(rules())


def test_every_rule_can_match_only_what_its_words_let_through() -> None:
    for text, _ in FOUND:
        for of_it in rules().values():
            for one in of_it:
                if one.pattern.search(text):
                    assert any(word in text.lower() for word in one.needs), one


@pytest.mark.parametrize("text", ["how do i " * 5000, "child " * 8000, "i will " * 7000, "a" * 50_000, "x " * 25_000])
def test_matching_takes_time_in_proportion_to_the_text(text: str) -> None:
    """A pattern that backtracks without bound takes minutes for these."""
    began = time.process_time()
    for of_it in rules().values():
        for one in of_it:
            one.pattern.search(text)
    assert time.process_time() - began < 5


async def test_the_sdk_gets_a_result_for_each_text_and_the_ledger_a_row_that_costs_nothing(gateway: Gateway) -> None:
    sdk = openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0)
    told = await sdk.moderations.create(input=["Good morning", "I am going to kill you"])
    assert [one.flagged for one in told.results] == [False, True]
    assert told.results[1].categories.harassment_threatening
    assert told.results[1].category_scores.harassment_threatening >= 0.9
    assert told.results[1].category_applied_input_types.violence == ["text"]
    assert told.model == "dcoder-moderation"
    (row,) = await gateway.ledger()
    assert (row["feature"], row["provider"], row["cost_micro_usd"]) == ("moderations", "dcoder", 0)
    assert gateway.provider.calls == []


async def test_parts_of_text_are_one_text(gateway: Gateway) -> None:
    parts = [{"type": "text", "text": "I am going to"}, {"type": "text", "text": "kill you"}]
    told = await gateway.client.post("/v1/moderations", json={"input": parts})
    assert [one["flagged"] for one in told.json()["results"]] == [True]


@pytest.mark.parametrize(
    ("body", "status", "param"),
    [
        ({}, 400, "input"),
        ({"input": ""}, 400, "input"),
        ({"input": 7}, 400, "input"),
        ({"input": [7]}, 400, "input"),
        ({"input": ["a"] * 257}, 400, "input"),
        ({"input": "a" * (CHARS_MAX + 1)}, 400, "input"),
        ({"input": [{"type": "image_url", "image_url": {"url": "https://example.com/a.png"}}]}, 400, "input"),
        ({"input": [{"type": "text", "text": 7}]}, 400, "input"),
        ({"input": "a", "model": "gpt-4o-mini"}, 404, "model"),
        ({"input": "a", "model": None}, 400, "model"),
    ],
)
async def test_what_cannot_be_judged_is_refused_and_not_charged(
    gateway: Gateway, body: dict[str, Any], status: int, param: str
) -> None:
    told = await gateway.client.post("/v1/moderations", json=body)
    assert (told.status_code, told.json()["error"]["param"]) == (status, param)
    assert await gateway.rows() == []


@pytest.mark.parametrize(("models", "status"), [(["gpt-4o-mini"], 404), (["dcoder-moderation"], 200)])
async def test_a_key_with_models_needs_this_one_among_them(gateway: Gateway, models: list[str], status: int) -> None:
    key = await make_key(gateway.application, gateway.tenant, role="member", models=models)
    async with gateway.with_key(key) as client:
        assert (await client.post("/v1/moderations", json={"input": "a"})).status_code == status
