"""From which similarity on an answer is given to a question in other words: learned from what was said of such answers.

Sources: Clopper and Pearson, "The use of confidence or fiducial limits illustrated in the case of the binomial" (1934);
several thresholds are tried, so each is given its part of the doubt (Bonferroni), or they are tried one after the other
until one fails (fixed sequence; Angelopoulos et al., "Learn then test", 2021).
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

DOUBT = 0.05
"""How likely the bound may be missed."""
TRIED = (0.45, 0.55, 0.62, 0.68, 0.76, 0.82, 0.88, 0.92, 0.96, 0.99)
"""Thresholds that can be learned. Below the first nothing is given, whatever was said."""
NEVER = 1.01
JUST_ABOVE = 0.001
CALIBRATED_ON = 2262
CALIBRATED_WRONG = (
    0.7628, 0.8373, 0.8432, 0.8503, 0.8562, 0.8591, 0.8602, 0.8652, 0.9029, 0.9366, 0.9469, 0.9502, 0.9623,
)  # fmt: skip
"""Of how many questions that nearly say the same, in the held-out halves of `tests/load/gateway/semantic.py`, which got
a wrong answer: their similarities. Where nobody of a tenant has said anything, this is what is known."""


@dataclass(frozen=True)
class Label:
    """What somebody said of an answer that was given."""

    similarity: float
    correct: bool


def share_at_most(wrong: int, of: int, doubt: float) -> float:
    """The share of wrong ones that is not exceeded, but with probability `doubt`, when `wrong` were seen (Clopper and
    Pearson's upper limit)."""
    if wrong >= of:
        return 1.0
    low, high = wrong / of, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        low, high = (middle, high) if at_most(wrong, of, middle) > doubt else (low, middle)
    return high


def at_most(wrong: int, of: int, share: float) -> float:
    """The probability of at most so many wrong ones."""
    if share <= 0:
        return 1.0
    return math.fsum(
        math.exp(
            math.lgamma(of + 1) - math.lgamma(one + 1) - math.lgamma(of - one + 1)
            + one * math.log(share) + (of - one) * math.log1p(-share)
        )
        for one in range(wrong + 1)
    )  # fmt: skip


def lowest(wrong_of: Iterable[tuple[float, int, int]], share_max: float) -> float:
    """The lowest threshold, of (threshold, wrong, of), that keeps the bound. `NEVER` when none does."""
    kept = [
        threshold
        for threshold, wrong, of in wrong_of
        if of and share_at_most(wrong, of, DOUBT / len(TRIED)) <= share_max
    ]
    return min(kept, default=NEVER)


def calibrated(share_max: float, wrong: Sequence[float] = CALIBRATED_WRONG, of: int = CALIBRATED_ON) -> float:
    """Where to begin: of all questions that nearly say the same, at most `share_max` get a wrong answer. Thresholds are
    tried from the highest down; the last one before the first that fails is taken."""
    begin = NEVER
    for threshold in reversed(TRIED):
        if share_at_most(sum(each >= threshold for each in wrong), of, DOUBT) > share_max:
            break
        begin = threshold
    return begin


def learned(labels: Sequence[Label], share_max: float) -> float:
    """The threshold for who has said so much: of the answers given from it on, at most `share_max` are wrong.

    While too little was said to state that, it is the one to begin with, or just above the most similar wrong answer.
    """
    own = lowest(
        (
            (one, sum(not each.correct for each in at), len(at))
            for one in TRIED
            if (at := [each for each in labels if each.similarity >= one])
        ),
        share_max,
    )
    if own < NEVER:
        return own
    wrong = max((each.similarity for each in labels if not each.correct), default=0.0)
    return max(calibrated(share_max), wrong + JUST_ABOVE)
