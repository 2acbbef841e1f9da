"""Of passages, what bears on a question stays, and so does what may not be touched."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.compression.passages import extracted, has_passages, without_passages

IDLE = "Nothing of interest is said here. The weather was fine. Everybody was content with it. The birds sang. "
SENTENCES = st.sampled_from(
    ["Pumps are cooled by water.", "The roof is red.", "It was green before.", "Part X-17 is kept.", "Is it so?",
     "\n\n", 'He said "no. Never. Not once. Not at all." and left.', "See https://example.org/a.",
     "use_this_name too."]
)  # fmt: skip


def passage(text: str) -> str:
    return f"Before.\n<document title='x'>{text}</document> After, what of pumps?"


@given(st.lists(SENTENCES, max_size=25))
def test_what_stays_is_as_it_was_and_in_its_order(sentences: list[str]) -> None:
    text = " ".join(sentences)
    shorter = extracted(passage(text), "What of pumps?")
    assert without_passages(shorter) == without_passages(passage(text))
    place = 0
    for piece in shorter.partition("'x'>")[2].partition("</document>")[0].split("[…] "):
        place = text.index(piece.strip("\n"), place)
    for kept in (
        "Pumps are cooled",
        "X-17",
        '"no. Never. Not once. Not at all."',
        "https://example.org/a.",
        "use_this_name",
    ):
        assert shorter.count(kept) == passage(text).count(kept)


@pytest.mark.parametrize(
    "told",
    [
        "“One thing. Another thing. A third thing. A fourth thing.”",
        '"One thing. Another thing. A third thing. Fourth."',
    ],
)
def test_a_quotation_of_several_sentences_stays_whole(told: str) -> None:
    shorter = extracted(passage(f"{IDLE}{IDLE}He said {told} So it was. {IDLE}{IDLE}Pumps hummed."), "pumps")
    assert told in shorter
    assert shorter.count("[…]") == 2


def test_a_passage_without_a_word_of_the_question_stays_whole() -> None:
    assert extracted(passage(IDLE * 3), "How are refunds made?") == passage(IDLE * 3)


def test_a_question_without_words_shortens_nothing() -> None:
    assert extracted(passage(IDLE * 3), "And?") == passage(IDLE * 3)


@pytest.mark.parametrize("text", ["<document>never closed", "</document> first <document>", "<documents>x</documents>"])
def test_what_is_not_marked_whole_is_no_passage(text: str) -> None:
    assert not has_passages(text)
    assert extracted(text, "pumps") == text
