"""The Merkle tree against RFC 6962's own definitions, written down naively."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.audit import merkle

SIZES = st.integers(1, 70)
FLIP = st.integers(0, 255)


def naive_root(entries: Sequence[bytes]) -> bytes:
    """MTH of RFC 6962 §2.1."""
    if not entries:
        return hashlib.sha256(b"").digest()
    if len(entries) == 1:
        return hashlib.sha256(b"\x00" + entries[0]).digest()
    half = max(2**power for power in range(20) if 2**power < len(entries))
    return hashlib.sha256(b"\x01" + naive_root(entries[:half]) + naive_root(entries[half:])).digest()


def entries_of(size: int) -> list[bytes]:
    return [bytes([number]) * (number % 5) for number in range(size)]


def leaves_of(size: int) -> list[bytes]:
    return [merkle.leaf_hash(entry) for entry in entries_of(size)]


def frontier_of(leaves: Sequence[bytes]) -> list[bytes]:
    frontier: list[bytes] = []
    for size, leaf in enumerate(leaves):
        frontier = merkle.append(frontier, size, leaf)
    return frontier


def damaged(hashes: Sequence[bytes], at: int) -> list[bytes]:
    at %= len(hashes)
    return [bytes([one[0] ^ 1]) + one[1:] if index == at else one for index, one in enumerate(hashes)]


def test_the_root_of_nothing_is_the_hash_of_nothing() -> None:
    assert merkle.root([]) == naive_root([]) == hashlib.sha256(b"").digest()


def test_known_roots_of_certificate_transparency() -> None:
    entries = [bytes.fromhex(text) for text in ("", "00", "10", "2021", "3031", "40414243", "5051525354555657")]
    roots = {
        1: "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        2: "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        3: "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        7: "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    }
    for size, root in roots.items():
        assert merkle.root([merkle.leaf_hash(entry) for entry in entries[:size]]).hex() == root


@given(SIZES)
def test_the_growing_frontier_gives_the_root_of_the_definition(size: int) -> None:
    frontier = frontier_of(leaves_of(size))
    assert merkle.root_of(frontier) == naive_root(entries_of(size))
    assert len(frontier) == size.bit_count()


@given(SIZES, st.data())
def test_every_leaf_can_be_shown_to_be_included(size: int, data: st.DataObject) -> None:
    leaves, index = leaves_of(size), data.draw(st.integers(0, size - 1))
    proof = merkle.inclusion_proof(leaves, index)
    assert len(proof) <= (size - 1).bit_length()
    assert merkle.included(leaves[index], index, size, proof, naive_root(entries_of(size)))


@given(SIZES, st.data())
def test_an_inclusion_proof_shows_nothing_else(size: int, data: st.DataObject) -> None:
    leaves, index = leaves_of(size), data.draw(st.integers(0, size - 1))
    proof, root = merkle.inclusion_proof(leaves, index), naive_root(entries_of(size))
    assert not merkle.included(merkle.leaf_hash(b"another"), index, size, proof, root)
    assert not merkle.included(leaves[index], size, size, proof, root)
    assert not merkle.included(leaves[index], -1, size, proof, root)
    assert not merkle.included(leaves[index], index, size, [*proof, bytes(32)], root)
    for other in range(size):
        assert merkle.included(leaves[index], other, size, proof, root) == (other == index)
    if proof:
        assert not merkle.included(leaves[index], index, size, proof[:-1], root)
        assert not merkle.included(leaves[index], index, size, damaged(proof, data.draw(FLIP)), root)


@given(SIZES, st.data())
def test_a_longer_log_can_be_shown_to_extend_a_shorter_one(size: int, data: st.DataObject) -> None:
    leaves, old = leaves_of(size), data.draw(st.integers(0, size))
    proof = merkle.consistency_proof(leaves, old)
    assert merkle.consistent(old, size, merkle.root(leaves[:old]), merkle.root(leaves), proof)


@given(st.integers(2, 70), st.data())
def test_a_consistency_proof_fits_no_other_history(size: int, data: st.DataObject) -> None:
    leaves, old = leaves_of(size), data.draw(st.integers(1, size - 1))
    proof = merkle.consistency_proof(leaves, old)
    old_root, new_root = merkle.root(leaves[:old]), merkle.root(leaves)
    rewritten = merkle.root([merkle.leaf_hash(b"rewritten"), *leaves[1:old]])
    assert not merkle.consistent(old, size, rewritten, new_root, proof)
    assert not merkle.consistent(old, size, old_root, rewritten, proof)
    assert not merkle.consistent(old, size, old_root, new_root, damaged(proof, data.draw(FLIP)))
    assert not merkle.consistent(old, size, old_root, new_root, proof[:-1])
    assert not merkle.consistent(size, old, new_root, old_root, proof)


def test_logs_of_one_size_are_consistent_only_when_equal() -> None:
    root = merkle.root(leaves_of(5))
    assert merkle.consistent(5, 5, root, root, [])
    assert not merkle.consistent(5, 5, root, merkle.root(leaves_of(4)), [])
