"""What PostgreSQL keeps of a password, computed here so that the password itself is in no statement."""

from __future__ import annotations

import hashlib
import hmac
from base64 import b64encode

ITERATIONS = 4096  # PostgreSQL's own default, `scram_iterations`


def scram_verifier(password: str, *, salt: bytes) -> str:
    """`SCRAM-SHA-256$<iterations>:<salt>$<StoredKey>:<ServerKey>` (RFC 5802, RFC 7677) of an ASCII password."""
    salted = hashlib.pbkdf2_hmac("sha256", password.encode("ascii"), salt, ITERATIONS)
    stored = hashlib.sha256(hmac.digest(salted, b"Client Key", "sha256")).digest()
    server = hmac.digest(salted, b"Server Key", "sha256")
    return f"SCRAM-SHA-256${ITERATIONS}:{text(salt)}${text(stored)}:{text(server)}"


def text(value: bytes) -> str:
    return b64encode(value).decode()
