"""Offline verification of an export: no server, no clock, nothing unpacked.

The file is walked twice: over its headers, to find the manifest, and over its bytes, entry by entry beside the
manifest's lines, so neither its size nor the number of its entries matters. Every byte of the file is covered: a
header has one form, what fills a block up is zero, nothing stands before, between or behind the entries.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

from shared.audit.checkpoint import MARK, AuditSigner, Checkpoint, verified
from shared.audit.verify import verify_opened
from shared.errors import Invalid
from shared.tenancy.export import manifest as form
from shared.tenancy.export.archive import Broken, Cut, Member, blocks, members, opened

SIGNATURE_BYTES_MAX = 4096
NAMED_MAX = 8

Line = dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class ArchiveVerdict:
    """What was found. `first_bad` is the path of the first entry that does not fit, or None when none can be named."""

    ok: bool
    message: str
    first_bad: str | None = None
    tenant: str = ""
    at: str = ""
    counts: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Outline:
    """The entries that the others are judged by, and what the manifest's first line says."""

    manifest: Member
    signature: Member
    tenant: str
    at: str
    modified: int
    public_key: bytes


def verify_archive(path: Path, *, public_key: bytes | None = None) -> ArchiveVerdict:
    """Verify the export in a file. What is wrong with it is told in the verdict, never raised.

    `public_key`: the key to trust; without it the one in the export is used, which proves that the export is whole,
    not who made it.
    """
    try:
        with path.open("rb") as file:
            return judged(file, public_key)
    except OSError as failure:
        return ArchiveVerdict(False, f"cannot read {path}: {failure.strerror}")
    except Broken as flaw:
        return ArchiveVerdict(False, str(flaw), flaw.entry)


def judged(file: BinaryIO, public_key: bytes | None) -> ArchiveVerdict:
    outline = outlined(file)
    if public_key is not None and outline.public_key != public_key:
        raise Broken("the export names another public key than the one you trust", form.MANIFEST)
    check_manifest(file, outline, signed_note(file, outline))
    counts = follow(file, outline)
    counts["audit_records"] = audit_records(file, outline)
    message = (
        f"the export of {outline.tenant!r} as of {outline.at} is whole: {counts['entries']} entries, {counts['rows']}"
        f" rows of {counts['tables']} tables, {counts['objects']} objects, {counts['audit_records']} audit records"
    )
    return ArchiveVerdict(True, message, None, outline.tenant, outline.at, dict(counts))


def outlined(file: BinaryIO) -> Outline:
    """Walk over the headers. Raises `Broken`; for an archive that was cut with what is missing."""
    manifest: Member | None = None
    signature: Member | None = None
    try:
        for member in members(file):
            if signature is not None:
                raise Broken(f"{member.path} was inserted behind {form.SIGNATURE}", member.path)
            if manifest is not None:
                check_place(member)
                signature = member
            manifest = manifest or (member if member.path == form.MANIFEST else None)
    except Cut as cut:
        gone = missing(file, cut)
        raise Broken(f"{cut}; missing: {named(gone)}" if gone else str(cut), next(iter(gone), None)) from cut
    if manifest is None or signature is None:
        absent = form.SIGNATURE if manifest else form.MANIFEST
        raise Broken(f"{absent} is missing: nothing says what belongs in the archive", absent)
    return Outline(manifest, signature, *described(file, manifest))


def check_place(member: Member) -> None:
    if member.path != form.SIGNATURE:
        raise Broken(f"{form.MANIFEST} is followed by {member.path}: one of them was inserted or moved", form.MANIFEST)


def missing(file: BinaryIO, cut: Cut) -> list[str]:
    """What an archive that was cut lacks, as far as its first entry can say."""
    wanted = [form.HEAD, *planned(file), "objects/…", form.MANIFEST, form.SIGNATURE]
    if cut.entry is not None and cut.entry not in wanted:
        return [cut.entry, *wanted[wanted.index("objects/…") :]]
    if cut.entry is not None:
        return wanted[wanted.index(cut.entry) :]
    if cut.after in wanted:
        return wanted[wanted.index(cut.after) + 1 :]
    return wanted[wanted.index("objects/…") :] if cut.after else wanted


def planned(file: BinaryIO) -> list[str]:
    """The tables that the first entry announces; none when it cannot be read."""
    try:
        first = next(members(file))
        head = json.loads(b"".join(blocks(file, first))) if first.size <= form.LINE_BYTES_MAX else {}
        return [str(path) for path in head["planned"]]
    except (Broken, StopIteration, ValueError, KeyError, TypeError):
        return []


def named(paths: list[str]) -> str:
    more = f" and {len(paths) - NAMED_MAX} more" if len(paths) > NAMED_MAX else ""
    return ", ".join([*paths[: NAMED_MAX - 2], *paths[-2:]] if more else paths) + more


