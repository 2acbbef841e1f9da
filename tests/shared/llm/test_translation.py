"""What the translator tells comes over as what it was."""

from __future__ import annotations

import json

import pytest

from shared.errors import Busy, Problem, Unavailable
from shared.llm.translation import (
    MARK,
    TOLD,
    Untranslatable,
    document_of,
    problem_event,
    problem_in,
    used_event,
    used_in,
    used_text,
)
from shared.usage import Tokens

USED = Tokens(117, 9, cached=10, written_5m=60, written_1h=40, reasoning=3, tier="flex")


@pytest.mark.parametrize("kind", TOLD.values(), ids=TOLD)
def test_a_problem_keeps_its_kind_its_words_and_its_wait(kind: type[Problem]) -> None:
    problem = kind("what happened", retry_after_s=7) if issubclass(kind, Busy) else kind("what happened")

    found = problem_in(json.loads(json.dumps(document_of(problem))))

    assert type(found) is kind
    assert (found.detail, found.retry_after_s) == (problem.detail, problem.retry_after_s)


def test_the_member_at_fault_is_told() -> None:
    assert problem_in(document_of(Untranslatable("no", param="n"))).members == {"param": "n"}


def test_a_problem_that_nobody_knows_is_that_something_is_away() -> None:
    assert type(problem_in({"code": "new", "detail": "x", "status": 400})) is Unavailable


def test_what_was_used_comes_over_whole() -> None:
    assert used_in(used_text(USED)) == USED
    assert used_in("") is None
    told = json.loads(used_event(USED).removeprefix(b"data: "))
    assert Tokens(**told["dcoder"]["used"]) == USED


def test_what_is_the_gateways_alone_is_known_by_its_beginning() -> None:
    for event in (used_event(USED), problem_event(Unavailable("x"))):
        assert event.startswith(b"data: " + MARK)
        assert event.endswith(b"\n\n")
