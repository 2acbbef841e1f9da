"""DOCX and PPTX, in reading order."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from functions.knowledge.documents.parsers.outline import Outline, Parsed, Unparseable

HEADING_STYLE = re.compile(r"(?:heading|überschrift|titre) (\d)", re.IGNORECASE)
SLIDES_MAX = 5000
Vendor = Any  # python-docx and python-pptx carry no types


def parse_docx(path: Path) -> Parsed:
    import docx
    from docx.table import Table

    try:
        document = docx.Document(str(path))
    except (KeyError, ValueError, OSError, SyntaxError) as flaw:
        raise Unparseable("corrupt", f"the document cannot be opened: {flaw}"[:300]) from flaw
    outline = Outline()
    for content in document.iter_inner_content():
        if isinstance(content, Table):
            add_table(outline, content)
        else:
            add_paragraph(outline, content)
    return outline.parsed()


def add_paragraph(outline: Outline, paragraph: Vendor) -> None:
    style = paragraph.style.name if paragraph.style is not None else ""
    found = HEADING_STYLE.match(style or "")
    if found or style == "Title":
        outline.heading(int(found[1]) + 1 if found else 1, paragraph.text)
    else:
        outline.add("item" if (style or "").startswith("List") else "paragraph", paragraph.text)


def add_table(outline: Outline, table: Vendor) -> None:
    header: list[str] = []
    for row in table.rows:
        cells = [cell.text for cell in row.cells]
        if not header and any(cells):
            header = cells
            outline.add("row", " | ".join(cell for cell in cells if cell))
        else:
            outline.row(header, cells)


def parse_pptx(path: Path) -> Parsed:
    import pptx

    try:
        presentation = pptx.Presentation(str(path))
    except (KeyError, ValueError, OSError, SyntaxError) as flaw:
        raise Unparseable("corrupt", f"the presentation cannot be opened: {flaw}"[:300]) from flaw
    outline = Outline()
    for number, slide in enumerate(presentation.slides, start=1):
        if number > SLIDES_MAX:
            raise Unparseable("too_large", f"more than {SLIDES_MAX} slides")
        outline.page = number
        add_slide(outline, slide)
    return outline.parsed()


def add_slide(outline: Outline, slide: Vendor) -> None:
    title = slide.shapes.title
    if title is not None and title.has_text_frame:
        outline.heading(1, title.text_frame.text)
    for shape in slide.shapes:
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if shape.has_text_frame:
            for paragraph in shape.text_frame.paragraphs:
                outline.add("item", "".join(run.text for run in paragraph.runs))
        elif getattr(shape, "has_table", False):
            add_table(outline, shape.table)
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        outline.add("paragraph", slide.notes_slide.notes_text_frame.text)
