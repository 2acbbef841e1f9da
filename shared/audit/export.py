"""How a log looks outside its database: JSON Lines of a header, the records in order, the checkpoints."""

from __future__ import annotations

import base64
import json

from shared.audit.checkpoint import AuditSigner, origin_of

TEXT = "translate(encode({}, 'base64'), E'\\n', '')"
PARTS = ", ".join(f"'{name}', {TEXT.format(name)}" for name in ("previous", "record", "leaf"))
RECORD_LINE = f"json_build_object('kind', 'record', 'seq', seq, {PARTS})::text"
"""A row of `audit_log` as its line, without the line's end."""
CHECKPOINT_LINE = "json_build_object('kind', 'checkpoint', 'note', note)::text"
"""A row of `audit_checkpoints` as its line."""


def header_line(tenant: str, signer: AuditSigner) -> bytes:
    key = base64.b64encode(signer.public_key).decode()
    header = {"kind": "header", "version": 1, "tenant": tenant, "origin": origin_of(tenant), "public_key": key}
    return json.dumps(header, ensure_ascii=False).encode() + b"\n"
