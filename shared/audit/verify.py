"""Offline verification of an audit export: no server, no database, no clock.

An export is JSON Lines: a header, the records in order, the checkpoints. What is checked, in this order: the signatures,
each record's number, link and bytes, the tree's root at every checkpoint, and every checkpoint that the verifier
kept from earlier. The verdict names the first record that does not fit.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from shared.audit import merkle
from shared.audit.checkpoint import AuditSigner, Checkpoint, origin_of, verified
from shared.audit.sealer import GENESIS, link_entry, link_hash
from shared.errors import Invalid

LINE_BYTES_MAX = 256 * 1024


@dataclass(frozen=True)
class Verdict:
    """What was found. `first_bad` is the number of the first record that does not fit, or None."""

    ok: bool
    records: int
    message: str
    first_bad: int | None = None
    checkpoints: int = 0


class Broken(Exception):
    """The export does not fit together."""

    def __init__(self, message: str, seq: int | None = None) -> None:
        super().__init__(message)
        self.seq = seq


@dataclass
class Export:
    """A parsed export."""

    tenant: str = ""
    public_key: bytes = b""
    records: list[dict[str, Any]] = field(default_factory=list)  # Any: JSON
    checkpoints: list[str] = field(default_factory=list)


def verify_export(
    path: Path, *, public_key: bytes | None = None, trusted_checkpoints: Sequence[str] = ()
) -> Verdict:
    """Verify the export in a file.

    `public_key`: the key to trust; without it the one in the export is used, which proves that the export is whole, not
    who made it. `trusted_checkpoints`: notes kept from earlier; the log must still contain each of them.
    """
    try:
        with path.open("rb") as lines:
            export = parse(lines)
    except OSError as failure:
        return Verdict(False, 0, f"cannot read {path}: {failure.strerror}")
    except Broken as flaw:
        return Verdict(False, 0, str(flaw), flaw.seq)
    return verify(export, public_key=public_key, trusted_checkpoints=trusted_checkpoints)


def verify(export: Export, *, public_key: bytes | None = None, trusted_checkpoints: Sequence[str] = ()) -> Verdict:
    """As `verify_export`, over what was parsed."""
    try:
        if public_key is not None and export.public_key != public_key:
            raise Broken("the export names another public key than the one you trust")
        checkpoints = signed(export, [*export.checkpoints, *trusted_checkpoints], public_key or export.public_key)
        walk(export, checkpoints)
    except Broken as flaw:
        return Verdict(False, len(export.records), str(flaw), flaw.seq, len(export.checkpoints))
    size = max((one.size for one in checkpoints), default=0)
    message = f"{len(export.records)} records of {export.tenant!r} verified against {len(checkpoints)} signed checkpoints"
    if size < len(export.records):
        message += f"; the last {len(export.records) - size} are chained but not yet covered by a checkpoint"
    return Verdict(True, len(export.records), message, None, len(checkpoints))


def signed(export: Export, notes: Sequence[str], public_key: bytes) -> list[Checkpoint]:
    """The checkpoints, each with a good signature and none in conflict with another of its size."""
    found: dict[int, Checkpoint] = {}
    for note in notes:
        try:
            one = verified(note, origin=origin_of(export.tenant), name=AuditSigner.name, public_key=public_key)
        except Invalid as flaw:
            raise Broken(str(flaw)) from flaw
        if found.setdefault(one.size, one).root != one.root:
            raise Broken(f"two checkpoints of size {one.size} differ: the log was forked", one.size - 1)
    return sorted(found.values(), key=lambda one: one.size)


def walk(export: Export, checkpoints: Sequence[Checkpoint]) -> None:
    """Follow the chain and the tree. Raises `Broken` at the first record that does not fit."""
    due = list(checkpoints)
    link, frontier, good = GENESIS, list[bytes](), 0
    seen: set[str] = set()
    for expected, row in enumerate(export.records):
        record = check_record(row, expected, link, export.tenant, seen)
        leaf = merkle.leaf_hash(link_entry(link, expected, record))
        frontier = merkle.append(frontier, expected, leaf)
        link = link_hash(link, expected, record)
        while due and due[0].size == expected + 1:
            if merkle.root_of(frontier) != due[0].root:
                raise Broken(
                    f"the records up to {expected} do not give the root that was signed: one of the records {good} to"
                    f" {expected} was changed and the chain computed again",
                    good,
                )
            good = due.pop(0).size
    if due and due[0].size > 0:
        have = len(export.records)
        raise Broken(f"the log ends after {have} records, but {due[0].size} were signed for: record {have} is missing", have)


def check_record(row: Mapping[str, Any], expected: int, link: bytes, tenant: str, seen: set[str]) -> bytes:
    """The record's bytes, when number, link, id and tenant fit."""
    seq = row.get("seq")
    record, previous = decoded(row, "record", expected), decoded(row, "previous", expected)
    content = content_of(record, expected)
    if content.get("tenant") != tenant:
        raise Broken(f"record {expected} belongs to {content.get('tenant')!r}, not to {tenant!r}", expected)
    if content.get("id") in seen:
        raise Broken(f"record {expected} appears a second time (id {content.get('id')})", expected)
    seen.add(str(content.get("id")))
    if seq != expected:
        what = "missing" if isinstance(seq, int) and seq > expected else "out of place"
        raise Broken(f"record {expected} is {what}: record {seq} stands there", expected)
    if previous != link:
        if expected == 0:
            raise Broken("record 0 does not begin the chain", 0)
        raise Broken(f"record {expected - 1} was altered: record {expected} was chained to other bytes", expected - 1)
    return record


def decoded(row: Mapping[str, Any], name: str, expected: int) -> bytes:
    try:
        return base64.b64decode(str(row[name]), validate=True)
    except (KeyError, binascii.Error, ValueError):
        raise Broken(f"record {expected} has no usable {name!r}", expected) from None


def content_of(record: bytes, expected: int) -> dict[str, Any]:
    """The record's content, when its bytes are the canonical ones. Twins of the same meaning are refused."""
    import rfc8785

    try:
        content = json.loads(record, object_pairs_hook=without_twins)
        same = isinstance(content, dict) and rfc8785.dumps(content) == record
    except (ValueError, rfc8785.CanonicalizationError):
        same = False
    if not same:
        raise Broken(f"record {expected} is not canonical: it was not written by the platform", expected)
    return content  # type: ignore[no-any-return]  # checked above


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    keys = [key for key, _ in pairs]
    if len(set(keys)) != len(keys):
        raise ValueError("a key occurs twice")
    return dict(pairs)


def parse(lines: Iterable[bytes]) -> Export:
    """Read an export. Raises `Broken`."""
    export = Export()
    for number, value in enumerate(objects(lines)):
        match value.get("kind"):
            case "header" if number == 0:
                export.tenant, export.public_key = str(value.get("tenant")), decoded(value, "public_key", 0)
            case "record":
                export.records.append(value)
            case "checkpoint":
                export.checkpoints.append(str(value.get("note")))
            case _:
                raise Broken(f"line {number + 1} of the export is not a header, record or checkpoint")
    if not export.tenant:
        raise Broken("the export has no header line")
    return export


def objects(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for number, line in enumerate(lines, 1):
        try:
            value = json.loads(line) if len(line) <= LINE_BYTES_MAX else None
        except ValueError:
            value = None
        if not isinstance(value, dict):
            raise Broken(f"line {number} of the export is not a JSON object")
        yield value
