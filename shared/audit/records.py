"""An audit record as canonical bytes (RFC 8785). Everything later is computed over these bytes, never over a parse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import UTC, datetime
from uuid import UUID

from shared.errors import Fault

RECORD_BYTES_MAX = 60 * 1024
DEPTH_MAX = 8
SAFE_INTEGER = 2**53 - 1


def canonical(
    *,
    record_id: UUID,
    tenant: str,
    action: str,
    resource: str,
    actor: str,
    outcome: str,
    at: datetime,
    details: Mapping[str, object],
) -> bytes:
    """The record's bytes. Numbers that JSON cannot carry exactly become strings. Raises `Fault` when too large."""
    import rfc8785

    record = {
        "v": 1,
        "id": str(record_id),
        "tenant": tenant,
        "action": action,
        "resource": resource,
        "actor": actor,
        "outcome": outcome,
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "details": plain(dict(details)),
    }
    encoded: bytes = rfc8785.dumps(plain(record))  # type: ignore[arg-type]  # plain() yields JSON values only
    if len(encoded) > RECORD_BYTES_MAX:
        raise Fault(f"the audit record of {action!r} has {len(encoded)} bytes; at most {RECORD_BYTES_MAX} are kept")
    return encoded


def plain(value: object, depth: int = 0) -> object:
    """JSON values that canonicalise to one form: big or odd numbers, times and ids as text, lone surrogates escaped."""
    if depth > DEPTH_MAX:
        return "…"
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, int):
        return value if abs(value) <= SAFE_INTEGER else str(value)
    if isinstance(value, float):
        return value if math.isfinite(value) and abs(value) <= SAFE_INTEGER and value != 0 else repr(value)
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, Mapping):
        return {str(plain(str(key))): plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        items = sorted(value) if isinstance(value, set | frozenset) else value
        return [plain(item, depth + 1) for item in items]
    return plain(str(value), depth)
