"""The extractive answerer quotes sentences, not headings; a model's quotation counts only if it stands there."""

from __future__ import annotations

from collections.abc import AsyncIterator
from uuid import uuid4

import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.knowledge.answers.answering import extracted
from functions.knowledge.answers.citations import locate, verified
from functions.knowledge.answers.sentences import sentences
from functions.knowledge.answers.support import answerable
from shared.embeddings import Embeddings
from shared.knowledge import Passage

TEXT = (
    "# Keys\n\n## Rotate a virtual key\n\nRotation gives a new key with the same rights. The old one is valid for "
    "3600 seconds.\n\n- Revoked keys do not work.\n- Anna Berg signs releases."
)


@pytest.fixture
async def embeddings() -> AsyncIterator[Embeddings]:
    opened = Embeddings()
    yield opened
    await opened.close()


def passage(text: str = TEXT, *, start: int = 100, similarity: float = 0.6, coverage: float = 0.8) -> Passage:
    return Passage(
        id="c1", document="keys.md", document_id=uuid4(), version=1, ordinal=0, start=start, end=start + len(text),
        page=None, heading="Keys > Rotate a virtual key", text=text, score=1.0, legs={}, lexical_score=1.0,
        similarity=similarity, coverage=coverage,
    )  # fmt: skip


@given(st.text(max_size=400), st.integers(0, 10_000))
def test_a_sentence_is_where_it_says_it_is(text: str, offset: int) -> None:
    for one in sentences(text, offset):
        assert text[one.start - offset : one.end - offset] == one.text


async def test_an_answer_quotes_sentences_and_no_heading(embeddings: Embeddings) -> None:
    answer = await extracted("How do I rotate a virtual key?", [passage()], embeddings)
    assert answer is not None
    assert answer.citations[0].quote == "Rotation gives a new key with the same rights."
    assert all(one.quote != "Rotate a virtual key" for one in answer.citations)
    for one in answer.citations:
        assert TEXT[one.start - 100 : one.end - 100] == one.quote


async def test_of_sentences_that_share_as_much_the_one_that_means_it_comes_first(embeddings: Embeddings) -> None:
    rotation = "Rotation gives a new key, and the old one keeps working for an overlap that the caller chooses."
    revocation = "A revoked key stops working everywhere within one second."
    answer = await extracted(
        "How long does a revoked key keep working?", [passage(rotation), passage(revocation)], embeddings
    )
    assert answer is not None
    assert answer.citations[0].quote == revocation


@pytest.mark.parametrize(
    ("question", "quote"),
    [
        ("What does doctor check?", "Run doctor. It checks each server and each store."),
        ("How do I repair a store?", "Repair a store like this:\n\n./repair --all"),
        ("Which server repairs itself?", "No server repairs itself."),
    ],
)
async def test_a_sentence_brings_along_the_one_it_cannot_be_understood_without(
    embeddings: Embeddings, question: str, quote: str
) -> None:
    text = (
        "Run doctor. It checks each server and each store.\n\nIt also waits. No server repairs itself.\n\n"
        "Repair a store like this:\n\n./repair --all\n\n|---|---|\n\n<!-- Doctor checks nothing here. -->"
    )
    answer = await extracted(question, [passage(text)], embeddings)
    assert answer is not None
    first = answer.citations[0]
    assert first.quote == quote == text[first.start - 100 : first.end - 100]
    assert all("<!--" not in one.quote and "---" not in one.quote for one in answer.citations)


@pytest.mark.parametrize(
    ("similarity", "coverage", "confident"), [(0.7, 0.0, True), (0.3, 0.8, True), (0.2, 0.4, False)]
)
def test_confidence_takes_both_signals(similarity: float, coverage: float, confident: bool) -> None:
    assert answerable([passage(similarity=similarity, coverage=coverage)]) is confident


def test_a_true_quotation_keeps_its_mark_and_gets_its_place() -> None:
    text, citations, removed = verified('It says "Rotation gives  a new key with the same rights." [1]', [passage()])
    assert (len(citations), removed) == (1, 0)
    assert text.endswith("[1]")
    assert TEXT[citations[0].start - 100 : citations[0].end - 100] == citations[0].quote


@pytest.mark.parametrize(
    "false",
    [
        '"The old one is valid for 3601 seconds." [1]',
        '"The old one is valid for 3600 minutes." [1]',
        '"Revoked keys do work." [1]',
        '"Anna Bergh signs releases." [1]',
        '"Rotation gives a new key with the same rights." [2]',
        '"Rotation gives a new key with the same rights." [0]',
        "Rotation gives a new key. [1]",
    ],
)
def test_a_false_quotation_loses_its_mark(false: str) -> None:
    other = passage("Something else entirely stands here.", start=0)
    text, citations, removed = verified(false, [passage(), other])
    assert (citations, removed) == ([], 1)
    assert "[" not in text


@given(st.integers(0, len(TEXT) - 20), st.integers(12, 60), st.integers(0, 59), st.sampled_from("0123456789xyzQ"))
def test_no_altered_quotation_is_found(start: int, length: int, place: int, character: str) -> None:
    quote = TEXT[start : start + length]
    place %= len(quote)
    altered = quote[:place] + character + quote[place + 1 :]
    found = locate(altered, passage())
    same = " ".join(altered.split()).casefold() in " ".join(TEXT.split()).casefold()
    assert (found is not None) <= same


@given(st.integers(0, len(TEXT) - 20), st.integers(12, 80))
def test_every_true_quotation_is_found_however_its_space_is_folded(start: int, length: int) -> None:
    quote = TEXT[start : start + length].strip()
    if not quote:
        return
    found = locate("  ".join(quote.split(" ")), passage())
    assert found is not None
    assert " ".join(TEXT[found[0] - 100 : found[1] - 100].split()) == " ".join(quote.split())


ROWS = "Name | Age\nName: Ada; Age: 36\nName: Bob; Age: 41\nName: Eve; Age: 29"


async def test_each_row_of_a_table_is_a_sentence_of_its_own(embeddings: Embeddings) -> None:
    assert [one.text for one in sentences(ROWS, 0)] == ROWS.split("\n")
    answer = await extracted("What is the age of Bob?", [passage(ROWS)], embeddings)
    assert answer is not None
    assert answer.citations[0].quote == "Name: Bob; Age: 41"


def test_a_sentence_that_a_line_end_wraps_stays_whole() -> None:
    wrapped = "Three servers make a stack, which\nare the following: PostgreSQL, NATS and Valkey."
    assert [one.text for one in sentences(wrapped, 0)] == [wrapped]


def test_a_rule_between_the_rows_of_a_table_is_no_sentence() -> None:
    found = [one.text for one in sentences("| a | b |\n|---|---|\n| 1 | 2 |", 0)]
    assert found == ["a | b", "1 | 2"]
