"""What every parser returns: one normalised text, and the blocks it consists of with their exact places."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

TEXT_CHARS_MAX = 20_000_000
HEADING_CHARS_MAX = 300
UNSTORABLE = re.compile("[\x00-\x08\x0b\x0e-\x1f\ud800-\udfff\ufffe\uffff]")
Cell = str


class Unparseable(Exception):
    """The file cannot be taken, for a typed reason and with a sentence for its owner."""

    def __init__(self, reason: str, detail: str) -> None:
        super().__init__(detail)
        self.reason = reason
        self.detail = detail


@dataclass(frozen=True, slots=True)
class Block:
    """A paragraph, list item, table row, definition or the like: `text[start:end]`."""

    kind: str
    start: int
    end: int
    page: int | None
    heading: str


@dataclass(frozen=True, slots=True)
class Parsed:
    """A document's text and its blocks, in order and without overlap."""

    text: str
    blocks: tuple[Block, ...]
    note: str = ""


def storable(text: str) -> str:
    """One kind of line end, and nothing that PostgreSQL's type text refuses."""
    return UNSTORABLE.sub("", text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n").replace("\v", "\n"))


@dataclass
class Headings:
    """The headings above the place that has been reached."""

    open: list[tuple[int, str]] = field(default_factory=list)

    def enter(self, level: int, title: str) -> None:
        self.open = [(depth, text) for depth, text in self.open if depth < level]
        self.open.append((level, " ".join(title.split())))

    @property
    def path(self) -> str:
        return " > ".join(text for _, text in self.open if text)[:HEADING_CHARS_MAX]


class Outline:
    """Builds text and blocks together, for formats whose source is not itself readable."""

    def __init__(self) -> None:
        self.headings = Headings()
        self.page: int | None = None
        self._parts: list[str] = []
        self._length = 0
        self._blocks: list[Block] = []

    def heading(self, level: int, title: str) -> None:
        """Open a section and keep its title as a block of its own."""
        if title.strip():
            self.headings.enter(level, title)
            self.add("heading", title)

    def add(self, kind: str, text: str) -> None:
        """Append a block. Rows and items stand on consecutive lines, everything else apart."""
        text = storable(text).strip()
        if not text:
            return
        close = self._blocks and kind in ("row", "item") and self._blocks[-1].kind == kind
        separator = ("\n" if close else "\n\n") if self._blocks else ""
        start = self._length + len(separator)
        self._length = start + len(text)
        if self._length > TEXT_CHARS_MAX:
            raise Unparseable("too_large", f"the document holds more than {TEXT_CHARS_MAX} characters of text")
        self._parts += (separator, text)
        self._blocks.append(Block(kind, start, self._length, self.page, self.headings.path))

    def row(self, header: list[Cell], cells: list[Cell]) -> None:
        """Append a table row that names its columns, so that it can be understood alone."""
        self.add("row", labelled(header, cells))

    def parsed(self) -> Parsed:
        return Parsed("".join(self._parts), tuple(self._blocks))


def labelled(header: list[Cell], cells: list[Cell]) -> str:
    """`column: value; column: value`, empty cells left out."""
    pairs = []
    for index, cell in enumerate(cells):
        value = " ".join(cell.split())
        label = " ".join(header[index].split()) if index < len(header) else ""
        if value:
            pairs.append(f"{label}: {value}" if label else value)
    return "; ".join(pairs)
