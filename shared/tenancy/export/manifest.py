"""The manifest: JSON Lines that name every entry in its order, and the signed note that covers them.

The first line describes the export, the last one counts it; between them stand the entries (`kind` `head`, `table`,
`audit`, `object`) and the objects that were deleted while it was made (`gone`). The signature is a note of the form of
an audit checkpoint, by the same key: origin `dcoder/export/<tenant>`, the number of lines, the SHA-256 of the manifest.
"""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Iterator, Mapping
from types import TracebackType
from typing import IO, Any, BinaryIO

from shared.audit.checkpoint import AuditSigner, Checkpoint
from shared.tenancy.export.archive import FLUSH_BYTES, Broken, Write

FORMAT = 1
HEAD, MANIFEST, SIGNATURE, AUDIT = "export.json", "manifest.jsonl", "manifest.sig", "audit.jsonl"
ENTRY_KINDS = frozenset({"head", "table", "audit", "object"})
LINE_BYTES_MAX = 1024 * 1024
MEMORY_BYTES_MAX = 1024 * 1024

Line = Mapping[str, Any]  # Any: JSON


def origin_of(tenant: str) -> str:
    return f"dcoder/export/{tenant}"


def encoded(line: Line) -> bytes:
    return json.dumps(line, ensure_ascii=False).encode("utf-8", "surrogatepass") + b"\n"


class Manifest:
    """Collects the lines; beyond a megabyte they wait in a nameless file."""

    def __init__(self) -> None:
        self.lines = 0
        self.size = 0
        self._digest = hashlib.sha256()
        self._spool: IO[bytes] = tempfile.SpooledTemporaryFile(max_size=MEMORY_BYTES_MAX)  # noqa: SIM115  closed in exit

    def __enter__(self) -> Manifest:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._spool.close()

    def add(self, line: Line) -> None:
        data = encoded(line)
        self.lines += 1
        self.size += len(data)
        self._digest.update(data)
        self._spool.write(data)

    async def feed(self, write: Write) -> None:
        self._spool.seek(0)
        while block := self._spool.read(FLUSH_BYTES):
            await write(block)

    def signed(self, tenant: str, signer: AuditSigner) -> bytes:
        return signer.sign(Checkpoint(origin_of(tenant), self.lines, self._digest.digest())).encode()


def lines_of(file: BinaryIO) -> Iterator[dict[str, Any]]:
    """The manifest's lines. Raises `Broken`."""
    for number, line in enumerate(iter(lambda: file.readline(LINE_BYTES_MAX), b""), 1):
        try:
            value = json.loads(line) if line.endswith(b"\n") else None
        except (ValueError, RecursionError):
            value = None
        if not isinstance(value, dict):
            raise Broken(f"line {number} of {MANIFEST} is not a whole JSON object", MANIFEST)
        yield value
