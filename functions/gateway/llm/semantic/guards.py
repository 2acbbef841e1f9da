"""Differences that no similarity makes good. Deterministic: two readings in, the name of the first difference out."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from functions.gateway.llm.semantic.lexicon import lexicon
from functions.gateway.llm.semantic.reading import UNKNOWN, Reading, Word

TENSED = frozenset({"@if", "@what", "@who", "@when", "@many", "@why"})
"""What is asked for where it matters whether it was, is or will be."""

SURENESS = (1.0, 0.95, 0.85)
"""Of the same word, of one in the same line of our list, and of one that WordNet has as a synonym."""
MEANT = frozenset({"@how", "@what", "@differ"})
"""What may be meant by a question in no known form."""
LISTING = frozenset({"and", "or", "und", "oder", "et", "ou", "y", "o"})
WEAK_COUNTS = 0.9
LEFT_WORDS_MAX = 8
"""Where more words of each have no counterpart by their stem, the questions are not looked at more closely."""
WORDS = "words"
"""The last difference that is looked for: there is no other."""
OPPOSITES = {"from": "to", "to": "from"}


def difference(one: Reading, other: Reading) -> str:
    """What the two questions differ in, or an empty text when nothing tells them apart."""
    if one.language != other.language:
        return "language"
    for (kind, marks), (_, others) in zip(one.marks, other.marks, strict=True):
        if marks != others:
            return kind
    for (kind, told), (_, otherwise) in zip(one.told, other.told, strict=True):
        if told and otherwise and not told & otherwise:
            return kind
    if one.tense and other.tense and one.tense != other.tense and (one.asked | other.asked) <= TENSED:
        return "tense"
    if one.asked != other.asked and not alike(one, other):
        return "asked"
    if permuted(one, other) or turned(one, other) or crossed(one, other):
        return "direction"
    left, right, _ = matched(one.words, other.words)
    return WORDS if (left and right) or not all(word.weak for word in left + right) else ""


def alike(one: Reading, other: Reading) -> bool:
    """Whether the form of one is not known, and what the other asks may be meant, or all their words are the same."""
    if UNKNOWN not in (one.asked, other.asked):
        return False
    return (one.asked | other.asked) - UNKNOWN <= MEANT or not any(matched(one.words, other.words)[:2])


def agreement(one: Reading, other: Reading) -> float:
    """How surely the words say the same, 0 to 1: 1 when they are the same words."""
    left, right, sureness = matched(one.words, other.words)
    count = max(len(one.words), len(other.words))
    return (
        1.0 if not count else (sum(sureness) + WEAK_COUNTS * len(left + right)) / (count + min(len(left), len(right)))
    )


def matched(one: tuple[Word, ...], other: tuple[Word, ...]) -> tuple[list[Word], list[Word], list[float]]:
    """The words of each that nothing in the other stands for, and how surely the others stand for each other."""
    left, right = list(one), list(other)
    sureness = [SURENESS[0]] * paired_off(left, right, lambda word, each: word.stem == each.stem)
    if min(len(left), len(right)) > LEFT_WORDS_MAX:
        return left, right, sureness
    for surely in SURENESS[1:]:
        sureness.extend([surely] * paired_off(left, right, partial(stands_for, surely)))
    for shorts, words in ((left, right), (right, left)):
        for word in list(shorts):
            if run := spelled_out(word, words):
                shorts.remove(word)
                words[:] = [each for each in words if each not in run]
                sureness.extend([SURENESS[1]] * len(run))
    return left, right, sureness


def stands_for(surely: float, one: Word, other: Word) -> bool:
    return lexicon().same(one, other) >= surely


def paired_off(left: list[Word], right: list[Word], alike: Callable[[Word, Word], bool]) -> int:
    """Take away the words of each that stand for one another, and tell how many."""
    before = len(left)
    for word in list(left):
        partner = next((each for each in right if alike(word, each)), None)
        if partner is not None:
            left.remove(word)
            right.remove(partner)
    return before - len(left)


def spelled_out(short: Word, words: list[Word]) -> list[Word]:
    """The words one behind the other that it is written together, as in `timezone`, or whose first letters it is, as in
    `dpo` for data protection officer."""
    runs = [words[start:end] for start in range(len(words)) for end in range(start + 2, len(words) + 1)]
    if together := next((run for run in runs if short.text == "".join(word.text for word in run)), []):
        return together
    if len(short.text) < 2 or (lexicon().knows(short) and not short.exact):
        return []
    runs += [[word] for word in words if "_" in word.text]
    return next((run for run in runs if short.text == initials(run)), [])


def initials(words: list[Word]) -> str:
    return "".join(part[0] for word in words for part in word.text.split("_") if part)


def permuted(one: Reading, other: Reading) -> bool:
    """Whether the same words stand in another order. What was behind the question may stand before it, and what is
    listed in any order."""
    if sorted(one.order) != sorted(other.order) or LISTING & set(one.order):
        return False
    return f" {' '.join(other.order)} " not in f" {' '.join(one.order * 2)} "


def turned(one: Reading, other: Reading) -> bool:
    """Whether a word has a part in one question that another word has in the other, as in `to Alice` and `to Bob`, or
    the opposite part, as in `from A to B` and `from B to A`."""
    for role, fillers in one.roles.items():
        others = other.roles.get(role, ())
        filler = next((each for each in fillers if each not in others), "")
        instead = next((each for each in others if each not in fillers), "")
        if filler and instead and exchanged(role, (one, filler), (other, instead)):
            return True
        places = [each for each in fillers if each in one.names and each in others]
        if role == "in" and places != [each for each in others if each in places]:
            return True
        opposite = OPPOSITES.get(role, "")
        moved = set(fillers) & set(other.roles.get(opposite, ()))
        if moved - set(others) - set(one.roles.get(opposite, ())):
            return True
    return False


def crossed(one: Reading, other: Reading) -> bool:
    """Whether two words have changed places: who does it, or before what, as in `private phone, company car`."""
    if one.doer != other.doer and one.doer in other.content and other.doer in one.content:
        return True
    return any(
        (first, last) in other.pairs and (begin, end) in other.pairs and begin != first and end != last
        for first, end in one.pairs - other.pairs
        for begin, last in one.pairs - other.pairs
    )


def exchanged(role: str, one: tuple[Reading, str], other: tuple[Reading, str]) -> bool:
    """Whether two words have the same part, each in its question, and both are in both questions."""
    (reading, filler), (another, instead) = one, other
    if not (is_telling(role, filler, reading) and is_telling(role, instead, another)):
        return False
    return filler in another.content and instead in reading.content


def is_telling(role: str, filler: str, reading: Reading) -> bool:
    """Whether what is behind the small word is there for its part, and not behind another as well."""
    if role == "of":
        return filler[0].isdigit()
    if role == "in":
        return "@many" in reading.asked or filler in reading.names or filler[0].isdigit()
    return True
