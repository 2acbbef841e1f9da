"""Text to index terms, the same for documents and for questions.

An identifier gives itself as a whole and its parts: `DiffExecutor` → diffexecutor, diff, executor. Words of prose
are stemmed (Snowball English), stop words dropped; numbers and dotted names stay whole beside their parts.
"""

from __future__ import annotations

import re
import threading
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from Stemmer import Stemmer

TERM_CHARS_MAX = 64  # longer runs are encoded data, not words
WORD = re.compile(r"[^\W_]\w*(?:[.](?=\w)\w+)*|_\w+")
PART = re.compile(r"[A-Z]+(?=[A-Z][a-z])|[A-Z]?[a-z]+|[A-Z]+|[0-9]+|[^\W\d_A-Za-z]+")
NUMBER = re.compile(r"\d+(?:\.\d+)*")
STOP_WORDS = frozenset(
    """a about above after again all also am an and any are as at be because been before being below between both but
    by can could did do does doing down during each few for from further had has have having he her here hers him his
    how i if in into is it its itself just me more most my no nor not of off on once only or other our out over own
    same she should so some such than that the their them then there these they this those through to too under until
    up upon very was we were what when where which while who whom why will with would you your""".split()  # noqa: SIM905
)
_local = threading.local()  # a stemmer is not safe to share between threads


def terms(text: str) -> list[str]:
    """The index terms of a text in order, repeated as often as they occur."""
    return [term for word in WORD.findall(unicodedata.normalize("NFKC", text)) for term in terms_of(word)]


@lru_cache(maxsize=65536)
def terms_of(word: str) -> tuple[str, ...]:
    """The terms of one word, identifier, number or dotted name."""
    return tuple(term[:TERM_CHARS_MAX] for term in _terms_of(word.rstrip(".")))


def _terms_of(word: str) -> Iterator[str]:
    if NUMBER.fullmatch(word):
        yield word
        return
    parts = PART.findall(word)
    if len(parts) > 1:
        yield word.casefold()
    for part in parts:
        folded = part.casefold()
        if folded not in STOP_WORDS and (len(folded) > 1 or len(parts) == 1):
            yield stem(folded)


def stem(word: str) -> str:
    """The Snowball stem of a lower-case word; words of other scripts come back as they are."""
    return _stemmer().stemWord(word)  # type: ignore[no-any-return]  # untyped library


def _stemmer() -> Stemmer:
    if not hasattr(_local, "stemmer"):
        from Stemmer import Stemmer

        _local.stemmer = Stemmer("english")
    return _local.stemmer
