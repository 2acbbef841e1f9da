"""Chunking is pure: places, cap and ids hold for any text."""

from __future__ import annotations

import re
from collections.abc import Callable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.knowledge.documents.chunks import CHARS_MAX, chunk_document
from functions.knowledge.documents.parsers.outline import Parsed, storable
from functions.knowledge.documents.parsers.plain import parse_code, parse_markdown, parse_text
from functions.knowledge.documents.parsing import Block

Parser = Callable[[str], Parsed]
WORD = re.compile(r"\w{1,6}|[^\w\s]")
PARSERS = st.sampled_from((parse_text, parse_markdown, parse_code))
LINES = st.lists(
    st.one_of(
        st.text(max_size=120),
        st.sampled_from(
            ("", "# Title", "## Below", "- item one", "| a | b |", "|---|---|", "```", "def f(x):", "a. B c.")
        ),
    ),
    max_size=40,
).map("\n".join)


def count(text: str) -> int:
    return len(WORD.findall(text))


@given(LINES, PARSERS, st.integers(4, 40))
def test_every_chunk_is_exactly_what_stands_at_its_place(source: str, parser: Parser, tokens_max: int) -> None:
    text = storable(source)
    parsed = parser(text)
    blocks = [Block(*(one.kind, one.start, one.end, one.page, one.heading)) for one in parsed.blocks]
    chunks = chunk_document("a.md", text, blocks, count, tokens_max)
    for chunk in chunks:
        assert text[chunk.start : chunk.end] == chunk.text
        assert count(chunk.text) <= tokens_max
    assert [chunk.ordinal for chunk in chunks] == list(range(len(chunks)))
    assert all(first.end <= second.start for first, second in pairwise(chunks))
    assert len({chunk.id for chunk in chunks}) == len(chunks)
    assert chunks == chunk_document("a.md", text, blocks, count, tokens_max)


@given(LINES, PARSERS)
def test_no_character_but_blank_space_is_lost(source: str, parser: Parser) -> None:
    text = storable(source)
    blocks = [Block(one.kind, one.start, one.end, one.page, one.heading) for one in parser(text).blocks]
    chunks = chunk_document("a.md", text, blocks, count, 10)
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())


def test_an_edit_of_one_paragraph_keeps_the_other_chunks_ids() -> None:
    def ids(middle: str) -> set[str]:
        text = (
            "\n\n".join(f"# Part {number}\n\n{'word ' * 20}{number}" for number in range(5)) + f"\n\n# Last\n\n{middle}"
        )
        blocks = [Block(one.kind, one.start, one.end, one.page, one.heading) for one in parse_markdown(text).blocks]
        return {chunk.id for chunk in chunk_document("a.md", text, blocks, count, 40)}

    assert len(ids("old") - ids("new")) == 1


def test_a_chunk_carries_its_headings() -> None:
    text = "# Manual\n\n## Install\n\nRun the installer."
    blocks = [Block(one.kind, one.start, one.end, one.page, one.heading) for one in parse_markdown(text).blocks]
    chunks = chunk_document("a.md", text, blocks, count, 100)
    assert chunks[-1].heading == "Manual > Install"


def test_a_table_of_very_many_short_cells_is_counted_about_once() -> None:
    text = "; ".join(f"c{number}: 1" for number in range(3000))
    counted = 0

    def counting(piece: str) -> int:
        nonlocal counted
        counted += len(piece)
        return count(piece)

    chunks = chunk_document("wide.csv", text, [Block("row", 0, len(text), None, "")], counting, 254)
    assert all(count(chunk.text) <= 254 for chunk in chunks)
    assert counted < 8 * len(text)


@pytest.mark.parametrize("text", ["x" * 100_000, "a" + " " * 100_000 + "b", "word\n" + "\n" * 50_000 + "word"])
def test_no_chunk_is_longer_than_a_reader_can_use_however_few_tokens_it_has(text: str) -> None:
    chunks = chunk_document("a.txt", text, [Block("paragraph", 0, len(text), None, "")], lambda piece: 1)
    assert all(chunk.end - chunk.start <= CHARS_MAX for chunk in chunks)
    assert "".join("".join(chunk.text.split()) for chunk in chunks) == "".join(text.split())
