"""Each format and each bad file, through a real child process."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from functions.knowledge.documents import parsing
from functions.knowledge.documents.parsing import Limits, ParsedDocument, Parsers
from functions.knowledge.documents.refusal import Refused
from tests.functions.knowledge.documents import samples


@pytest.fixture
async def parsers() -> AsyncIterator[Parsers]:
    opened = Parsers()
    yield opened
    await opened.close()


async def parse(parsers: Parsers, folder: Path, name: str, content: bytes) -> ParsedDocument:
    path = folder / "object"
    path.write_bytes(content)
    return await parsers.parse(path, name)


async def reason(parsers: Parsers, folder: Path, name: str, content: bytes) -> str:
    with pytest.raises(Refused) as raised:
        await parse(parsers, folder, name, content)
    return raised.value.reason


BAD: list[tuple[str, Callable[[], bytes], str]] = [
    ("empty.txt", lambda: b"", "empty"),
    ("blank.md", lambda: b" \n\n ", "no_text"),
    ("locked.pdf", samples.encrypted_pdf, "encrypted"),
    ("locked.docx", samples.encrypted_docx, "encrypted"),
    ("cut.pdf", lambda: samples.handbook_pdf()[:400], "corrupt"),
    ("cut.docx", lambda: samples.handbook_docx()[:20_000], "corrupt"),
    ("cut.json", lambda: b'{"a": [1, 2', "corrupt"),
    ("pictures.pdf", samples.picture_pdf, "no_text"),
    ("bomb.docx", samples.bomb_docx, "zip_bomb"),
    ("bomb.xlsx", samples.huge_sheet_xlsx, "zip_bomb"),
    ("laughs.docx", samples.entities_docx, "zip_bomb"),
    ("files.zip", samples.plain_zip, "unsupported"),
    ("program.bin", lambda: b"\x7fELF" + bytes(500), "unsupported"),
    ("deep.json", lambda: b"[" * 200_000, "corrupt"),
    ("null.json", lambda: b"null", "no_text"),
    ("deep.html", lambda: b"<p>first</p>" + b"<div>" * 5000 + b"deep" + b"</div>" * 5000 + b"<p>last</p>", "corrupt"),
    ("nested.zip", samples.nested_zip, "unsupported"),
]


@pytest.mark.parametrize(("name", "content", "expected"), BAD, ids=[name for name, _, _ in BAD])
async def test_a_bad_file_is_refused_with_its_reason(
    parsers: Parsers, tmp_path: Path, name: str, content: Callable[[], bytes], expected: str
) -> None:
    assert await reason(parsers, tmp_path, name, content()) == expected


GOOD: list[tuple[str, Callable[[], bytes], str]] = [
    ("handbook.pdf", samples.handbook_pdf, "Every tenant has a PostgreSQL database of its own"),
    ("runbook.docx", samples.handbook_docx, "Reason: zip_bomb; State: quarantined"),
    ("review.pptx", samples.pptx, "Revenue rose by nine per cent"),
    ("prices.xlsx", samples.xlsx, "Article: Bolt; Price: 12.5"),
    ("people.csv", lambda: b"name;age\nAda;36\n", "name: Ada; age: 36"),
    ("config.json", lambda: b'{"server": {"ports": [80, 443]}}', "server.ports[1]: 443"),
    ("rows.ndjson", lambda: b'{"a": 1}\n{"a": 2}\n', "a: 2"),
    ("page.html", lambda: b"<html><h1>Hi</h1><script>no()</script><p>One <b>two</b>.</p></html>", "One two."),
    ("notes.txt", lambda: "Grüße".encode("latin-1"), "Grüße"),
    ("notes16.txt", lambda: "Grüße".encode("utf-16"), "Grüße"),
    (
        "controls.docx",
        samples.controlled_docx,
        "In a control\n\nTerms linked added\n\nName | Details\nName: outer; Deta",
    ),
    ("nested.docx", samples.controlled_docx, "Details: inner"),
    ("groups.pptx", samples.grouped_pptx, "Item: Bolt; Quantity: 7\n\nIn a group"),
    ("dates.xlsx", samples.dated_xlsx, "Day: 2026-03-01; Moment: 2026-03-01 12:30:00"),
    ("nesting.html", lambda: b"<div>" * 300 + b"deep" + b"</div>" * 300 + b"<p>last</p>", "deep\n\nlast"),
    ("windows.txt", lambda: "“5 €” – paid".encode("cp1252"), "“5 €” – paid"),
    ("about-pdf.md", lambda: b"A PDF begins with %PDF-1.4 and a page tree.", "A PDF begins with %PDF-1.4"),
    ("numbers.json", lambda: b'{"price": 1.10, "id": ' + b"9" * 5000 + b', "ok": true}', "price: 1.10\nid: 999"),
    ("flags.json", lambda: b'{"ok": true, "none": null}', "ok: true"),
    ("code.py", lambda: b"def add(a, b):\n    return a + b\n", "def add(a, b):"),
]


@pytest.mark.parametrize(("name", "content", "expected"), GOOD, ids=[name for name, _, _ in GOOD])
async def test_a_good_file_gives_its_text_and_exact_blocks(
    parsers: Parsers, tmp_path: Path, name: str, content: Callable[[], bytes], expected: str
) -> None:
    parsed = await parse(parsers, tmp_path, name, content())
    assert expected in parsed.text
    places = [place for block in parsed.blocks for place in (block.start, block.end)]
    assert places == sorted(places)
    assert all(parsed.text[block.start : block.end].strip() for block in parsed.blocks)
    assert "no()" not in parsed.text


async def test_pages_of_a_pdf_are_counted_from_one(parsers: Parsers, tmp_path: Path) -> None:
    parsed = await parse(parsers, tmp_path, "handbook.pdf", samples.handbook_pdf())
    assert {block.page for block in parsed.blocks} == {1, 2}


async def test_a_file_with_another_formats_extension_is_read_by_its_content(parsers: Parsers, tmp_path: Path) -> None:
    parsed = await parse(parsers, tmp_path, "really-a-pdf.docx", samples.handbook_pdf())
    assert parsed.note.startswith("wrong_extension")
    assert "Separation of tenants" in parsed.text


async def test_markdown_keeps_its_source_and_its_headings(parsers: Parsers, tmp_path: Path) -> None:
    source = "# Top\n\nFirst.\n\n## Below\n\n| a | b |\n|---|---|\n| 1 | 2 |\n"
    parsed = await parse(parsers, tmp_path, "x.md", source.encode())
    assert parsed.text == source
    assert [block.heading for block in parsed.blocks][-1] == "Top > Below > a | b"


async def test_parsing_that_takes_too_long_ends_with_its_reason(parsers: Parsers, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"a")
    with pytest.raises(Refused) as raised:
        await parsers.parse(tmp_path / "x.txt", "x.txt", Limits(wall_s=0.0001))
    assert raised.value.reason == "parse_timeout"


async def test_parsing_that_needs_too_much_memory_is_stopped(parsers: Parsers, tmp_path: Path) -> None:
    path = tmp_path / "x.txt"
    path.write_bytes(b"word " * 10_000_000)
    with pytest.raises(Refused) as raised:
        await parsers.parse(path, "x.txt", Limits(memory_bytes=150_000_000))
    assert raised.value.reason in ("parse_memory", "parser_crash", "too_large")


async def test_more_output_than_allowed_is_too_large(parsers: Parsers, tmp_path: Path) -> None:
    (tmp_path / "x.txt").write_bytes(b"a" * 10_000)
    with pytest.raises(Refused) as raised:
        await parsers.parse(tmp_path / "x.txt", "x.txt", Limits(output_bytes=1000))
    assert raised.value.reason == "too_large"


async def test_a_killed_parser_is_a_crash_and_the_next_file_is_parsed(parsers: Parsers, tmp_path: Path) -> None:
    child = await parsing.start()
    os.kill(child.pid, signal.SIGKILL)
    parsers._spare = child
    (tmp_path / "x.txt").write_bytes(b"a")
    with pytest.raises(Refused) as raised:
        await parsers.parse(tmp_path / "x.txt", "x.txt")
    assert raised.value.reason == "parser_crash"
    assert (await parse(parsers, tmp_path, "y.txt", b"still here")).text == "still here"


async def test_a_parser_ends_with_its_parent(tmp_path: Path) -> None:
    code = f"""
import subprocess, time
child = subprocess.Popen({parsing.COMMAND!r}, stdin=subprocess.PIPE)
print(child.pid, flush=True)
time.sleep(60)
"""
    parent = await asyncio.create_subprocess_exec(sys.executable, "-c", code, stdout=asyncio.subprocess.PIPE)
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    async with asyncio.timeout(10):
        while alive(child):  # noqa: ASYNC110  another process's end raises no event here
            await asyncio.sleep(0.05)


def alive(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2][:3]
    except FileNotFoundError:
        return False


async def test_a_parser_sees_no_secret_of_the_platform(parsers: Parsers) -> None:
    child = await parsing.start()
    environment = environment_of(child.pid)
    await parsing.end(child)
    assert b"DCODER" not in environment


def environment_of(pid: int) -> bytes:
    return Path(f"/proc/{pid}/environ").read_bytes()
