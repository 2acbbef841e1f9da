"""What the platform signs of a bundle, and the proof of it: for which tenant, which revision, exactly which files.

The signature is Ed25519 with the platform's token key. What is signed begins with `DOMAIN`, and a token with `eyJ`, so
neither can be taken for the other.
"""

from __future__ import annotations

import hashlib
import hmac
import json
from dataclasses import dataclass

from shared.bundles import archive as archives
from shared.bundles.manifest import Manifest, parsed
from shared.errors import Invalid, Unauthenticated
from shared.ids import TenantId

DOMAIN = b"dcoder bundle 1\n"


@dataclass(frozen=True)
class Sealed:
    """A bundle as it is stored and as it travels."""

    archive: bytes
    statement: bytes
    signature: bytes

    @property
    def digest(self) -> str:
        """What names exactly this bundle: SHA-256 of its statement, in hexadecimal digits."""
        return hashlib.sha256(self.statement).hexdigest()


@dataclass(frozen=True)
class Bundle:
    """A verified bundle."""

    tenant: TenantId
    revision: int
    manifest: Manifest
    files: dict[str, bytes]


def sealed(archive: bytes, manifest: Manifest, *, tenant: TenantId, revision: int, seed: bytes) -> Sealed:
    """Sign the bundle as that revision of that tenant. The archive must have been read with `unpacked` before."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    said = {
        "archive_sha256": hashlib.sha256(archive).hexdigest(),
        "manifest": manifest.model_dump(mode="json"),
        "revision": revision,
        "tenant": tenant,
    }
    statement = json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=True).encode()
    return Sealed(archive, statement, Ed25519PrivateKey.from_private_bytes(seed).sign(DOMAIN + statement))


def opened(found: Sealed, *, public: bytes, tenant: TenantId, digest: str) -> Bundle:
    """The bundle, if it is the one of that digest, of that tenant, signed by the platform, and unchanged.

    Raises `Unauthenticated` when it is not, before anything of it is read as code.
    """
    if not hmac.compare_digest(found.digest, digest):
        raise Unauthenticated("the bundle is another one than this process is to run")
    check_signature(found, public)
    said = json.loads(found.statement)
    if said["tenant"] != tenant:
        raise Unauthenticated("the bundle is another tenant's")
    if not hmac.compare_digest(hashlib.sha256(found.archive).hexdigest(), said["archive_sha256"]):
        raise Unauthenticated("the bundle's files are not those that were signed")
    return Bundle(tenant, said["revision"], manifest_in(found.statement), archives.unpacked(found.archive))


def check_signature(found: Sealed, public: bytes) -> None:
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    try:
        Ed25519PublicKey.from_public_bytes(public).verify(found.signature, DOMAIN + found.statement)
    except InvalidSignature as flaw:
        raise Unauthenticated("the bundle is not signed by this platform") from flaw


def manifest_in(statement: bytes) -> Manifest:
    """The declaration that a signed statement is about. Raises `Invalid`."""
    try:
        return parsed(json.dumps(json.loads(statement)["manifest"]))
    except (ValueError, KeyError, TypeError) as flaw:
        raise Invalid("the bundle's statement cannot be read") from flaw
