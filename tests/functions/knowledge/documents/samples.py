"""Real files for the tests, good and bad, made by the libraries that make them in the field or byte by byte."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable
from pathlib import Path

HANDBOOK = Path(__file__).parents[4] / "docs" / "handbook"


def handbook_pdf() -> bytes:
    return (HANDBOOK / "security-overview.pdf").read_bytes()


def handbook_docx() -> bytes:
    return (HANDBOOK / "operations-runbook.docx").read_bytes()


def encrypted_pdf() -> bytes:
    """A PDF whose trailer asks for a password that nobody has (ISO 32000-1, 7.6.3)."""
    secret = "00" * 32
    encrypt = f"<< /Filter /Standard /V 2 /R 3 /Length 128 /P -44 /O <{secret}> /U <{secret}> >>"
    identity = f"/Encrypt {encrypt} /ID [<{'11' * 16}> <{'11' * 16}>]"
    return handbook_pdf().replace(b"/Root 1 0 R", b"/Root 1 0 R " + identity.encode())


def picture_pdf() -> bytes:
    """A page on which something is drawn and nothing is written."""
    import re

    return re.sub(rb"\(.*?(?<!\\)\) Tj", b"() Tj", handbook_pdf())


def pptx() -> bytes:
    import pptx as library

    presentation = library.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[1])
    slide.shapes.title.text = "Quarterly review"
    slide.placeholders[1].text_frame.text = "Revenue rose by nine per cent"
    slide.notes_slide.notes_text_frame.text = "Mention the new tenant"
    return saved(presentation.save)


def controlled_docx() -> bytes:
    """What Word makes of forms and tracked changes: text in controls, links, insertions and tables inside tables."""
    import docx
    from docx.oxml import parse_xml

    document = docx.Document()
    word = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
    paragraph = document.add_paragraph("Terms ")._p
    paragraph.append(parse_xml(f"<w:hyperlink {word}><w:r><w:t>linked </w:t></w:r></w:hyperlink>"))
    paragraph.append(parse_xml(f'<w:ins {word} w:id="1" w:author="a"><w:r><w:t>added</w:t></w:r></w:ins>'))
    paragraph.append(parse_xml(f'<w:del {word} w:id="2" w:author="a"><w:r><w:delText>gone</w:delText></w:r></w:del>'))
    controlled = "<w:sdtContent><w:p><w:r><w:t>In a control</w:t></w:r></w:p></w:sdtContent>"
    document.element.body.insert(0, parse_xml(f"<w:sdt {word}>{controlled}</w:sdt>"))
    table = document.add_table(2, 2)
    table.cell(0, 0).text, table.cell(0, 1).text, table.cell(1, 0).text = "Name", "Details", "outer"
    table.cell(1, 1).add_table(1, 1).cell(0, 0).text = "inner"
    return saved(document.save)


def grouped_pptx() -> bytes:
    import pptx as library

    presentation = library.Presentation()
    slide = presentation.slides.add_slide(presentation.slide_layouts[5])
    table = slide.shapes.add_table(2, 2, 0, 0, 900_000, 900_000).table
    for place, text in enumerate(("Item", "Quantity", "Bolt", "7")):
        table.cell(place // 2, place % 2).text = text
    box = slide.shapes.add_group_shape().shapes.add_textbox(0, 0, 900_000, 900_000)
    box.text_frame.text = "In a group"
    return saved(presentation.save)


def dated_xlsx() -> bytes:
    import datetime

    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.append(["Day", "Moment", "Total"])
    sheet.append([datetime.date(2026, 3, 1), datetime.datetime(2026, 3, 1, 12, 30), "=SUM(A1:A1)"])
    return saved(book.save)


def xlsx() -> bytes:
    import openpyxl

    book = openpyxl.Workbook()
    sheet = book.active
    assert sheet is not None
    sheet.title = "Prices"
    sheet.append(["Article", "Price"])
    sheet.append(["Bolt", 12.5])
    sheet.append(["Nut", 3])
    return saved(book.save)


def huge_sheet_xlsx() -> bytes:
    """A few hundred kilobytes that unpack to a sheet of 300 MB."""
    row = b'<row><c t="inlineStr"><is><t>' + b"x" * 1000 + b"</t></is></c></row>"
    return with_part(xlsx(), "xl/worksheets/sheet1.xml", b"<worksheet><sheetData>" + row * 300_000)


def bomb_docx() -> bytes:
    """42.zip's idea in a DOCX: zeros that compress a thousandfold."""
    return with_part(handbook_docx(), "word/media/image1.png", bytes(300_000_000))


def entities_docx() -> bytes:
    """A billion laughs in the document's own XML."""
    declared = "".join(f'<!ENTITY a{index + 1} "{f"&a{index};" * 10}">' for index in range(9))
    xml = f'<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a0 "ha">{declared}]><x>&a9;</x>'
    return with_part(handbook_docx(), "word/document.xml", xml.encode())


def encrypted_docx() -> bytes:
    """What Office writes for a protected document: an OLE file that holds an encrypted package."""
    return b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(1016) + "EncryptedPackage".encode("utf-16-le") + bytes(2000)


def plain_zip() -> bytes:
    return with_part(b"PK\x05\x06" + bytes(18), "a.txt", b"hello")


def nested_zip() -> bytes:
    """Archives inside an archive: nothing in them is unpacked."""
    inner = with_part(b"PK\x05\x06" + bytes(18), "zeros", bytes(50_000_000))
    return with_part(b"PK\x05\x06" + bytes(18), "inner.zip", inner)


def with_part(archive: bytes, name: str, content: bytes) -> bytes:
    """The same archive with one part replaced or added."""
    target = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(archive)) as old, zipfile.ZipFile(target, "w", zipfile.ZIP_DEFLATED) as new:
        for entry in old.infolist():
            if entry.filename != name:
                new.writestr(entry, old.read(entry))
        new.writestr(name, content)
    return target.getvalue()


def saved(save: Callable[[io.BytesIO], object]) -> bytes:
    target = io.BytesIO()
    save(target)
    return target.getvalue()
