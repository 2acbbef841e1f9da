"""DOCX and PPTX, in reading order."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from functions.knowledge.documents.parsers.outline import Outline, Parsed, Unparseable

HEADING_STYLE = re.compile(r"(?:heading|überschrift|titre) (\d)", re.IGNORECASE)
SLIDES_MAX = 5000
WORD = "{http://schemas.openxmlformats.org/wordprocessingml/2006/main}"
PARAGRAPH, TABLE, RUN, TEXT_BOX = (f"{WORD}{name}" for name in ("p", "tbl", "r", "txbxContent"))
WRAPPERS = frozenset(f"{WORD}{name}" for name in ("sdt", "sdtContent", "ins", "moveTo", "smartTag", "customXml"))
SILENT = frozenset(
    {f"{WORD}del", f"{WORD}moveFrom", "{http://schemas.openxmlformats.org/markup-compatibility/2006}Fallback"}
)
Vendor = Any  # python-docx and python-pptx carry no types


def parse_docx(path: Path) -> Parsed:
    import docx

    try:
        document = docx.Document(str(path))
    except (KeyError, ValueError, OSError, SyntaxError) as flaw:
        raise Unparseable("corrupt", f"the document cannot be opened: {flaw}"[:300]) from flaw
    outline = Outline()
    for content in contents(document.element.body):
        if content.tag == TABLE:
            add_rows(outline, [[text_of(cell) for cell in row] for row in rows_of(content, document)])
        else:
            add_paragraph(outline, content, document)
    return outline.parsed()


def contents(element: Vendor) -> Iterator[Vendor]:
    """Paragraphs and tables in order; those that content controls and tracked insertions wrap are content too."""
    for child in element:
        if child.tag in (PARAGRAPH, TABLE):
            yield child
        elif child.tag in WRAPPERS:
            yield from contents(child)


def rows_of(table: Vendor, document: Vendor) -> Iterator[list[Vendor]]:
    """The cells' elements of each row; a merged cell stands in each of its places."""
    from docx.table import Table

    for row in Table(table, document).rows:
        yield [cell._tc for cell in row.cells]


def text_of(cell: Vendor) -> str:
    """A cell's paragraphs, and those of the tables inside it, a line each."""
    return "\n".join(paragraph_text(one) for one in cell.iter(PARAGRAPH) if one.getparent().tag != TEXT_BOX)


def paragraph_text(paragraph: Vendor) -> str:
    return "".join(run.text for run in runs(paragraph))


def runs(element: Vendor) -> Iterator[Vendor]:
    """Runs at any depth: in links, fields, insertions and text boxes, without what was deleted or is there twice."""
    for child in element:
        if child.tag == RUN:
            yield child
        if child.tag not in SILENT:
            yield from runs(child)


def add_paragraph(outline: Outline, paragraph: Vendor, document: Vendor) -> None:
    from docx.text.paragraph import Paragraph

    styled = Paragraph(paragraph, document).style
    style, text = (styled.name if styled is not None else "") or "", paragraph_text(paragraph)
    found = HEADING_STYLE.match(style)
    if found or style == "Title":
        outline.heading(int(found[1]) + 1 if found else 1, text)
    else:
        outline.add("item" if style.startswith("List") else "paragraph", text)


def add_rows(outline: Outline, rows: Iterable[list[str]]) -> None:
    header: list[str] = []
    for cells in rows:
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
    for shape in shapes_in(slide.shapes):
        if title is not None and shape.shape_id == title.shape_id:
            continue
        if shape.has_text_frame:
            for paragraph in shape.text_frame.paragraphs:
                outline.add("item", paragraph.text)
        elif getattr(shape, "has_table", False):
            add_rows(outline, [[cell.text for cell in row.cells] for row in shape.table.rows])
    if slide.has_notes_slide and slide.notes_slide.notes_text_frame is not None:
        outline.add("paragraph", slide.notes_slide.notes_text_frame.text)


def shapes_in(shapes: Vendor) -> Iterator[Vendor]:
    """Shapes in order, those in groups too."""
    for shape in shapes:
        if hasattr(shape, "shapes"):
            yield from shapes_in(shape.shapes)
        else:
            yield shape
