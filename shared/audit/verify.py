"""Offline verification of an audit export: no server, no database, no clock.

An export is JSON Lines: a header, the records in order, the checkpoints. What is checked: the signature of every
checkpoint, each record's number, link and bytes, the tree's root at every checkpoint, those that the verifier kept
from earlier among them, and that a checkpoint covers the last record. The verdict names the first record that does
not fit. The file is read twice, so its size does not matter.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from io import BufferedReader
from pathlib import Path
from typing import Any

from shared.audit import merkle
from shared.audit.chain import GENESIS, entry, link_hash
from shared.audit.checkpoint import AuditSigner, Checkpoint, origin_of, verified
from shared.errors import Invalid

LINE_BYTES_MAX = 256 * 1024
Opened = Callable[[], BufferedReader]


@dataclass(frozen=True)
class Verdict:
    """What was found. `first_bad` is the number of the first record that does not fit, or None."""

    ok: bool
    records: int
    message: str
    first_bad: int | None = None
    checkpoints: int = 0


class Broken(Exception):
    """The export does not fit together, from record `seq` on where that can be told."""

    def __init__(self, message: str, seq: int | None = None) -> None:
        super().__init__(message)
        self.seq = seq


@dataclass
class Outline:
    """What an export has besides its records."""

    tenant: str = ""
    public_key: bytes = b""
    records: int = 0
    notes: list[str] = field(default_factory=list)


@dataclass
class Walk:
    """How far the records were followed."""

    tenant: str
    size: int = 0
    link: bytes = GENESIS
    frontier: list[bytes] = field(default_factory=list)
    seen: set[str] = field(default_factory=set)


def verify_export(path: Path, *, public_key: bytes | None = None, trusted_checkpoints: Sequence[str] = ()) -> Verdict:
    """Verify the export in a file. What is wrong with it is told in the verdict, never raised.

    `public_key`: the key to trust; without it the one in the export is used, which proves that the export is whole,
    not who made it. `trusted_checkpoints`: notes kept from earlier; the log must still contain each of them.
    """
    try:
        return verify_opened(lambda: path.open("rb"), public_key=public_key, trusted_checkpoints=trusted_checkpoints)
    except OSError as failure:
        return Verdict(False, 0, f"cannot read {path}: {failure.strerror}")


def verify_opened(
    source: Opened, *, public_key: bytes | None = None, trusted_checkpoints: Sequence[str] = ()
) -> Verdict:
    """The same for an export that is no file of its own: `source` opens it, twice. Raises `OSError`."""
    outline = Outline()
    try:
        read_outline(source, outline)
        if public_key is not None and outline.public_key != public_key:
            raise Broken("the export names another public key than the one you trust")
        checkpoints = signed(outline, trusted_checkpoints, public_key or outline.public_key)
        follow(source, outline, checkpoints)
    except Broken as flaw:
        return Verdict(False, outline.records, str(flaw), flaw.seq, len(outline.notes))
    message = (
        f"{outline.records} records of {outline.tenant!r} verified against {len(checkpoints)} signed checkpoints,"
        f" {len(trusted_checkpoints)} of them kept from earlier"
    )
    return Verdict(True, outline.records, message, None, len(outline.notes))


def read_outline(source: Opened, outline: Outline) -> None:
    """Fill in the outline. Raises `Broken`."""
    for number, value in enumerate(lines_of(source), 1):
        match value.get("kind"):
            case "header" if number == 1:
                outline.tenant = str(value.get("tenant", ""))
                outline.public_key = decoded(value, "public_key", "the header")
            case "record" if outline.tenant:
                outline.records += 1
            case "checkpoint" if outline.tenant:
                outline.notes.append(str(value.get("note")))
            case _:
                raise Broken(f"line {number} of the export is not the header, record or checkpoint that belongs there")
    if not outline.tenant:
        raise Broken("the export has no header line")


def signed(outline: Outline, trusted: Sequence[str], public_key: bytes) -> list[Checkpoint]:
    """The checkpoints by size, each with a good signature and none in conflict with another of its size."""
    named = [(f"checkpoint {number} of the export", note) for number, note in enumerate(outline.notes, 1)]
    named += [(f"checkpoint {number} of those kept from earlier", note) for number, note in enumerate(trusted, 1)]
    found: dict[int, Checkpoint] = {}
    for name, note in named:
        try:
            one = verified(note, origin=origin_of(outline.tenant), name=AuditSigner.name, public_key=public_key)
        except Invalid as flaw:
            raise Broken(f"{name} cannot be trusted: {flaw}") from flaw
        if found.setdefault(one.size, one).root != one.root:
            raise Broken(f"two signed checkpoints of size {one.size} differ: the log was forked", max(one.size - 1, 0))
    return sorted(found.values(), key=lambda one: one.size)


def follow(source: Opened, outline: Outline, checkpoints: Sequence[Checkpoint]) -> None:
    """Follow the chain and the tree. Raises `Broken` at the first record that does not fit."""
    due, walk, good = list(checkpoints), Walk(outline.tenant), 0
    while due and due[0].size == 0:
        check_root(due.pop(0), walk, good)
    for row in (value for value in lines_of(source) if value.get("kind") == "record"):
        step(walk, row)
        if due and due[0].size == walk.size:
            check_root(due[0], walk, good)
            good = due.pop(0).size
    if due:
        raise Broken(
            f"record {walk.size} is missing: the log ends there, but {due[-1].size} were signed for", walk.size
        )
    if good < walk.size:
        raise Broken(f"the records from {good} on are covered by no signed checkpoint", good)


def check_root(checkpoint: Checkpoint, walk: Walk, good: int) -> None:
    if merkle.root_of(walk.frontier) != checkpoint.root:
        raise Broken(
            f"the first {walk.size} records do not give the root that was signed for them: record {good} or one after"
            " it was changed, and the chain computed again",
            good,
        )


def step(walk: Walk, row: Mapping[str, Any]) -> None:
    """Check one record and go behind it."""
    expected = walk.size
    name = f"record {expected}"
    record, previous, leaf = (decoded(row, part, name, expected) for part in ("record", "previous", "leaf"))
    check_content(content_of(record, expected), walk)
    check_number(row.get("seq"), expected)
    sealed = entry(previous, expected, record)
    if merkle.leaf_hash(sealed) != leaf:
        raise Broken(f"{name} was altered: its bytes do not give the hash it was sealed with", expected)
    if previous != walk.link:
        raise Broken(*unlinked(expected))
    walk.link = link_hash(previous, expected, record)
    walk.frontier = merkle.append(walk.frontier, expected, leaf)
    walk.size += 1


def unlinked(expected: int) -> tuple[str, int]:
    if expected == 0:
        return "record 0 was altered: it does not begin the chain", 0
    return f"record {expected - 1} was altered: record {expected} was chained to other bytes", expected - 1


def check_content(content: Mapping[str, Any], walk: Walk) -> None:
    """Whose record it is, and that it is there once."""
    if content.get("tenant") != walk.tenant:
        raise Broken(f"record {walk.size} belongs to {content.get('tenant')!r}, not to {walk.tenant!r}", walk.size)
    record_id = str(content.get("id"))
    if record_id in walk.seen:
        raise Broken(f"record {walk.size} was there before: its id {record_id!r} appears a second time", walk.size)
    walk.seen.add(record_id)


def check_number(seq: object, expected: int) -> None:
    if seq == expected and type(seq) is int:
        return
    if isinstance(seq, int) and seq > expected:
        raise Broken(f"record {expected} is missing: record {seq} stands in its place", expected)
    if seq == expected - 1:
        raise Broken(f"there are two records {seq}: one of them was inserted", expected - 1)
    raise Broken(f"record {expected} is missing: in its place stands one with the number {seq!r}", expected)


def decoded(row: Mapping[str, Any], part: str, name: str, seq: int | None = None) -> bytes:
    try:
        return base64.b64decode(str(row[part]), validate=True)
    except (KeyError, binascii.Error, ValueError):
        raise Broken(f"{name} has no usable {part!r}", seq) from None


def content_of(record: bytes, expected: int) -> dict[str, Any]:
    """The record's content, when its bytes are the canonical ones. Twins of the same meaning are refused."""
    import rfc8785

    try:
        content = json.loads(record, object_pairs_hook=without_twins)
        same = isinstance(content, dict) and rfc8785.dumps(content) == record
    except (ValueError, RecursionError, rfc8785.CanonicalizationError):
        same = False
    if not same:
        raise Broken(f"record {expected} is not canonical: it was not written by the platform", expected)
    return content  # type: ignore[no-any-return]  # checked above


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def lines_of(source: Opened) -> Iterator[dict[str, Any]]:
    """The export's lines as objects. Raises `Broken`, also for a key that occurs twice."""
    with source() as file:
        for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), 1):
            try:
                value = json.loads(line, object_pairs_hook=without_twins) if line.endswith(b"\n") else None
            except (ValueError, RecursionError):
                value = None
            if not isinstance(value, dict):
                raise Broken(f"line {number} of the export is not a whole JSON object: it was cut or damaged")
            yield value
