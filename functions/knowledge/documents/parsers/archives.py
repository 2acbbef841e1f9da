"""Office files are ZIP archives: what they would unpack to is known, and bounded, before anything is unpacked."""

from __future__ import annotations

import zipfile
from pathlib import Path

from functions.knowledge.documents.parsers.outline import Unparseable

ENTRIES_MAX = 10_000
EXPANDED_BYTES_MAX = 400_000_000
RATIO_MAX = 200
RATIO_FREE_BYTES = 20_000_000
PROLOGUE_BYTES = 4096


def check_archive(path: Path) -> frozenset[str]:
    """The names inside. Raises `Unparseable`: corrupt, encrypted or zip_bomb."""
    try:
        with zipfile.ZipFile(path) as archive:
            entries = archive.infolist()
            check_entries(entries, path.stat().st_size)
            for entry in entries:
                if entry.filename.endswith((".xml", ".rels")):
                    check_prologue(archive, entry)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, EOFError, OSError, NotImplementedError, ValueError) as flaw:
        raise Unparseable("corrupt", f"the archive is truncated or damaged: {flaw}"[:300]) from flaw
    return frozenset(entry.filename for entry in entries)


def check_entries(entries: list[zipfile.ZipInfo], size: int) -> None:
    """The sizes are the archive's own claim; `ZipFile.read` stops at them, so a lie shortens what is read."""
    if len(entries) > ENTRIES_MAX:
        raise Unparseable("zip_bomb", f"{len(entries)} entries; at most {ENTRIES_MAX} are unpacked")
    expanded = sum(entry.file_size for entry in entries)
    if expanded > EXPANDED_BYTES_MAX or (expanded > RATIO_FREE_BYTES and expanded > RATIO_MAX * max(size, 1)):
        raise Unparseable("zip_bomb", f"{size} bytes would unpack to {expanded}")
    if any(entry.flag_bits & 1 for entry in entries):
        raise Unparseable("encrypted", "the archive is protected with a password")


def check_prologue(archive: zipfile.ZipFile, entry: zipfile.ZipInfo) -> None:
    """Office formats forbid document types; one that is there serves to declare entities."""
    with archive.open(entry) as stream:
        start = stream.read(PROLOGUE_BYTES)
    if b"<!DOCTYPE" in start or b"<!ENTITY" in start:
        raise Unparseable("zip_bomb", f"{entry.filename} declares XML entities")
