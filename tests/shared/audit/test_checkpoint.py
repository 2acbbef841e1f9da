"""Signed checkpoints."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.audit.checkpoint import AuditSigner, Checkpoint, key_id, origin_of, verified
from shared.errors import Invalid
from tests.shared.audit.logs import OWN, STRANGER

ROOT = bytes(range(32))
CHECKPOINT = Checkpoint(origin_of("acme"), 42, ROOT)
NOTE = OWN.sign(CHECKPOINT)


def read(note: str, *, origin: str = "dcoder/audit/acme", public_key: bytes = OWN.public_key) -> Checkpoint:
    return verified(note, origin=origin, name=AuditSigner.name, public_key=public_key)


def resigned(body: str) -> str:
    """A note of our key over any text."""
    signature = OWN._key.sign(body.encode())
    blob = base64.b64encode(key_id(OWN.name, OWN.public_key) + signature).decode()
    return f"{body}\n— {OWN.name} {blob}\n"


def test_a_note_has_the_lines_of_the_specification() -> None:
    origin, size, root, empty, signature, end = NOTE.split("\n")
    assert (origin, size, empty, end) == ("dcoder/audit/acme", "42", "", "")
    assert base64.b64decode(root) == ROOT
    mark, name, blob = signature.split(" ")
    assert (mark, name) == ("—", "dcoder-audit")
    assert len(base64.b64decode(blob)) == 4 + 64


@given(st.integers(0, 10**18 - 1), st.binary(min_size=32, max_size=32))
def test_what_was_signed_is_read_back(size: int, root: bytes) -> None:
    checkpoint = Checkpoint(origin_of("acme"), size, root)
    assert read(OWN.sign(checkpoint)) == checkpoint


def test_the_same_checkpoint_is_always_the_same_note() -> None:
    assert OWN.sign(CHECKPOINT) == NOTE


@given(st.integers(0, len(NOTE) - 1), st.characters())
def test_no_character_of_a_note_can_be_changed(at: int, character: str) -> None:
    if NOTE[at] == character:
        return
    with pytest.raises(Invalid):
        read(NOTE[:at] + character + NOTE[at + 1 :])


def test_a_note_of_another_key_is_refused() -> None:
    with pytest.raises(Invalid, match="no signature of the expected key"):
        read(STRANGER.sign(CHECKPOINT))


def test_a_note_of_another_log_is_refused() -> None:
    with pytest.raises(Invalid, match="'dcoder/audit/acme', not of 'dcoder/audit/other'"):
        read(NOTE, origin="dcoder/audit/other")


def test_signatures_of_unknown_keys_are_passed_over() -> None:
    foreign = STRANGER.sign(CHECKPOINT).splitlines()[-1]
    assert read(f"{NOTE}{foreign}\n— a-witness AAAA\n") == CHECKPOINT


def test_a_bad_signature_of_the_known_key_rejects_the_note_whatever_else_it_carries() -> None:
    bad = OWN.sign(Checkpoint(origin_of("acme"), 41, ROOT)).splitlines()[-1]
    with pytest.raises(Invalid, match="does not fit"):
        read(f"{NOTE}{bad}\n")


@pytest.mark.parametrize(
    "body",
    [
        "dcoder/audit/acme\n042\n" + base64.b64encode(ROOT).decode() + "\n",
        "dcoder/audit/acme\n-1\n" + base64.b64encode(ROOT).decode() + "\n",
        "dcoder/audit/acme\n42\n" + base64.b64encode(ROOT[:31]).decode() + "\n",
        "dcoder/audit/acme\n42\n",
        "dcoder/audit/acme\n42\n" + base64.b64encode(ROOT).decode().rstrip("=") + "\n",
    ],
    ids=["leading zero", "negative size", "short root", "no root", "root without padding"],
)
def test_a_signed_text_that_is_no_checkpoint_is_refused(body: str) -> None:
    with pytest.raises(Invalid, match="size and a root"):
        read(resigned(body))


@pytest.mark.parametrize(
    "note", ["", "\n", "\n\n", NOTE[:-1], NOTE.replace("\n", "\r\n"), NOTE + "\x00\n", "\ud800\n\n"]
)
def test_what_is_no_signed_note_is_refused(note: str) -> None:
    with pytest.raises(Invalid):
        read(note)


def test_a_public_key_that_is_none_is_refused() -> None:
    note = f"{CHECKPOINT.body}\n— {OWN.name} {base64.b64encode(key_id(OWN.name, b'abc') + bytes(64)).decode()}\n"
    with pytest.raises(Invalid):
        read(note, public_key=b"abc")


def test_a_signature_checks_with_plain_ed25519() -> None:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

    body, _, signatures = NOTE.partition("\n\n")
    blob = base64.b64decode(signatures.split(" ")[2])
    Ed25519PublicKey.from_public_bytes(OWN.public_key).verify(blob[4:], f"{body}\n".encode())
