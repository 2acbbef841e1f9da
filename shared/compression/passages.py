"""Of retrieved passages, the sentences that bear on a question. What is left out is gone: this alone loses something.

A passage stands between `<document>` and `</document>`. Sentences with numbers, identifiers, quotations, addresses or
tags stay whatever they say.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import groupby

from shared.analysis import terms
from shared.compression.code import is_code, outside_fences

OPENING = re.compile(r"<document(?:\s[^<>]*)?>")
CLOSING = "</document>"
SENTENCE = re.compile(r"(?:[^.!?\n]|\n(?!\s*(?:\n|[-*#>|+]|\d))|[.!?](?!\s))*(?:[.!?]+[)\]\"'”’]*)?\s*")
"""Up to a full stop, an empty line, or the beginning of an item of a list. A line's end is not a sentence's."""
KEPT = re.compile(
    r"""\d|["“”„«»‹›`]|(?<!\w)['’]|['’](?!\w)|<|://|@|[_=|\#]|\b[A-Z]{2,}|\w\.\w|[a-z][A-Z]|^[ \t]*>
    |[^.!?)\]"'”’\s]\s*\Z""",
    re.MULTILINE | re.VERBOSE,
)
"""Numbers, quotations, tags, addresses, identifiers; and what does not end as a sentence does: headings, items."""
GAP = "[…] "
GAIN_LEAST = 0.15
NEIGHBOURS = 2


def spans(text: str) -> Iterator[tuple[int, int]]:
    """From where to where the text has passages, without the marks. One that is not closed is none."""
    place = 0
    while (opening := OPENING.search(text, place)) and (end := text.find(CLOSING, opening.end())) >= 0:
        yield opening.end(), end
        place = end


def has_passages(text: str) -> bool:
    return next(spans(text), None) is not None


def without_passages(text: str) -> str:
    """What its writer said beside the passages."""
    return OPENING.sub(" ", with_passages(text, lambda passage: "")).replace(CLOSING, " ")


def extracted(text: str, question: str) -> str:
    """The text with its passages shortened to what bears on the question."""
    asked = frozenset(terms(question))
    return with_passages(text, lambda passage: bearing(passage, asked)) if asked else text


def with_passages(text: str, change: Callable[[str], str]) -> str:
    pieces, place = [], 0
    for start, end in spans(text):
        pieces += [text[place:start], change(text[start:end])]
        place = end
    return "".join([*pieces, text[place:]])


def bearing(passage: str, asked: frozenset[str]) -> str:
    """The passage's sentences that bear on the question, or all of it: when none does, it was retrieved for another
    reason than its words."""
    if is_code(passage):
        return passage
    shorter = outside_fences(passage, lambda prose: selected(prose, asked))
    return shorter if len(shorter) <= (1 - GAIN_LEAST) * len(passage) else passage


def selected(prose: str, asked: frozenset[str]) -> str:
    sentences = [one for one in SENTENCE.findall(prose) if one]
    hits = [index for index, one in enumerate(sentences) if not asked.isdisjoint(terms(one))]
    if not hits:
        return prose
    near = {index + step for index in hits for step in range(-NEIGHBOURS, NEIGHBOURS + 1)}
    kept = [index in near or KEPT.search(one) is not None for index, one in enumerate(sentences)]
    pieces = []
    for stays, run in groupby(zip(kept, sentences, strict=True), key=lambda one: one[0]):
        left_out = "".join(sentence for _, sentence in run)
        pieces.append(left_out if stays or len(left_out) <= len(GAP) else GAP + newlines(left_out))
    return "".join(pieces)


def newlines(left_out: str) -> str:
    """Paragraphs stay apart."""
    return "\n" if left_out.endswith("\n") else ""
