"""`Idempotency-Key`: the same changing call sent twice has one effect and one answer.

The key's row is claimed in the transaction that carries the effect, so a process killed anywhere leaves both or
neither, and a second call in flight waits for the first one's commit.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Conflict, Invalid, Malformed

if TYPE_CHECKING:
    from starlette.types import Message

    from shared.postgres import ControlTransaction, TenantTransaction

KEY = re.compile(r"[\x21-\x7e]{1,255}")
KEPT_HEADERS = frozenset({b"content-type", b"location", b"etag"})


@dataclass(frozen=True)
class Claim:
    """One use of an idempotency key: who, which operation, and a digest of what was asked."""

    tenant: str
    operation: str
    key: str
    fingerprint: bytes


def claim(*, tenant: str, operation: str, key: str, target: str, body: bytes) -> Claim:
    """Check the key and digest the request; `body` is the body's own digest. Raises `Malformed`."""
    if not KEY.fullmatch(key):
        raise Malformed("Idempotency-Key must be 1 to 255 visible ASCII characters")
    digest = hashlib.sha256(target.encode() + b"\0" + body).digest()
    return Claim(tenant, operation, key, digest)


async def take(transaction: TenantTransaction | ControlTransaction, use: Claim) -> list[Message] | None:
    """Claim the key, or return the answer of the call that had it. Raises `Invalid` when that was another request."""
    taken = await transaction.fetchval(
        "INSERT INTO idempotency_keys (tenant, operation, key, fingerprint) VALUES ($1, $2, $3, $4)"
        " ON CONFLICT DO NOTHING RETURNING true",
        use.tenant,
        use.operation,
        use.key,
        use.fingerprint,
    )
    if taken:
        return None
    row = await transaction.fetchrow(
        "SELECT fingerprint, status, headers, body FROM idempotency_keys"
        " WHERE tenant = $1 AND operation = $2 AND key = $3",
        use.tenant,
        use.operation,
        use.key,
    )
    if row is None or bytes(row["fingerprint"]) != use.fingerprint:
        raise Invalid(f"Idempotency-Key {use.key!r} was used for a different request; send a new key")
    if row["body"] is None:
        raise Conflict("this request was already done; its answer held a secret and is shown once only")
    headers = [(name.encode("latin-1"), value.encode("latin-1")) for name, value in row["headers"]]
    return [
        {
            "type": "http.response.start",
            "status": row["status"],
            "headers": [*headers, (b"idempotent-replay", b"true")],
        },
        {"type": "http.response.body", "body": bytes(row["body"])},
    ]


async def keep(
    transaction: TenantTransaction | ControlTransaction, use: Claim, answer: list[Message], *, shown_once: bool
) -> None:
    """Store the answer beside its key, in the same transaction as the effect."""
    start = answer[0]
    headers = [
        [name.decode("latin-1"), value.decode("latin-1")]
        for name, value in start["headers"]
        if name.lower() in KEPT_HEADERS
    ]
    body = None if shown_once else b"".join(message.get("body", b"") for message in answer[1:])
    await transaction.execute(
        "UPDATE idempotency_keys SET status = $4, headers = $5, body = $6"
        " WHERE tenant = $1 AND operation = $2 AND key = $3",
        use.tenant,
        use.operation,
        use.key,
        start["status"],
        headers,
        body,
    )
