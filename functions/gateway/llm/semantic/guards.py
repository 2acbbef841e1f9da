"""Differences that no similarity makes good. Deterministic: two readings in, the name of the first difference out."""

from __future__ import annotations

from functions.gateway.llm.semantic.lexicon import lexicon
from functions.gateway.llm.semantic.reading import Reading, Word

TENSED = frozenset({"@if", "@what", "@who"})
"""What is asked for where it matters whether it was, is or will be."""

OPPOSITES = {"from": ("to", "into"), "to": ("from",), "into": ("from",)}


def difference(one: Reading, other: Reading) -> str:
    """What the two questions differ in, or an empty text when nothing tells them apart."""
    if one.language != other.language:
        return "language"
    for (kind, marks), (_, others) in zip(one.marks, other.marks, strict=True):
        if marks != others:
            return kind
    if one.tense and other.tense and one.tense != other.tense and (one.asked | other.asked) <= TENSED:
        return "tense"
    if one.asked != other.asked:
        return "asked"
    left, right = unmatched(one.words, other.words)
    if (left and right) or not all(word.weak for word in left + right):
        return "words"
    if turned(one, other):
        return "direction"
    return ""


def unmatched(one: tuple[Word, ...], other: tuple[Word, ...]) -> tuple[list[Word], list[Word]]:
    """The words of each that nothing in the other stands for. Best matches go first."""
    left, right = list(one), list(other)
    for surely in (1.0, 0.95, 0.85):
        for word in list(left):
            partner = next((each for each in right if lexicon().same(word, each) >= surely), None)
            if partner is not None:
                left.remove(word)
                right.remove(partner)
    return left, right


def turned(one: Reading, other: Reading) -> bool:
    """Whether a word has a part in one question that another word has in the other, as in `to Alice` and `to Bob`, or
    the opposite part, as in `from A to B` and `from B to A`."""
    for role, fillers in one.roles.items():
        others = other.roles.get(role, ())
        if others and is_telling(role, fillers[0], one) and is_telling(role, others[0], other):
            if fillers[0] not in others and others[0] not in fillers and {fillers[0]} <= other.content >= {others[0]}:
                return True
        for opposite in OPPOSITES.get(role, ()):
            moved = set(fillers) & set(other.roles.get(opposite, ()))
            if moved - set(others) - set(one.roles.get(opposite, ())):
                return True
    return False


def is_telling(role: str, filler: str, reading: Reading) -> bool:
    """Whether what is behind the small word is there for its part: names, numbers, and what is compared or counted."""
    if role == "of":
        return filler[0].isdigit()
    if role == "in":
        return "@many" in reading.asked
    return role in ("than", "by") or role[0].isdigit() or filler in reading.names or filler[0].isdigit()
