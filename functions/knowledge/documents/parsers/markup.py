"""HTML, read with lxml: headings, paragraphs, list items and table rows; scripts, styles and navigation left out."""

from __future__ import annotations

from functions.knowledge.documents.parsers.outline import Outline, Parsed, Unparseable

HEADINGS = {f"h{level}": level for level in range(1, 7)}
SILENT = frozenset({"script", "style", "noscript", "template", "svg", "nav", "head", "iframe", "object", "select"})
BLOCK_TAGS = """
    address article aside blockquote body dd details div dl dt fieldset figcaption figure footer form header hr html
    li main ol p pre section summary table tbody td tfoot th thead tr ul br
"""
BLOCKS = frozenset(BLOCK_TAGS.split()) | frozenset(HEADINGS)


class HtmlReader:
    """Collects inline text and lets go of it at every block's edge."""

    def __init__(self) -> None:
        self.outline = Outline()
        self._inline: list[str] = []
        self._preformatted = 0
        self._silent = 0
        self._header: list[str] = []
        self._row: list[str] | None = None

    def start(self, tag: str, text: str) -> None:
        if tag in SILENT:
            self._silent += 1
        if tag in BLOCKS and self._row is None:
            self.flush("paragraph")
        if tag == "tr":
            self._row = []
        elif tag == "table":
            self._header = []
        self._preformatted += tag == "pre"
        self.say(text)

    def end(self, tag: str, tail: str) -> None:
        if tag in SILENT:
            self._silent -= 1
        elif tag in ("td", "th") and self._row is not None:
            self._row.append(self._taken())
        elif tag == "tr" and self._row is not None:
            self._end_row(self._row)
        elif tag in HEADINGS:
            self.outline.heading(HEADINGS[tag], self._taken())
        elif tag in BLOCKS and self._row is None:
            self.flush("item" if tag in ("li", "dd", "dt") else "code" if tag == "pre" else "paragraph")
        self._preformatted -= tag == "pre"
        self.say(tail)

    def say(self, text: str) -> None:
        if text and not self._silent:
            self._inline.append(text)

    def flush(self, kind: str) -> None:
        text = self._taken()
        if text.strip():
            self.outline.add(kind, text)

    def _end_row(self, cells: list[str]) -> None:
        self._row = None
        if not self._header:
            self._header = cells
            self.outline.add("row", " | ".join(cell for cell in cells if cell))
        else:
            self.outline.row(self._header, cells)

    def _taken(self) -> str:
        text = "".join(self._inline)
        self._inline = []
        return text if self._preformatted else " ".join(text.split())


def parse_html(text: str) -> Parsed:
    from lxml import etree

    parser = etree.HTMLParser(no_network=True, remove_comments=True, remove_pis=True, huge_tree=True, encoding="utf-8")
    try:
        root = etree.fromstring(text.encode("utf-8"), parser=parser)
    except etree.XMLSyntaxError as flaw:
        raise Unparseable("corrupt", f"the HTML cannot be read: {flaw}"[:300]) from flaw
    if any(flaw.type == etree.ErrorTypes.ERR_RESOURCE_LIMIT for flaw in parser.error_log):
        raise Unparseable("corrupt", "the HTML is nested too deeply: what follows could not be read")
    reader = HtmlReader()
    if root is not None:
        for event, element in etree.iterwalk(root, events=("start", "end")):
            if isinstance(element.tag, str):
                if event == "start":
                    reader.start(element.tag, element.text or "")
                else:
                    reader.end(element.tag, element.tail or "")
    reader.flush("paragraph")
    return reader.outline.parsed()
