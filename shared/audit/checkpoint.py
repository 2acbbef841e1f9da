"""Signed checkpoints in the form of C2SP tlog-checkpoint: a tree's size and root as an Ed25519 signed note.

Lines: origin, size in decimal, root in base64, an empty line, then `— <name> base64(4-byte key id ‖ signature)`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from shared.errors import Invalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ED25519_KIND = b"\x01"
SIZE = re.compile(r"0|[1-9][0-9]{0,18}")


@dataclass(frozen=True)
class Checkpoint:
    """What a checkpoint says: the log's origin, how many records it has, and the root over them."""

    origin: str
    size: int
    root: bytes

    @property
    def body(self) -> str:
        return f"{self.origin}\n{self.size}\n{base64.b64encode(self.root).decode()}\n"


def origin_of(tenant: str) -> str:
    return f"dcoder/audit/{tenant}"


def key_id(name: str, public_key: bytes) -> bytes:
    return hashlib.sha256(name.encode() + b"\n" + ED25519_KIND + public_key).digest()[:4]


class AuditSigner:
    """Signs checkpoints with the platform's `audit` key, a 32-byte Ed25519 seed."""

    name = "dcoder-audit"

    def __init__(self, seed: bytes) -> None:
        self._seed = seed

    @cached_property
    def _key(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._seed)

    @cached_property
    def public_key(self) -> bytes:
        return self._key.public_key().public_bytes_raw()

    def sign(self, checkpoint: Checkpoint) -> str:
        """The signed note."""
        signature = self._key.sign(checkpoint.body.encode())
        blob = base64.b64encode(key_id(self.name, self.public_key) + signature).decode()
        return f"{checkpoint.body}\n— {self.name} {blob}\n"


def verified(note: str, *, origin: str, name: str, public_key: bytes) -> Checkpoint:
    """The checkpoint of a note that carries a good signature of that key. Raises `Invalid` with the flaw."""
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    body, separator, signatures = note.partition("\n\n")
    if not separator or any(ord(character) < 32 and character != "\n" for character in note):
        raise Invalid("a checkpoint is not a signed note")
    signed = (body + "\n").encode()
    wanted = key_id(name, public_key)
    for line in signatures.splitlines():
        signer, _, blob = line.removeprefix("— ").partition(" ")
        decoded = from_base64(blob)
        if signer != name or decoded[:4] != wanted:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(public_key).verify(decoded[4:], signed)
        except InvalidSignature:
            raise Invalid("a checkpoint's signature does not fit its text") from None
        return parsed(body, origin)
    raise Invalid("a checkpoint carries no signature of the expected key")


def parsed(body: str, origin: str) -> Checkpoint:
    lines = body.split("\n")
    if len(lines) < 3 or lines[0] != origin or not SIZE.fullmatch(lines[1]):
        raise Invalid(f"a checkpoint is not one of {origin!r}")
    return Checkpoint(lines[0], int(lines[1]), from_base64(lines[2]))


def from_base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
