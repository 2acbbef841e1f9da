"""Sentences of a passage, with their places in the stored text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-ZÀ-Þ0-9`\"'(\[])|\n{2,}|\n(?=[ \t]*(?:[-*•#|]|\d+\.)\s?)|(?<=\|)\n")
SENTENCE_CHARS_MAX = 1200
ROW = re.compile(r"[^\n:]{1,120}: *\S")
WORD = re.compile(r"\w")
MARKUP = re.compile(r"(?:\s|[#>|]+|[-•](?=\s)|\*(?=\s))*")


@dataclass(frozen=True)
class Sentence:
    """`stored_text[start:end] == text`."""

    start: int
    end: int
    text: str


def sentences(text: str, offset: int) -> Iterator[Sentence]:
    """The sentences of a passage that begins at `offset`. Markup at their edges is left out of the span."""
    for start, end in pieces(text):
        raw = text[start:end]
        lead = MARKUP.match(raw).end()  # type: ignore[union-attr]  # it matches the empty text too
        kept = raw[lead:].rstrip(" \t\n|")
        if WORD.search(kept) and len(kept) <= SENTENCE_CHARS_MAX:
            yield Sentence(offset + start + lead, offset + start + lead + len(kept), kept)


def pieces(text: str) -> Iterator[tuple[int, int]]:
    """Where sentences, items and rows begin and end, their markup included."""
    start = 0
    for match in [*END.finditer(text), None]:
        end = match.start() if match else len(text)
        for line in rows(text[start:end]):
            yield start, start + len(line)
            start += len(line) + 1
        start = match.end() if match else end


def rows(piece: str) -> list[str]:
    """The lines of a piece that is a table's rows, each naming its columns; any other piece whole."""
    first, *following = lines = piece.split("\n")
    is_table = following and (" | " in first or ROW.match(first)) and all(ROW.match(line) for line in following)
    return lines if is_table else [piece]
