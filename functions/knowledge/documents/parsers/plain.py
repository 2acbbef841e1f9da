"""Text whose source is kept as it is: plain text, Markdown and source code. Blocks are spans of it."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from functions.knowledge.documents.parsers.outline import Block, Headings, Parsed

ATX = re.compile(r"(#{1,6})[ \t]+(.*?)[ \t#]*$")
SETEXT = re.compile(r"(=+|-+)[ \t]*$")
FENCE = re.compile(r"[ ]{0,3}(`{3,}|~{3,})")
ITEM = re.compile(r"[ \t]*([-*+]|\d{1,9}[.)])[ \t]+")
ROW = re.compile(r"[ \t]*\|")
RULE_ROW = re.compile(r"[ \t]*\|?[ \t:|-]*-[ \t:|-]*$")
MODIFIERS = (
    r"export|default|public|private|protected|internal|static|final|abstract|async|pub(?:\([a-z]+\))?"
    r"|unsafe|override|open|sealed|data|inline|extern|virtual|partial"
)
KEYWORDS = (
    r"def|class|func|fn|function|interface|struct|enum|trait|impl|module|namespace|type|object|record|protocol"
    r"|extension|macro_rules!|sub|procedure|CREATE(?:[ \t]+OR[ \t]+REPLACE)?[ \t]+\w+"
)
DEFINITION = re.compile(
    rf"(?P<indent>[ \t]*)(?:(?:{MODIFIERS})[ \t]+)*(?:{KEYWORDS})[ \t]+(?P<name>[^\s({{:;=]+)", re.IGNORECASE
)
DECORATOR = re.compile(r"[ \t]*(@\w|#\[|//[/!]|/\*\*)")


@dataclass(frozen=True, slots=True)
class Line:
    """A line and its place, without its line end."""

    start: int
    end: int
    text: str


def lines_of(text: str) -> Iterator[Line]:
    start = 0
    while start < len(text):
        end = text.find("\n", start)
        end = len(text) if end < 0 else end
        yield Line(start, end, text[start:end])
        start = end + 1


def parse_text(text: str) -> Parsed:
    """Paragraphs: runs of lines without a blank one between."""
    blocks: list[Block] = []
    opened: Line | None = None
    last: Line | None = None
    for line in lines_of(text):
        if line.text.strip():
            opened, last = opened or line, line
        elif opened and last:
            blocks.append(Block("paragraph", opened.start, last.end, None, ""))
            opened = None
    if opened and last:
        blocks.append(Block("paragraph", opened.start, last.end, None, ""))
    return Parsed(text, tuple(blocks))


class MarkdownReader:
    """Headings, fenced code, list items, table rows and paragraphs, line by line."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.headings = Headings()
        self.blocks: list[Block] = []
        self._kind = ""
        self._start = 0
        self._end = 0
        self._fence = ""
        self._columns = ""

    def read(self) -> Parsed:
        for line in lines_of(self.text):
            self._line(line)
        self._flush()
        return Parsed(self.text, tuple(self.blocks))

    def _line(self, line: Line) -> None:
        if self._fence:
            self._end = line.end
            if line.text.strip().startswith(self._fence):
                self._fence = ""
                self._flush()
        elif fence := FENCE.match(line.text):
            self._begin("code", line)
            self._fence = fence[1]
        elif not line.text.strip():
            self._flush()
            self._columns = ""
        elif title := ATX.match(line.text):
            self._titled(len(title[1]), title[2], line)
        elif self._kind == "paragraph" and SETEXT.match(line.text):
            self._underlined(line)
        else:
            self._content(line)

    def _content(self, line: Line) -> None:
        if ROW.match(line.text):
            self._row(line)
        elif ITEM.match(line.text):
            self._begin("item", line)
        elif self._kind in ("paragraph", "item"):
            self._end = line.end
        else:
            self._begin("paragraph", line)

    def _row(self, line: Line) -> None:
        if not self._columns:
            self._columns = " | ".join(cell.strip() for cell in line.text.strip().strip("|").split("|"))
        elif RULE_ROW.match(line.text) and self._kind == "row":
            self._end = line.end
            return
        self._begin("row", line)

    def _titled(self, level: int, title: str, line: Line) -> None:
        self._flush()
        self.headings.enter(level, title)
        self.blocks.append(Block("heading", line.start, line.end, None, self.headings.path))

    def _underlined(self, line: Line) -> None:
        title = self.text[self._start : self._end]
        self.headings.enter(1 if line.text.startswith("=") else 2, title)
        self._kind, self._end = "heading", line.end
        self._flush()

    def _begin(self, kind: str, line: Line) -> None:
        self._flush()
        self._kind, self._start, self._end = kind, line.start, line.end

    def _flush(self) -> None:
        if self._kind:
            heading = self.headings.path
            if self._kind == "row" and self._columns:
                heading = f"{heading} > {self._columns}" if heading else self._columns
            self.blocks.append(Block(self._kind, self._start, self._end, None, heading[:300]))
        self._kind = ""


def parse_markdown(text: str) -> Parsed:
    return MarkdownReader(text).read()


def parse_code(text: str) -> Parsed:
    """One block per definition, with the names of the definitions around it as its heading."""
    starts = definition_starts(text)
    if not starts:
        return parse_text(text)
    blocks: list[Block] = []
    headings = Headings()
    edges = [*starts, (len(text), 0, "")]
    if starts[0][0] > 0:
        append_trimmed(blocks, text, 0, starts[0][0], "")
    for (start, indent, name), (following, _, _) in pairwise(edges):
        headings.enter(indent + 1, name)
        append_trimmed(blocks, text, start, following, headings.path)
    return Parsed(text, tuple(blocks))


def definition_starts(text: str) -> list[tuple[int, int, str]]:
    """Start, indentation and name of each definition; its decorators and documentation comments belong to it."""
    starts: list[tuple[int, int, str]] = []
    pending: int | None = None
    for line in lines_of(text):
        if found := DEFINITION.match(line.text):
            starts.append((line.start if pending is None else pending, len(found["indent"]), found["name"]))
            pending = None
        elif DECORATOR.match(line.text):
            pending = line.start if pending is None else pending
        elif not line.text.strip() or not line.text.lstrip().startswith(("*", "//", ")", "#")):
            pending = None
    return starts


def append_trimmed(blocks: list[Block], text: str, start: int, end: int, heading: str) -> None:
    piece = text[start:end].rstrip()
    lead = len(piece) - len(piece.lstrip("\n"))
    if piece.strip():
        blocks.append(Block("code", start + lead, start + len(piece), None, heading))
