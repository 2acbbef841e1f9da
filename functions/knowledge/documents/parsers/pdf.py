"""PDF, a page at a time, read with PDFium."""

from __future__ import annotations

import re
from pathlib import Path

from functions.knowledge.documents.parsers.outline import Outline, Parsed, Unparseable, storable

PAGES_MAX = 5000
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
            outline.add("paragraph", paragraph)
    return outline.parsed()


def page_text(document: object, number: int) -> str:
    """A page's text with words that were parted at a line's end joined, and lines that run on put together."""
    page = document[number]  # type: ignore[index]  # PDFium's binding carries no types
    try:
        text = page.get_textpage().get_text_bounded()
    finally:
        page.close()
    text = HYPHENATED.sub("", text.replace("\r\n", "\n").replace("\r", "\n"))
    return SOFT_BREAK.sub(" ", storable(text))
