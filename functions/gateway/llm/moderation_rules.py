"""The rules of the local moderation, by the categories of OpenAI's, and what they make of a text.

`moderation.tsv` has them and says how they read.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

TABLE = Path(__file__).with_name("moderation.tsv")
FLAGGED_FROM = 0.5
FRAGMENT = re.compile(r"\{([A-Z]+)\}")


@dataclass(frozen=True)
class Rule:
    """A turn of phrase and how sure one is of the category where it stands. `needs`: a text without any of these words,
    in lower case, cannot match."""

    weight: float
    needs: tuple[str, ...]
    pattern: re.Pattern[str]


@cache
def rules() -> Mapping[str, Sequence[Rule]]:
    """By category. Read at first use."""
    fragments: dict[str, str] = {}
    found: dict[str, list[Rule]] = {}
    for line in TABLE.read_text(encoding="utf-8").splitlines():
        if line.startswith("#"):
            continue
        first, *rest = line.split("\t")
        if first.startswith("="):
            fragments[first[1:]] = rest[0]
            continue
        weight, needs, phrase = rest
        whole = FRAGMENT.sub(lambda one: fragments[one[1]], phrase).replace(" ", r"\s{1,4}")
        found.setdefault(first, []).append(Rule(float(weight), tuple(needs.split()), re.compile(whole, re.IGNORECASE)))
    return found


def matches(text: str, lowered: str, one: Rule) -> bool:
    return any(word in lowered for word in one.needs) and one.pattern.search(text) is not None


def wider(category: str) -> str:
    """The category that a narrower one belongs to; itself, when it is none."""
    return category.partition("/")[0]


def scores(found: Mapping[str, Sequence[float]]) -> dict[str, float]:
    """By category: `1 − Π(1 − weight)` over its rules that matched; the wider category has at least the narrower's."""
    told = dict.fromkeys(rules(), 0.0)
    for category, weights in found.items():
        missed = 1.0
        for weight in weights:
            missed *= 1 - weight
        told[category] = round(1 - missed, 6)
    for category in told:
        told[wider(category)] = max(told[wider(category)], told[category])
    return told
