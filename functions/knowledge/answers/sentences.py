"""Sentences of a passage, with their places in the stored text."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

END = re.compile(r"(?<=[.!?])[\"')\]]*\s+(?=[A-ZÀ-Þ0-9`\"'(\[])|\n{2,}|\n(?=\s*(?:[-*•#|]|\d+\.)\s?)|(?<=\|)\n")
SENTENCE_CHARS_MAX = 1200
MARKUP = re.compile(r"(?:\s|[#>|]+|[-•](?=\s)|\*(?=\s))*")


@dataclass(frozen=True)
class Sentence:
    """`stored_text[start:end] == text`."""

    start: int
    end: int
    text: str


def sentences(text: str, offset: int) -> Iterator[Sentence]:
    """The sentences of a passage that begins at `offset`. Markup at their edges is left out of the span."""
    start = 0
    for match in [*END.finditer(text), None]:
        end = match.start() if match else len(text)
        raw = text[start:end]
        lead = MARKUP.match(raw).end()  # type: ignore[union-attr]  # it matches the empty text too
        kept = raw[lead:].rstrip(" \t\n|")
        if kept and len(kept) <= SENTENCE_CHARS_MAX:
            yield Sentence(offset + start + lead, offset + start + lead + len(kept), kept)
        start = match.end() if match else end
