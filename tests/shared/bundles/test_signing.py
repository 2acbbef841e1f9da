"""A signed bundle: run only by its tenant, in exactly the revision that was meant, unchanged."""

from __future__ import annotations

import json
import os
from dataclasses import replace

import pytest

from shared.bundles.archive import packed
from shared.bundles.signing import DOMAIN, Sealed, manifest_in, opened, sealed
from shared.errors import Unauthenticated
from shared.identity import Caller, Tokens
from shared.ids import TenantId
from tests.shared.bundles.rates import files, manifest

ACME, GLOBEX = TenantId("acme"), TenantId("globex")
SEED = os.urandom(32)


def public(seed: bytes = SEED) -> bytes:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    return Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw()


def made(revision: int = 1, *, tenant: TenantId = ACME, seed: bytes = SEED, table: str = "RATES = {}\n") -> Sealed:
    return sealed(packed(files(table=table)), manifest(), tenant=tenant, revision=revision, seed=seed)


def test_a_bundle_is_opened_by_the_tenant_that_it_is_for() -> None:
    bundle = opened(made(), public=public(), tenant=ACME, digest=made().digest)
    assert (bundle.tenant, bundle.revision, bundle.manifest) == (ACME, 1, manifest())
    assert bundle.files == files(table="RATES = {}\n")
    assert manifest_in(made().statement) == manifest()


def test_a_bundle_of_another_tenant_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="another tenant"):
        opened(made(tenant=GLOBEX), public=public(), tenant=ACME, digest=made(tenant=GLOBEX).digest)


def test_another_platforms_signature_is_refused() -> None:
    foreign = made(seed=os.urandom(32))
    with pytest.raises(Unauthenticated, match="not signed"):
        opened(foreign, public=public(), tenant=ACME, digest=foreign.digest)


def test_an_older_revision_in_the_place_of_a_newer_one_is_refused() -> None:
    with pytest.raises(Unauthenticated, match="another one"):
        opened(made(1), public=public(), tenant=ACME, digest=made(2).digest)


def test_other_files_under_a_genuine_statement_are_refused() -> None:
    mixed = replace(made(), archive=made(table="RATES = {'usd': 9}\n").archive)
    with pytest.raises(Unauthenticated, match="not those that were signed"):
        opened(mixed, public=public(), tenant=ACME, digest=mixed.digest)


def test_a_statement_that_grants_more_is_refused() -> None:
    said = json.loads(made().statement)
    said["manifest"]["asks"] = ["Caller", "TenantDatabase"]
    edited = replace(made(), statement=json.dumps(said, sort_keys=True, separators=(",", ":")).encode())
    with pytest.raises(Unauthenticated, match="not signed"):
        opened(edited, public=public(), tenant=ACME, digest=edited.digest)


@pytest.mark.parametrize("part", ["archive", "statement", "signature"])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_changed_bit_anywhere_is_refused(part: str, place: str) -> None:
    whole = bytearray(getattr(made(), part))
    whole[{"first": 0, "middle": len(whole) // 2, "last": -1}[place]] ^= 1
    edited = replace(made(), **{part: bytes(whole)})
    with pytest.raises(Unauthenticated):
        opened(edited, public=public(), tenant=ACME, digest=edited.digest)


@pytest.mark.parametrize("signature", [b"", b"short", b"\x00" * 64], ids=["none", "short", "zeros"])
def test_a_signature_that_is_none_is_refused(signature: bytes) -> None:
    forged = replace(made(), signature=signature)
    with pytest.raises(Unauthenticated):
        opened(forged, public=public(), tenant=ACME, digest=forged.digest)


def test_a_token_of_the_platform_is_no_signature_of_a_bundle() -> None:
    """Both are made with one key: a token's text can never be what a bundle's signature is over."""
    token = Tokens(SEED).mint(Caller(ACME, "ada", "member", "key"), audience="x")
    assert not token.encode().startswith(DOMAIN[:2])
