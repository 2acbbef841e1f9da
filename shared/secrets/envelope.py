"""Envelope encryption: root key → data key per tenant → key per record.

A record's key is HKDF-SHA-256(data key, random 256-bit salt), so random nonces never run out (NIST SP 800-38D §8.3
limits them to 2^32 under one key). The associated data binds tenant, purpose and version, each with its length in
front, so that no ciphertext can be moved to another place.

Layout: magic `DC`, version 1, salt (32), key commitment (32), nonce (12), AES-256-GCM ciphertext with its tag.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from dataclasses import dataclass, field

from shared.errors import Fault
from shared.ids import TenantId

MAGIC = b"DC\x01"
SALT_BYTES, COMMITMENT_BYTES, NONCE_BYTES = 32, 32, 12
HEADER_BYTES = len(MAGIC) + SALT_BYTES + COMMITMENT_BYTES + NONCE_BYTES


@dataclass(frozen=True)
class DataKey:
    """A tenant's 256-bit data key, unwrapped."""

    tenant: TenantId
    key: bytes = field(repr=False)


class TenantSecrets:
    """Seals and opens one tenant's secrets. `purpose` names the place: `provider:openai`, `role-password`."""

    def __init__(self, data_key: DataKey) -> None:
        self.tenant = data_key.tenant
        self._key = data_key

    async def seal(self, purpose: str, plaintext: bytes) -> bytes:
        return seal(self._key, purpose, plaintext)

    async def open(self, purpose: str, sealed: bytes) -> bytes:
        """The plaintext. Raises `Fault` when the bytes were altered, or sealed for another tenant or purpose."""
        return unseal(self._key, purpose, sealed)

    def fingerprint(self, purpose: str, content: bytes) -> str:
        """Tells whether two contents are the same, and nothing else to whoever lacks the data key: 128 bits, hex."""
        place = b"dcoder fingerprint" + associated(self.tenant, purpose)
        key = hmac.digest(self._key.key, place, "sha256")
        return hmac.new(key, content, hashlib.sha256).hexdigest()[:32]


def new_data_key(tenant: TenantId) -> DataKey:
    return DataKey(tenant, secrets.token_bytes(32))


def wrap(root: bytes, data_key: DataKey) -> bytes:
    """The data key under the root key, for the control database."""
    return seal(DataKey(data_key.tenant, root), "data-key", data_key.key)


def unwrap(root: bytes, tenant: TenantId, wrapped: bytes) -> DataKey:
    return DataKey(tenant, unseal(DataKey(tenant, root), "data-key", wrapped))


def seal(data_key: DataKey, purpose: str, plaintext: bytes) -> bytes:
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    salt, nonce = secrets.token_bytes(SALT_BYTES), secrets.token_bytes(NONCE_BYTES)
    key, commitment = derived(data_key.key, salt)
    sealed = AESGCM(key).encrypt(nonce, plaintext, associated(data_key.tenant, purpose))
    return MAGIC + salt + commitment + nonce + sealed


def unseal(data_key: DataKey, purpose: str, sealed: bytes) -> bytes:
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    if len(sealed) < HEADER_BYTES or not sealed.startswith(MAGIC):
        raise Fault(f"a secret of {data_key.tenant!r} for {purpose!r} is not in a form this version writes")
    rest = sealed[len(MAGIC) :]
    salt, rest = rest[:SALT_BYTES], rest[SALT_BYTES:]
    kept, rest = rest[:COMMITMENT_BYTES], rest[COMMITMENT_BYTES:]
    nonce, ciphertext = rest[:NONCE_BYTES], rest[NONCE_BYTES:]
    key, commitment = derived(data_key.key, salt)
    if not hmac.compare_digest(kept, commitment):
        raise Fault(f"a secret of {data_key.tenant!r} for {purpose!r} was sealed with another key")
    try:
        return AESGCM(key).decrypt(nonce, ciphertext, associated(data_key.tenant, purpose))
    except InvalidTag:
        raise Fault(f"a secret of {data_key.tenant!r} for {purpose!r} was altered or moved") from None


def derived(key: bytes, salt: bytes) -> tuple[bytes, bytes]:
    """HKDF-SHA-256 (RFC 5869): the record's key, and a commitment to it that is checked before decryption."""
    extracted = hmac.digest(salt, key, "sha256")
    first = hmac.digest(extracted, b"dcoder record key\x01", "sha256")
    second = hmac.digest(extracted, first + b"dcoder record key\x02", "sha256")
    return first, second


def associated(tenant: TenantId, purpose: str) -> bytes:
    parts = (str(tenant).encode(), purpose.encode(), b"1")
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
