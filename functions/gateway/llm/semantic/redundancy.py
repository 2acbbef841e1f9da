"""Words that one question has more than the other, and that add nothing to it: the `city` of a capital city.

A rule cannot know them. What can be told is how much a question's vector changes when the word is taken out: little for
a word that the others imply. Words that part one thing from another (first, before, stop) are never taken for such.
"""

from __future__ import annotations

import re

from functions.gateway.llm.semantic.guards import matched
from functions.gateway.llm.semantic.lexicon import lexicon
from functions.gateway.llm.semantic.reading import Reading, Word

REDUNDANT = 0.92
"""The cosine of a question with and without a word, from which on the word adds nothing to it."""
MORE_WORDS_MAX = 3
OPPOSING = ("un", "dis", "mis", "anti")
"""Beginnings that make a word its opposite."""


def shortened(one: tuple[str, Reading], other: tuple[str, Reading]) -> list[tuple[str, str]]:
    """Each question with what is left of it without one of its further words. All of them must be redundant. Empty when
    they cannot be: they are too many, telling, or said for one another."""
    left, right, _ = matched(one[1].words, other[1].words)
    words = left + right
    if len(words) > MORE_WORDS_MAX or any(is_telling(word) for word in words):
        return []
    if left and right and not all(word.weak for word in words):
        return []
    found = [(text, without(text, word)) for (text, _), more in ((one, left), (other, right)) for word in more]
    return found if all(rest != text for text, rest in found) else []


def is_telling(word: Word) -> bool:
    return word.exact or word.text.startswith(OPPOSING) or not lexicon().telling.isdisjoint(word.text.split("_"))


def without(text: str, word: Word) -> str:
    """The text without the word, in whatever form; unchanged when it does not stand there so."""
    return re.sub(rf"\b{re.escape(word.text.replace('_', ' '))}\w*\s?", "", text, count=1, flags=re.IGNORECASE)
