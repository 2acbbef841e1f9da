"""What is sealed opens only for its tenant, at its place, unaltered."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Fault
from shared.ids import TenantId
from shared.secrets import DataKey, new_data_key, read_key, unwrap, wrap
from shared.secrets.envelope import seal, unseal

KEY = DataKey(TenantId("acme"), bytes(range(32)))


@given(st.binary(max_size=2000))
def test_what_is_sealed_opens_to_the_same_bytes(plaintext: bytes) -> None:
    assert unseal(KEY, "provider:openai", seal(KEY, "provider:openai", plaintext)) == plaintext


@given(st.integers(0, 10_000), st.integers(1, 255))
def test_a_flipped_byte_is_found(place: int, change: int) -> None:
    sealed = bytearray(seal(KEY, "p", b"a secret"))
    sealed[place % len(sealed)] ^= change
    with pytest.raises(Fault):
        unseal(KEY, "p", bytes(sealed))


@pytest.mark.parametrize("cut", [0, 3, 40, 79, 80, -1])
def test_a_truncated_secret_is_found(cut: int) -> None:
    with pytest.raises(Fault):
        unseal(KEY, "p", seal(KEY, "p", b"a secret")[:cut])


def test_a_secret_moved_to_another_tenant_or_place_does_not_open() -> None:
    sealed = seal(KEY, "provider:openai", b"a secret")
    for key, purpose in ((DataKey(TenantId("other"), KEY.key), "provider:openai"), (KEY, "provider:groq")):
        with pytest.raises(Fault):
            unseal(key, purpose, sealed)


def test_a_data_key_opens_only_with_its_root_key() -> None:
    data_key = new_data_key(TenantId("acme"))
    wrapped = wrap(bytes(32), data_key)
    assert unwrap(bytes(32), data_key.tenant, wrapped) == data_key
    with pytest.raises(Fault):
        unwrap(bytes(range(32)), data_key.tenant, wrapped)


def test_no_secret_shows_in_a_representation() -> None:
    assert KEY.key.hex() not in repr(KEY)
    assert repr(KEY.key) not in repr(KEY)


@pytest.mark.parametrize(("mode", "size", "words"), [(0o644, 32, "chmod 600"), (0o600, 31, "31 bytes")])
def test_a_key_file_that_others_read_or_of_wrong_size_is_refused(
    tmp_path: Path, mode: int, size: int, words: str
) -> None:
    (tmp_path / "root.key").write_bytes(bytes(size))
    (tmp_path / "root.key").chmod(mode)
    with pytest.raises(Fault, match=words):
        read_key(SimpleNamespace(secrets_dir=tmp_path), "root")  # type: ignore[arg-type]  # one field is read
