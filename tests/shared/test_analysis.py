"""Terms: identifiers whole and in parts, words by their stem, and never a failure."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.analysis import terms


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("parseConfigFile", {"parseconfigfile", "pars", "config", "file"}),
        ("parse_config_file", {"parse_config_file", "pars", "config", "file"}),
        ("HTTPServer", {"httpserver", "http", "server"}),
        ("rotating keys", {"rotat", "key"}),
        ("version 1.2.3", {"version", "1.2.3"}),
        ("the and of", set()),
    ],
)
def test_the_terms_of_a_text(text: str, expected: set[str]) -> None:
    assert expected <= set(terms(text))
    assert not {"the", "and", "of"} & set(terms(text))


@given(st.text(max_size=500))
def test_any_text_has_terms_that_an_index_can_hold(text: str) -> None:
    assert all(0 < len(term) <= 64 for term in terms(text))


@given(st.lists(st.sampled_from(["parseConfig", "wing", "4711", "read_file", "Flow"]), max_size=20))
def test_a_text_has_the_terms_of_its_words(words: list[str]) -> None:
    assert terms(" ".join(words)) == [term for word in words for term in terms(word)]