def described(file: BinaryIO, manifest: Member) -> tuple[str, str, int, bytes]:
    """Tenant, time, the same in seconds, and public key, from the manifest's first line."""
    head = next(form.lines_of(opened(file, manifest)), {})
    if head.get("format") != form.FORMAT:
        raise Broken(f"the export has format {head.get('format')!r}; this version reads {form.FORMAT}", form.MANIFEST)
    try:
        key = base64.b64decode(str(head["public_key"]), validate=True)
        at = str(head["at"])
        return str(head["tenant"]), at, int(datetime.fromisoformat(at).timestamp()), key
    except (KeyError, ValueError, OverflowError, binascii.Error):
        raise Broken(
            "the manifest's first line says neither whose the export is nor since when", form.MANIFEST
        ) from None


def signed_note(file: BinaryIO, outline: Outline) -> Checkpoint:
    if outline.signature.size > SIGNATURE_BYTES_MAX:
        raise Broken(f"{form.SIGNATURE} is no signature: it is too long", form.SIGNATURE)
    note = b"".join(blocks(file, outline.signature)).decode("utf-8", "replace")
    origin = form.origin_of(outline.tenant)
    try:
        found = verified(note, origin=origin, name=AuditSigner.name, public_key=outline.public_key)
    except Invalid as flaw:
        raise Broken(f"{form.SIGNATURE} cannot be trusted: {flaw}", form.SIGNATURE) from flaw
    if note != only_form(found, note):
        raise Broken(f"{form.SIGNATURE} cannot be trusted: it holds more than the signature", form.SIGNATURE)
    return found


def only_form(signed: Checkpoint, note: str) -> str:
    """The note with its last word as its one signature; a note in general may carry others beside it."""
    return f"{signed.body}\n{MARK}{AuditSigner.name} {note.split()[-1]}\n"


def check_manifest(file: BinaryIO, outline: Outline, note: Checkpoint) -> None:
    digest, lines = hashlib.sha256(), 0
    for piece in blocks(file, outline.manifest):
        digest.update(piece)
        lines += piece.count(b"\n")
    if digest.digest() != note.root or lines != note.size:
        raise Broken(f"{form.MANIFEST} was altered: it is not what was signed", form.MANIFEST)


def entries(file: BinaryIO, outline: Outline) -> Iterator[Line]:
    """The manifest's lines that stand for an entry, in their order."""
    for line in form.lines_of(opened(file, outline.manifest)):
        if line.get("kind") in form.ENTRY_KINDS:
            if not (isinstance(line.get("path"), str) and isinstance(line.get("sha256"), str)):
                raise Broken("the manifest has a line without a path or a SHA-256", form.MANIFEST)
            yield line


def follow(file: BinaryIO, outline: Outline) -> Counter[str]:
    """Compare the entries with the manifest, one by one. Returns how many there are. Raises `Broken` at the first."""
    counts = Counter(dict.fromkeys(("entries", "tables", "rows", "objects", "gone", "bytes"), 0))
    expected = entries(file, outline)
    for member in members(file):
        if member.start == outline.manifest.start:
            break
        line = next(expected, None)
        if line is None or line["path"] != member.path:
            raise displaced(file, outline, line, member)
        check_entry(file, outline, member, line)
        counts.update(entries=1, bytes=member.size, rows=int(line.get("rows", 0)))
        counts.update(tables=line["kind"] == "table", objects=line["kind"] == "object")
    if left := next(expected, None):
        raise Broken(f"{left['path']} is missing", left["path"])
    counts["gone"] = sum(line.get("kind") == "gone" for line in form.lines_of(opened(file, outline.manifest)))
    return counts


def displaced(file: BinaryIO, outline: Outline, line: Line | None, member: Member) -> Broken:
    """Why another entry stands where the manifest has one."""
    if line is None or all(one["path"] != member.path for one in entries(file, outline)):
        return Broken(f"{member.path} was inserted: the manifest has no such entry there", member.path)
    if all(one.path != line["path"] for one in members(file)):
        return Broken(f"{line['path']} is missing: {member.path} stands in its place", line["path"])
    return Broken(f"{line['path']} was moved: {member.path} stands in its place", line["path"])


def check_entry(file: BinaryIO, outline: Outline, member: Member, line: Line) -> None:
    digest, lines = hashlib.sha256(), 0
    for piece in blocks(file, member):
        digest.update(piece)
        lines += piece.count(b"\n")
    if member.size != line.get("bytes") or digest.hexdigest() != line["sha256"]:
        raise Broken(f"{member.path} was altered: its bytes are not those that were signed for", member.path)
    if member.modified != outline.modified:
        raise Broken(f"{member.path} was altered: it has another time than the export", member.path)
    if line["kind"] == "table" and lines != line.get("rows"):
        raise Broken(f"{member.path} has {lines} rows, and {line.get('rows')} were signed for", member.path)


def audit_records(file: BinaryIO, outline: Outline) -> int:
    """Verify the log in the export as `dcoder audit verify` does. Returns its number of records."""
    for member in members(file):
        if member.path == form.AUDIT:
            verdict = verify_opened(partial(opened, file, member), public_key=outline.public_key)
            if not verdict.ok:
                raise Broken(f"{form.AUDIT} is what was exported, but no whole log: {verdict.message}", form.AUDIT)
            return verdict.records
    raise Broken(f"{form.AUDIT} is missing", form.AUDIT)
