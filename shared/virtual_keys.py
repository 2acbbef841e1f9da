"""Virtual keys: what a person or program shows to prove which tenant it belongs to and what it may do.

Form: `dck_<12 characters id>_<40 characters secret><8 characters checksum>`. The checksum is looked at before any
database call, so garbage costs nothing. Stored is only HMAC-SHA-256(pepper, secret).
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import re
import secrets
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from time import monotonic
from typing import Any

from shared.identity import Caller
from shared.ids import KeyId, TenantId
from shared.postgres import ControlDatabase
from shared.remembering import Remembered
from shared.telemetry import log

PREFIX = "dck"
ALPHABET = "abcdefghijklmnopqrstuvwxyz234567"
FORM = re.compile(r"dck_([a-z2-7]{12})_([a-z2-7]{40})([0-9a-f]{8})")
KEY_ID = re.compile(r"[a-z2-7]{12}")
FRESH_S = 0.8  # a revoked key works for at most this long in a process that saw it before
CACHE_MAX = 10_000
USED_EVERY_S = 30.0
NOTED_AFTER_S = 0.2

FIND = """
SELECT k.hash, k.tenant, k.role, k.permissions, k.models, k.tags,
       k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > now())
       AND (k.tenant = 'platform' OR t.state IN ('ready', 'moving')) AS valid
  FROM virtual_keys k LEFT JOIN tenants t ON t.id = k.tenant
 WHERE k.id = $1
"""


@dataclass(frozen=True)
class NewKey:
    """A key just made. `text` is shown once and kept nowhere."""

    id: KeyId
    text: str = field(repr=False)
    hash: bytes = field(repr=False)


def new_key(pepper: bytes) -> NewKey:
    """A key of 200 random bits."""
    key_id = "".join(secrets.choice(ALPHABET) for _ in range(12))
    secret = "".join(secrets.choice(ALPHABET) for _ in range(40))
    return NewKey(KeyId(key_id), f"{PREFIX}_{key_id}_{secret}{checksum(key_id, secret)}", keyed_hash(pepper, secret))


def parse(text: str) -> tuple[KeyId, str] | None:
    """The key's id and secret, or None when the text cannot be a key of ours."""
    match = FORM.fullmatch(text)
    if match is None or match[3] != checksum(match[1], match[2]):
        return None
    return KeyId(match[1]), match[2]


def checksum(key_id: str, secret: str) -> str:
    return f"{zlib.crc32(f'{key_id}_{secret}'.encode()):08x}"


def keyed_hash(pepper: bytes, secret: str) -> bytes:
    return hmac.new(pepper, secret.encode(), hashlib.sha256).digest()


class VirtualKeys:
    """Verifies keys, remembering each verdict for less than a second."""

    def __init__(self, control: ControlDatabase, pepper: bytes) -> None:
        self._control = control
        self._pepper = pepper
        self._seen = Remembered[bytes, Caller | None](fresh_s=FRESH_S, kept_max=CACHE_MAX)
        self._used: dict[KeyId, float] = {}
        self._to_note: set[KeyId] = set()
        self._noting: asyncio.Task[None] | None = None

    async def caller(self, text: str) -> Caller | None:
        """Whose key this is, or None when it is unknown, expired, revoked, or its tenant is not ready."""
        parsed = parse(text)
        if parsed is None:
            return None
        return await self._seen.get(hashlib.sha256(text.encode()).digest(), lambda: self._look_up(*parsed))

    async def _look_up(self, key_id: KeyId, secret: str) -> Caller | None:
        row = await self._control.fetchrow(FIND, key_id)
        if (
            row is None
            or not hmac.compare_digest(bytes(row["hash"]), keyed_hash(self._pepper, secret))
            or not row["valid"]
        ):
            return None
        self._note_use(key_id)
        return caller_of(key_id, dict(row))

    def _note_use(self, key_id: KeyId) -> None:
        """Write the last-used time soon, for many keys at once, each at most twice a minute."""
        if monotonic() - self._used.get(key_id, -USED_EVERY_S) < USED_EVERY_S:
            return
        if len(self._used) > CACHE_MAX:
            self._used.clear()
        self._used[key_id] = monotonic()
        self._to_note.add(key_id)
        if self._noting is None or self._noting.done():
            self._noting = asyncio.create_task(self._write_uses(), name="key-last-used")

    async def _write_uses(self) -> None:
        while self._to_note:
            await asyncio.sleep(NOTED_AFTER_S)
            used, self._to_note = list(self._to_note), set()
            try:
                await self._control.execute("UPDATE virtual_keys SET last_used_at = now() WHERE id = ANY($1)", used)
            except Exception as failure:  # noqa: BLE001  a time that is not noted harms nobody
                log("key_use_not_noted", error=repr(failure))

    async def close(self) -> None:
        if self._noting is not None:
            await asyncio.wait([self._noting], timeout=2)


def caller_of(key_id: KeyId, row: Mapping[str, Any]) -> Caller:  # Any: a database row
    return Caller(
        tenant=TenantId(row["tenant"]),
        subject=f"key:{key_id}",
        role=row["role"],
        kind="key",
        permissions=None if row["permissions"] is None else frozenset(row["permissions"]),
        models=None if row["models"] is None else frozenset(row["models"]),
        key_id=key_id,
        tags=frozenset(row["tags"]),
    )


async def insert_key(
    transaction: Any,  # Any: a ControlTransaction or, at bootstrap, a plain connection
    key: NewKey,
    *,
    tenant: TenantId,
    name: str,
    role: str,
    created_by: str,
    permissions: list[str] | None = None,
    models: list[str] | None = None,
    expires_at: datetime | None = None,
    tags: Sequence[str] = (),
) -> None:
    """Store a key's hash and what it may do."""
    await transaction.execute(
        "INSERT INTO virtual_keys (id, tenant, name, hash, role, permissions, models, created_by, expires_at, tags)"
        " VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10)",
        key.id, tenant, name, key.hash, role, permissions, models, created_by, expires_at, list(tags),
    )  # fmt: skip
