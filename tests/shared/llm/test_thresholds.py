"""Thresholds keep the bound that they state, and move with what is said."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.llm.thresholds import DOUBT, NEVER, TRIED, Label, calibrated, learned, share_at_most

LABELS = st.lists(st.builds(Label, st.floats(0, 1), st.booleans()), max_size=60)


@pytest.mark.parametrize(("wrong", "of", "limit"), [(0, 299, 0.00997), (0, 10, 0.2589), (3, 100, 0.0757), (5, 5, 1.0)])
def test_the_limit_is_clopper_and_pearsons(wrong: int, of: int, limit: float) -> None:
    assert share_at_most(wrong, of, 0.05) == pytest.approx(limit, abs=0.0002)


@given(LABELS, st.floats(0.001, 0.1))
def test_a_wrong_answer_never_lowers_a_threshold(labels: list[Label], bound: float) -> None:
    before = learned(labels, bound)
    for similarity in TRIED:
        assert learned([*labels, Label(similarity, False)], bound) >= before


@given(LABELS, st.floats(0.001, 0.1))
def test_with_little_said_nothing_as_similar_as_a_wrong_one_is_given(labels: list[Label], bound: float) -> None:
    wrong = [label.similarity for label in labels if not label.correct]
    threshold = learned(labels, bound)
    assert threshold >= TRIED[0]
    if threshold >= calibrated(bound):
        assert all(similarity < threshold for similarity in wrong)


def test_a_bound_that_was_not_measured_gives_nothing_until_enough_is_said() -> None:
    assert learned([], 0.001) == NEVER
    assert learned([Label(0.99, True)] * 2000, 0.005) == TRIED[0]


def test_much_that_was_right_makes_up_for_one_that_was_wrong() -> None:
    assert learned([Label(0.9, True)] * 2000 + [Label(0.9, False)], 0.01) == TRIED[0]
    assert learned([Label(0.9, True)] * 100 + [Label(0.9, False)], 0.01) > 0.9


def test_the_bound_is_missed_as_seldom_as_stated() -> None:
    """Of applications whose answers are wrong at 1.5 times the bound, below 0.92 of similarity."""
    chance = random.Random(3)
    bound, missed, runs = 0.02, 0, 200
    for _ in range(runs):
        drawn = [chance.uniform(0.6, 1.0) for _ in range(600)]
        labels = [Label(each, not (each < 0.92 and chance.random() < 3 * bound)) for each in drawn]
        threshold = learned(labels, bound)
        share = max(0.0, 0.92 - threshold) / max(1e-9, 1.0 - threshold) * 3 * bound
        missed += threshold < NEVER and share > bound and any(label.similarity >= threshold for label in labels)
    assert missed / runs <= DOUBT
