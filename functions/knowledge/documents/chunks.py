"""A document's text cut into chunks along its structure: pure, deterministic, with exact places.

Neighbouring blocks under the same heading are put together up to the cap; a block above it is parted at the widest
boundary that fits: blank line, line, sentence, word, and at last anywhere.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from functions.knowledge.documents.parsing import Block
from shared.knowledge.chunk import Chunk

TOKENS_MAX = 254  # the model sees 256, two of which mark the ends
TEXT_SHARE_MIN = 0.5  # of the cap, however long the heading that is embedded above the text
CHARS_MAX = 8000  # blank space is no token, and a "word" of any length may be a single one
CountTokens = Callable[[str], int]
BOUNDARIES = tuple(
    re.compile(pattern) for pattern in (r"\n[ \t]*\n", r"\n", r"(?<=[.!?;])[ \t\n]+|(?<=[。！？])", r"\s+")
)


@dataclass(frozen=True, slots=True)
class Span:
    """A part of the text no longer than the cap."""

    start: int
    end: int
    tokens: int
    cap: int
    page: int | None
    heading: str
    is_heading: bool


def chunk_document(
    name: str, text: str, blocks: Sequence[Block], count_tokens: CountTokens, tokens_max: int = TOKENS_MAX
) -> tuple[Chunk, ...]:
    """The chunks of a text, in order: `text[chunk.start:chunk.end] == chunk.text`, never above the cap."""
    caps = {
        heading: text_cap(heading, count_tokens, tokens_max) for heading in dict.fromkeys(one.heading for one in blocks)
    }
    spans = [span for block in blocks for span in spans_of(block, text, count_tokens, caps[block.heading])]
    occurrences: Counter[str] = Counter()
    chunks = []
    for ordinal, group in enumerate(grouped(spans, text, count_tokens)):
        piece = text[group[0].start : group[-1].end]
        occurrences[piece] += 1
        chunks.append(
            Chunk(
                id=chunk_id(name, piece, occurrences[piece]),
                ordinal=ordinal,
                start=group[0].start,
                end=group[-1].end,
                page=group[0].page,
                heading=group[-1].heading,
                text=piece,
            )
        )
    return tuple(chunks)


def chunk_id(name: str, text: str, occurrence: int) -> str:
    """The same text in the same document keeps its id, wherever it moves; equal texts are told apart by their count."""
    parts = (name.encode(), text.encode(), str(occurrence).encode())
    return hashlib.sha256(b"".join(len(part).to_bytes(8) + part for part in parts)).hexdigest()[:32]


def text_cap(heading: str, count_tokens: CountTokens, tokens_max: int) -> int:
    """What the heading leaves of the cap: the two are embedded together."""
    left = tokens_max - (count_tokens(heading) if heading else 0)
    return max(left, int(tokens_max * TEXT_SHARE_MIN), 1)


def spans_of(block: Block, text: str, count_tokens: CountTokens, cap: int) -> Iterator[Span]:
    for start, end, tokens in parted(text, block.start, block.end, count_tokens, cap):
        yield Span(start, end, tokens, cap, block.page, block.heading, block.kind == "heading")


def parted(
    text: str, start: int, end: int, count_tokens: CountTokens, tokens_max: int, boundary: int = 0
) -> Iterator[tuple[int, int, int]]:
    """Trimmed parts of `text[start:end]` within the cap, each as large as its boundary allows."""
    start, end = trimmed(text, start, end)
    if start == end:
        return
    if end - start <= CHARS_MAX and ((tokens := count_tokens(text[start:end])) <= tokens_max or end - start == 1):
        yield start, end, tokens
        return
    if boundary == len(BOUNDARIES):
        middle = (start + end) // 2
        yield from parted(text, start, middle, count_tokens, tokens_max, boundary)
        yield from parted(text, middle, end, count_tokens, tokens_max, boundary)
        return
    pieces = [
        part
        for left, right in between(text, start, end, BOUNDARIES[boundary])
        for part in parted(text, left, right, count_tokens, tokens_max, boundary + 1)
    ]
    yield from joined(pieces, text, count_tokens, tokens_max)


def joined(
    pieces: Sequence[tuple[int, int, int]], text: str, count_tokens: CountTokens, tokens_max: int
) -> Iterator[tuple[int, int, int]]:
    """Neighbours put together as long as they fit."""
    start, end, tokens = -1, -1, 0
    for left, right, count in pieces:
        if start >= 0 and right - start <= CHARS_MAX:
            whole = tokens_together(text, (start, end, tokens), (left, right, count), count_tokens)
            if whole <= tokens_max:
                end, tokens = right, whole
                continue
        if start >= 0:
            yield start, end, tokens
        start, end, tokens = left, right, count
    if start >= 0:
        yield start, end, tokens


def tokens_together(
    text: str, first: tuple[int, int, int], second: tuple[int, int, int], count_tokens: CountTokens
) -> int:
    """The tokens of two neighbours as one: their sum, for blank space ends a token, and counted where none parts them.

    To count each time would cost a part of n pieces n²/2 tokens: minutes for a small file of very short cells.
    """
    return first[2] + second[2] if first[1] < second[0] else count_tokens(text[first[0] : second[1]])


def between(text: str, start: int, end: int, boundary: re.Pattern[str]) -> Iterator[tuple[int, int]]:
    left = start
    for found in boundary.finditer(text, start, end):
        if found.start() > left:
            yield left, found.start()
        left = found.end()
    if left < end:
        yield left, end


def trimmed(text: str, start: int, end: int) -> tuple[int, int]:
    """Without blank space at either end."""
    while start < end and text[end - 1].isspace():
        end -= 1
    while start < end and text[start].isspace():
        start += 1
    return start, end


def grouped(spans: Sequence[Span], text: str, count_tokens: CountTokens) -> Iterator[tuple[Span, ...]]:
    """Runs of spans that make a chunk: one page, one heading, within the cap. A title goes with what it titles."""
    group: list[Span] = []
    start, end, tokens = 0, 0, 0
    for span in spans:
        if group and belongs(group, span) and span.end - start <= CHARS_MAX:
            whole = tokens_together(text, (start, end, tokens), (span.start, span.end, span.tokens), count_tokens)
            if whole <= span.cap:
                group.append(span)
                end, tokens = span.end, whole
                continue
        if group:
            yield tuple(group)
        group = [span]
        start, end, tokens = span.start, span.end, span.tokens
    if group:
        yield tuple(group)


def belongs(group: Sequence[Span], span: Span) -> bool:
    if span.page != group[-1].page:
        return False
    if all(one.is_heading for one in group):
        return True
    return span.heading == group[-1].heading and not span.is_heading
