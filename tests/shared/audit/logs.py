"""Sealed logs and their exports, made without a database by the code that seals."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID

from shared.audit.chain import Head, Waiting, extend
from shared.audit.checkpoint import AuditSigner, Checkpoint, origin_of
from shared.audit.records import canonical
from shared.audit.verify import Verdict, verify_export

OWN = AuditSigner(bytes(range(32)))
STRANGER = AuditSigner(bytes(range(32, 64)))
Line = dict[str, Any]  # Any: JSON


def record_of(number: int, tenant: str = "acme", **details: object) -> bytes:
    return canonical(
        record_id=UUID(int=number + (0 if tenant == "acme" else 1 << 64)),
        tenant=tenant,
        action="documents.upload",
        resource=f"document/{number}",
        actor="key:one",
        outcome="done",
        at=datetime(2026, 3, 1, 12, 0, number % 60, number, tzinfo=UTC),
        details=details or {"bytes": number},
    )


@dataclass
class Log:
    """A log as an export shows it: lines that a test may damage, and the notes that were written outside."""

    tenant: str = "acme"
    signer: AuditSigner = OWN
    head: Head = field(default_factory=Head)
    records: list[Line] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def seal(self, records: Sequence[bytes]) -> None:
        """Append one batch with its checkpoint."""
        rows, self.head = extend(self.head, [Waiting(UUID(int=0), record) for record in records])
        self.records += [
            {"kind": "record", "seq": row.seq}
            | {
                name: text(value)
                for name, value in (("previous", row.previous), ("record", row.record), ("leaf", row.leaf))
            }
            for row in rows
        ]
        self.notes.append(self.signer.sign(Checkpoint(origin_of(self.tenant), self.head.size, self.head.root)))

    @property
    def bodies(self) -> list[bytes]:
        return [base64.b64decode(row["record"]) for row in self.records]

    def rechained(self, bodies: Sequence[bytes]) -> None:
        """Compute the whole chain and tree again over other bodies; the notes stay, for want of the key."""
        notes, self.notes, self.records, self.head = self.notes, [], [], Head()
        self.seal(bodies)
        self.notes = notes

    def lines(self) -> list[Line]:
        header = {"kind": "header", "version": 1, "tenant": self.tenant, "public_key": text(self.signer.public_key)}
        return [header, *self.records, *({"kind": "checkpoint", "note": note} for note in self.notes)]


def text(value: bytes) -> str:
    return base64.b64encode(value).decode()


def log_of(*batches: int, tenant: str = "acme", signer: AuditSigner = OWN) -> Log:
    """A log whose batches have these sizes."""
    log = Log(tenant, signer)
    for size in batches:
        log.seal([record_of(log.head.size + number, tenant) for number in range(size)])
    return log


def written(lines: Sequence[Line], path: Path) -> Path:
    path.write_bytes(b"".join(json.dumps(line).encode() + b"\n" for line in lines))
    return path


def judged(log: Log, path: Path, *, public_key: bytes | None = None, trusted: Sequence[str] = ()) -> Verdict:
    """The verdict over the log's export."""
    return verify_export(written(log.lines(), path), public_key=public_key, trusted_checkpoints=trusted)
