"""What a file is, by its content first and its name second."""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from functions.knowledge.documents.parsers.archives import check_archive
from functions.knowledge.documents.parsers.outline import Unparseable

CODE = """
    py pyi js jsx mjs cjs ts tsx java kt kts scala go rs c h cc cpp cxx hpp hh cs swift rb php pl pm sh bash zsh ps1 sql
    lua r jl dart ex exs erl hs clj groovy gradle tf proto m mm vb fs pas asm s v vhd toml yaml yml ini cfg conf xml
    css scss less dockerfile makefile cmake
"""
BY_EXTENSION = {
    "md": "markdown", "markdown": "markdown", "html": "html", "htm": "html", "xhtml": "html", "pdf": "pdf",
    "docx": "docx", "docm": "docx", "pptx": "pptx", "pptm": "pptx", "xlsx": "xlsx", "xlsm": "xlsx", "csv": "csv",
    "tsv": "csv", "json": "json", "ndjson": "json", "jsonl": "json", "txt": "text", "text": "text", "log": "text",
    "rst": "text", **dict.fromkeys(CODE.split(), "code"),
}  # fmt: skip
OFFICE = {"word/document.xml": "docx", "ppt/presentation.xml": "pptx", "xl/workbook.xml": "xlsx"}
BINARY = frozenset({"pdf", "docx", "pptx", "xlsx"})
OLE = b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1"
ENCRYPTED_PACKAGE = "EncryptedPackage".encode("utf-16-le")
BOMS = (
    (b"\xef\xbb\xbf", "utf-8-sig"),
    (b"\xff\xfe\x00\x00", "utf-32"),
    (b"\x00\x00\xfe\xff", "utf-32"),
    (b"\xff\xfe", "utf-16"),
    (b"\xfe\xff", "utf-16"),
)
HEAD_BYTES = 4096
HTML = re.compile(rb"\s*(<\?xml[^>]*\?>\s*)?(<!--.*?-->\s*)*<(!doctype\s+html|html|head|body)\b", re.I | re.S)
CONTROL = bytes(sorted(set(range(32)) - {7, 8, 9, 10, 12, 13, 27}))
CONTROL_SHARE_MAX = 0.05


@dataclass(frozen=True)
class Kind:
    """The format to parse as; `note` says so when the name promised another."""

    format: str
    note: str = ""


def sniff(path: Path, name: str) -> Kind:
    """Raises `Unparseable`: empty, encrypted, corrupt, zip_bomb or unsupported."""
    with path.open("rb") as source:
        head = source.read(HEAD_BYTES)
    if not head:
        raise Unparseable("empty", "the file has no bytes")
    promised = promised_format(name)
    found = binary_format(path, head, promised) or text_format(head, promised)
    if promised and found != promised and (promised in BINARY or found in BINARY or found == "html"):
        return Kind(found, f"wrong_extension: the name promises {promised}, the content is {found}")
    return Kind(found)


def promised_format(name: str) -> str:
    leaf = PurePosixPath(name).name.lower()
    extension = leaf.rpartition(".")[2]
    return BY_EXTENSION.get(extension, "")


def binary_format(path: Path, head: bytes, promised: str) -> str:
    """A format with a signature, or an empty text. A text may speak of a PDF's header without being one."""
    if head.lstrip().startswith(b"%PDF-") or (b"%PDF-" in head[:1024] and promised in ("", "pdf")):
        return "pdf"
    if head.startswith((b"PK\x03\x04", b"PK\x05\x06")):
        names = check_archive(path)
        for part, format_name in OFFICE.items():
            if part in names:
                return format_name
        raise Unparseable("unsupported", "a ZIP archive that is no Office document; upload its files one by one")
    if head.startswith(OLE):
        with path.open("rb") as source:
            if ENCRYPTED_PACKAGE in source.read(1_000_000):
                raise Unparseable("encrypted", "the Office document is protected with a password")
        raise Unparseable("unsupported", "an Office format from before 2007; save it as DOCX, PPTX or XLSX")
    return ""


def text_format(head: bytes, promised: str) -> str:
    if not any(head.startswith(mark) for mark, _ in BOMS):
        odd = len(head) - len(head.translate(None, CONTROL))
        if odd > CONTROL_SHARE_MAX * len(head) or b"\x00" in head[:1024]:
            raise Unparseable("unsupported", "the content is neither text nor a format that is understood")
    if HTML.match(head.removeprefix(b"\xef\xbb\xbf")):
        return "html"
    return promised if promised and promised not in BINARY else "text"


def decoded(raw: bytes) -> str:
    """Text by its byte-order mark, as UTF-8, as Windows-1252, or as Latin-1, which every byte sequence is."""
    for mark, encoding in BOMS:
        if raw.startswith(mark):
            try:
                return raw.decode(encoding)
            except UnicodeDecodeError as flaw:
                raise Unparseable("corrupt", f"the text breaks off inside a character: {flaw}") from flaw
    for encoding in ("utf-8", "cp1252"):
        with suppress(UnicodeDecodeError):
            return raw.decode(encoding)
    return raw.decode("latin-1")
