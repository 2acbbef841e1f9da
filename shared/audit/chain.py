"""The chain of a log: each record is tied to the one before, to its own number and to its own bytes. Pure."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from uuid import UUID

from shared.audit import merkle

GENESIS = bytes(32)
"""What the first record is chained to."""


@dataclass(frozen=True)
class Waiting:
    """An unsealed record."""

    id: UUID
    record: bytes


@dataclass(frozen=True)
class Head:
    """Where a log ends: its size, the hash of its last link, and the tree's right edge."""

    size: int = 0
    link: bytes = GENESIS
    frontier: list[bytes] = field(default_factory=list)

    @property
    def root(self) -> bytes:
        return merkle.root_of(self.frontier)


@dataclass(frozen=True)
class SealedRow:
    """A record with its place in the log."""

    seq: int
    id: UUID
    previous: bytes
    record: bytes
    leaf: bytes


def entry(previous: bytes, seq: int, record: bytes) -> bytes:
    """What link and leaf commit to: the previous link, the number and the record."""
    return previous + seq.to_bytes(8, "big") + record


def link_hash(previous: bytes, seq: int, record: bytes) -> bytes:
    return hashlib.sha256(entry(previous, seq, record)).digest()


def extend(head: Head, waiting: Sequence[Waiting]) -> tuple[list[SealedRow], Head]:
    """The rows that these records become, and the log's end after them."""
    rows: list[SealedRow] = []
    for one in waiting:
        leaf = merkle.leaf_hash(entry(head.link, head.size, one.record))
        rows.append(SealedRow(head.size, one.id, head.link, one.record, leaf))
        head = Head(
            head.size + 1, link_hash(head.link, head.size, one.record), merkle.append(head.frontier, head.size, leaf)
        )
    return rows, head
