"""Whether the documents hold an answer, and which sentences say it. Pure."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from functions.knowledge.answers.sentences import Sentence, sentences
from shared.analysis import terms
from shared.knowledge import Passage

CONFIDENT = 0.62
COVERAGE_WEIGHT = 0.5
SENTENCES_MAX = 3
SENTENCE_CHARS_MIN = 12
PASSAGES_READ = 6


@dataclass(frozen=True)
class Support:
    """A sentence that answers, and the passage it stands in."""

    sentence: Sentence
    passage: Passage
    score: float


def answerable(passages: Sequence[Passage]) -> bool:
    """Whether one of the best passages is about the question.

    Similarity of vectors plus half the share of the question's idf mass that the passage covers; words that occur
    nowhere count fully against it. `tests.load.abstention` prints what the threshold does.
    """
    return any(one.similarity + COVERAGE_WEIGHT * one.coverage >= CONFIDENT for one in passages[:3])


def best_sentences(question: str, passages: Sequence[Passage]) -> list[Support]:
    """The sentences that say most of what was asked, the best first, at most three and of few passages."""
    asked = Counter(terms(question))
    candidates = [
        one for place, passage in enumerate(passages[:PASSAGES_READ]) for one in scored(asked, passage, place)
    ]
    weights = rarity(asked, passages)
    ranked = sorted(candidates, key=lambda one: -relevance(one, asked, weights))
    if not ranked:
        return []
    best = relevance(ranked[0], asked, weights)
    chosen = [one for one in ranked if relevance(one, asked, weights) >= 0.6 * best]
    return distinct(chosen)[:SENTENCES_MAX]


def scored(asked: Counter[str], passage: Passage, place: int) -> Iterator[Support]:
    headings = {one.strip().casefold() for one in passage.heading.split(" > ")}
    for sentence in sentences(passage.text, passage.start):
        if len(sentence.text) >= SENTENCE_CHARS_MIN and sentence.text.casefold() not in headings:
            yield Support(sentence, passage, 1.0 / (1 + 0.25 * place))


def rarity(asked: Counter[str], passages: Sequence[Passage]) -> dict[str, float]:
    """How much each of the question's terms tells passages apart."""
    holding = [set(terms(f"{one.heading} {one.text}")) for one in passages]
    return {term: math.log(1 + (len(passages) + 1) / (1 + sum(term in one for one in holding))) for term in asked}


def relevance(support: Support, asked: Counter[str], weights: dict[str, float]) -> float:
    """Covered weight of the question, in the sentence fully and in its heading by half; long sentences pay a little."""
    said = set(terms(support.sentence.text))
    above = set(terms(support.passage.heading))
    covered = sum(weights[term] * (1.0 if term in said else 0.5 if term in above else 0.0) for term in asked)
    total = sum(weights.values()) or 1.0
    return support.score * covered / total / (1 + len(support.sentence.text) / 1500)


def distinct(supports: Sequence[Support]) -> list[Support]:
    """Without sentences that say the same."""
    kept: list[Support] = []
    for one in supports:
        words = set(terms(one.sentence.text))
        if all(len(words & set(terms(other.sentence.text))) < 0.8 * max(1, len(words)) for other in kept):
            kept.append(one)
    return kept
