"""Signed checkpoints in the form of C2SP tlog-checkpoint: a tree's size and root as an Ed25519 signed note.

Lines: origin, size in decimal, root in base64, an empty line, then `— <name> base64(4-byte key id ‖ signature)`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from shared.errors import Invalid

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

ED25519_KIND = b"\x01"
SIZE = re.compile(r"0|[1-9][0-9]{0,17}")
UNUSABLE = re.compile("[\x00-\x09\x0b-\x1f\x7f\ud800-\udfff]")
MARK = "— "
HASH_BYTES = 32


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
        return f"{checkpoint.body}\n{MARK}{self.name} {blob}\n"


def verified(note: str, *, origin: str, name: str, public_key: bytes) -> Checkpoint:
    """The checkpoint of a note that carries a good signature of that key. Raises `Invalid` with the flaw.

    Signatures of other keys are passed over. One of this key that does not fit rejects the whole note, whatever else
    it carries.
    """
    body, separator, signatures = note.rpartition("\n\n")
    if not separator or not note.endswith("\n") or UNUSABLE.search(note):
        raise Invalid("it is not a signed note")
    ours = [signature for signature in map(own_signature(name, public_key), signatures.splitlines()) if signature]
    if not ours:
        raise Invalid("it carries no signature of the expected key")
    if not all(fits(public_key, signature, f"{body}\n".encode()) for signature in ours):
        raise Invalid("its signature does not fit its text")
    return parsed(body, origin)


def own_signature(name: str, public_key: bytes) -> Callable[[str], bytes]:
    """A reader of signature lines: the signature when the line is of that key, else nothing."""
    wanted = key_id(name, public_key)

    def read(line: str) -> bytes:
        signer, _, blob = line.removeprefix(MARK).partition(" ")
        decoded = from_base64(blob)
        ours = line.startswith(MARK) and signer == name and decoded[:4] == wanted
        return decoded[4:] if ours else b""

    return read


def fits(public_key: bytes, signature: bytes, signed: bytes) -> bool:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public_key).verify(signature, signed)
    except (InvalidSignature, ValueError):  # ValueError: not the bytes of a key
        return False
    return True


def parsed(body: str, origin: str) -> Checkpoint:
    """The checkpoint in a note's text; extension lines are passed over. Raises `Invalid`."""
    lines = body.split("\n")
    if lines[0] != origin:
        raise Invalid(f"it is of the log {lines[0][:80]!r}, not of {origin!r}")
    if len(lines) < 3 or not SIZE.fullmatch(lines[1]) or len(from_base64(lines[2])) != HASH_BYTES:
        raise Invalid("it does not state a size and a root")
    return Checkpoint(lines[0], int(lines[1]), from_base64(lines[2]))


def from_base64(text: str) -> bytes:
    """The bytes, or none where the text is not the one base64 form of them."""
    try:
        decoded = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""
    return decoded if base64.b64encode(decoded).decode() == text else b""
