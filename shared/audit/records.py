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
    request_id: str = "",
) -> bytes:
    """The record's bytes, at most `RECORD_BYTES_MAX`.

    Raises `Fault` for what JSON cannot carry exactly: integers and floats beyond ±(2^53-1), NaN, infinities, lone
    surrogates, keys that are no strings, and types JSON does not have. Write those as strings. U+0000 and texts in
    any Unicode normalisation are kept as they are: the bytes are stored as `bytea`.
    """
    import rfc8785

    if at.tzinfo is None:
        raise Fault(f"the audit record of {action!r} has a time without a zone")
    record = {
        "v": 1,
        "id": str(record_id),
        "tenant": tenant,
        "action": action,
        "resource": resource,
        "actor": actor,
        "outcome": outcome,
        "at": at.astimezone(UTC).isoformat(timespec="microseconds"),
        "details": dict(details),
        **({"request_id": request_id} if request_id else {}),
    }
    if flaw := first_flaw(record):
        raise Fault(f"the audit record of {action!r} cannot be kept: {flaw}")
    encoded: bytes = rfc8785.dumps(record)  # type: ignore[arg-type]  # first_flaw() leaves JSON values only
    if len(encoded) > RECORD_BYTES_MAX:
        raise Fault(f"the audit record of {action!r} has {len(encoded)} bytes; at most {RECORD_BYTES_MAX} are kept")
    return encoded


def first_flaw(value: object, path: str = "record", depth: int = 0) -> str:
    """Why a value has no canonical form, naming where it stands, or an empty text."""
    if depth > DEPTH_MAX:
        return f"{path} is nested deeper than {DEPTH_MAX} levels"
    if value is None or isinstance(value, bool):
        return ""
    if isinstance(value, int | float):
        return number_flaw(value, path)
    if isinstance(value, str):
        return text_flaw(value, path)
    if isinstance(value, Mapping):
        return next(filter(None, (member_flaw(key, item, path, depth) for key, item in value.items())), "")
    if isinstance(value, list | tuple):
        flaws = (first_flaw(item, f"{path}[{index}]", depth + 1) for index, item in enumerate(value))
        return next(filter(None, flaws), "")
    return f"{path} is a {type(value).__name__}, which JSON does not have; write it as a string"


def number_flaw(value: float, path: str) -> str:
    """rfc8785 lets a float of 2^53 pass, which an equal integer would not."""
    if math.isfinite(value) and abs(value) <= SAFE_INTEGER:
        return ""
    return f"{path} is a number that JSON cannot carry exactly; write it as a string"


def text_flaw(value: str, path: str) -> str:
    if any("\ud800" <= character <= "\udfff" for character in value):
        return f"{path} has a lone surrogate"
    return ""


def member_flaw(key: object, item: object, path: str, depth: int) -> str:
    if not isinstance(key, str):
        return f"{path} has a key that is no string"
    return text_flaw(key, f"a key of {path}") or first_flaw(item, f"{path}.{key}", depth + 1)
