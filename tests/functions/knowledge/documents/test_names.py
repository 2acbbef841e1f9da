"""Names of documents become keys of objects, or are refused with their flaw."""

from __future__ import annotations

import pytest

from functions.knowledge.documents.names import document_key
from shared.errors import Invalid

BAD = (
    "",
    " ",
    "../x",
    "a/../b",
    "a//b",
    "/etc/passwd",
    "a/",
    ".",
    "a\x00b",
    "a\nb",
    "a\\b",
    "x" * 2000,
    "a\u202eb",
    "a\ufffdb",
)


@pytest.mark.parametrize("name", BAD, ids=ascii)
def test_a_name_that_could_mean_another_path_is_refused(name: str) -> None:
    with pytest.raises(Invalid):
        document_key(name)


@pytest.mark.parametrize("name", ["a.txt", "folder/über uns.md", "資料/計画.pdf", "a..b", "emoji 🙂.txt"])
def test_readable_names_are_kept_whatever_their_script(name: str) -> None:
    assert document_key(name) == f"documents/{name}"


def test_two_spellings_of_one_name_are_one_document() -> None:
    assert document_key("u\u0308ber.md") == document_key("\u00fcber.md")
