"""Whether the documents hold an answer, and which sentences say it. Pure."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from functions.knowledge.answers.sentences import Sentence, sentences
from shared.analysis import terms
from shared.knowledge import Passage

CONFIDENT = 0.62
COVERAGE_WEIGHT = 0.5
SENTENCES_MAX = 3
SENTENCE_CHARS_MIN = 12
PASSAGES_READ = 6
SHORTLIST_MAX = 8
SHORTLIST_SHARE_MIN = 0.5
SHARE_OF_BEST_MIN = 0.8
SPAN_CHARS_MAX = 600
BACKWARDS = re.compile(r"(?:It|Its|They|Their|This|These|That|Those|He|She)\b")


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


@dataclass(frozen=True)
class Candidate:
    """A sentence that shares words with the question, and how much of it: 0 to 1."""

    support: Support
    relevance: float

    @property
    def titled(self) -> str:
        """Under its nearest title, as its meaning is compared: a command alone does not say what it is for."""
        title = self.support.passage.heading.rpartition(" > ")[2]
        return f"{title}: {self.support.sentence.text}" if title else self.support.sentence.text


def shortlist(question: str, passages: Sequence[Passage]) -> list[Candidate]:
    """The sentences that share most with the question, the best first: few, since each of them is embedded."""
    asked = Counter(terms(question))
    weights = rarity(asked, passages)
    found = [one for place, passage in enumerate(passages[:PASSAGES_READ]) for one in scored(passage, place)]
    ranked = sorted((Candidate(one, relevance(one, asked, weights)) for one in found), key=lambda one: -one.relevance)
    return [one for one in ranked if one.relevance >= SHORTLIST_SHARE_MIN * ranked[0].relevance][:SHORTLIST_MAX]


def best_sentences(candidates: Sequence[Candidate], closeness: Sequence[float]) -> list[Support]:
    """The sentences that answer best, at most three. `closeness`: their vectors' similarity to the question's."""
    marks = [one.relevance + close for one, close in zip(candidates, closeness, strict=True)]
    order = sorted(range(len(marks)), key=lambda place: -marks[place])
    chosen = [candidates[place].support for place in order if marks[place] >= SHARE_OF_BEST_MIN * marks[order[0]]]
    return distinct([in_context(one) for one in distinct(chosen)[:SENTENCES_MAX]])


def scored(passage: Passage, place: int) -> Iterator[Support]:
    headings = {one.strip().casefold() for one in passage.heading.split(" > ")}
    for sentence in sentences(passage.text, passage.start):
        if len(sentence.text) >= SENTENCE_CHARS_MIN and sentence.text.casefold() not in headings and says(sentence):
            yield Support(sentence, passage, 1.0 / (1 + 0.25 * place))


def says(sentence: Sentence) -> bool:
    """Whether it is more than a table's rule or a comment of the source."""
    return bool(terms(sentence.text)) and not sentence.text.startswith("<!--") and not sentence.text.endswith("-->")


def in_context(support: Support) -> Support:
    """With its neighbours of the same paragraph that it cannot be understood without, as one span of the text.

    "It checks each server." needs the sentence before it; "Run doctor." is continued by that one; a colon announces
    what follows.
    """
    around = [one for one in sentences(support.passage.text, support.passage.start) if says(one)]
    place = next(index for index, one in enumerate(around) if one.start == support.sentence.start)
    first = place - 1 if place and refers_back(around[place - 1], around[place], support.passage) else place
    last = place
    if place + 1 < len(around) and continued(around[place], around[place + 1], support.passage):
        last = place + 1
    start, end = around[first].start, around[last].end
    if (first, last) == (place, place) or end - start > SPAN_CHARS_MAX:
        return support
    text = support.passage.text[start - support.passage.start : end - support.passage.start]
    return replace(support, sentence=Sentence(start, end, text))


def refers_back(before: Sentence, sentence: Sentence, passage: Passage) -> bool:
    return bool(BACKWARDS.match(sentence.text)) and same_paragraph(before, sentence, passage)


def continued(sentence: Sentence, after: Sentence, passage: Passage) -> bool:
    return sentence.text.endswith(":") or refers_back(sentence, after, passage)


def same_paragraph(before: Sentence, after: Sentence, passage: Passage) -> bool:
    return "\n\n" not in passage.text[before.end - passage.start : after.start - passage.start]


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
