"""PDF, a page at a time, read with PDFium."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from functions.knowledge.documents.parsers.outline import Outline, Parsed, Unparseable, storable

PAGES_MAX = 5000
TITLE_CHARS_MAX = 70
ENDS = ".:;!?"
HYPHENATED = re.compile("[\x02\ufffe]\n?")
SOFT_BREAK = re.compile(r"(?<![.:;!?\n])\n(?=[a-z(,])")
PARAGRAPH = re.compile(r"\n[ \t]*\n")


def parse_pdf(path: Path) -> Parsed:
    import pypdfium2

    try:
        document = pypdfium2.PdfDocument(path)
    except pypdfium2.PdfiumError as flaw:
        if "password" in str(flaw).lower():
            raise Unparseable("encrypted", "the PDF is protected with a password") from flaw
        raise Unparseable("corrupt", f"the PDF is truncated or damaged: {flaw}"[:300]) from flaw
    if len(document) > PAGES_MAX:
        raise Unparseable("too_large", f"{len(document)} pages; at most {PAGES_MAX} are read")
    outline = Outline()
    for number in range(len(document)):
        outline.page = number + 1
        for paragraph in PARAGRAPH.split(page_text(document, number)):
            add_lines(outline, paragraph.split("\n"))
    return outline.parsed()


def add_lines(outline: Outline, lines: Sequence[str]) -> None:
    """Lines as titles and the paragraphs below them. A page has no marks for either, so their shape must tell."""
    started = 0
    for index, line in enumerate(lines):
        before = lines[index - 1] if index > started else ""
        after = lines[index + 1] if index + 1 < len(lines) else ""
        if looks_like_title(line, before, after):
            outline.add("paragraph", "\n".join(lines[started:index]))
            outline.heading(1, line)
            started = index + 1
    outline.add("paragraph", "\n".join(lines[started:]))


def looks_like_title(line: str, before: str, after: str) -> bool:
    """A short line that ends no sentence, between the end of one and the start of another."""
    title, above, below = line.strip(), before.strip(), after.strip()
    return (
        3 <= len(title) <= TITLE_CHARS_MAX
        and title[0].isupper()
        and title[-1] not in ENDS + ",-"
        and (not above or above[-1] in ENDS)
        and len(below) > len(title)
        and below[0].isupper()
    )


def page_text(document: object, number: int) -> str:
    """A page's text with words that were parted at a line's end joined, and lines that run on put together."""
    page = document[number]  # type: ignore[index]  # PDFium's binding carries no types
    try:
        text = page.get_textpage().get_text_bounded()
    finally:
        page.close()
    text = HYPHENATED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return SOFT_BREAK.sub(" ", storable(text))
