"""Citations: a quotation, its place in the stored text, and the check that it really stands there."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence

from pydantic import BaseModel

from shared.knowledge import Passage

QUOTED = re.compile(r"[\"“”«»]([^\"“”«»]{8,600})[\"“”«»]\s*\[(\d{1,2})\]")
MARK = re.compile(r"\s?\[(\d{1,2})\]")


class Citation(BaseModel):
    """`quote` is the stored text from `start` to `end`, to the letter."""

    number: int
    document: str
    quote: str
    start: int
    end: int
    page: int | None
    heading: str


def citation(number: int, passage: Passage, start: int, end: int) -> Citation:
    quote = passage.text[start - passage.start : end - passage.start]
    return Citation(
        number=number,
        document=passage.document,
        quote=quote,
        start=start,
        end=end,
        page=passage.page,
        heading=passage.heading,
    )


def verified(text: str, passages: Sequence[Passage]) -> tuple[str, list[Citation], int]:
    """The text with marks only where the quotation before them stands in the passage they name.

    Returns the text, the citations in order of their new numbers, and how many marks were removed.
    """
    found: list[Citation] = []
    kept_places: set[int] = set()
    for match in QUOTED.finditer(text):
        place = int(match[2]) - 1
        span = locate(match[1], passages[place]) if 0 <= place < len(passages) else None
        if span is not None:
            found.append(citation(len(found) + 1, passages[place], *span))
            kept_places.add(match.start(2) - 1)
    removed = 0
    number = 0

    def renumber(match: re.Match[str]) -> str:
        nonlocal removed, number
        if match.end() - len(match[1]) - 2 in kept_places:
            number += 1
            return f" [{number}]"
        removed += 1
        return ""

    return MARK.sub(renumber, text), found, removed


def locate(quote: str, passage: Passage) -> tuple[int, int] | None:
    """Where the quotation stands in the stored text, white space and Unicode forms folded; digits must match."""
    wanted = folded(quote)[0].strip()
    have, places = folded(passage.text)
    at = have.find(wanted) if wanted else -1
    if at < 0:
        return None
    return passage.start + places[at], passage.start + places[at + len(wanted) - 1] + 1


def folded(text: str) -> tuple[str, list[int]]:
    """NFKC, case and quotation marks folded, runs of white space as one blank; and where each character came from."""
    out: list[str] = []
    places: list[int] = []
    for place, character in enumerate(text):
        for one in unicodedata.normalize("NFKC", character).casefold():
            plain = {"’": "'", "‘": "'", "“": '"', "”": '"', "–": "-", "—": "-"}.get(one, one)
            if plain.isspace():
                if out and out[-1] == " ":
                    continue
                plain = " "
            out.append(plain)
            places.append(place)
    return "".join(out), places
