"""Proofs that read tiles' roots instead of every leaf, against those over all leaves."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.audit import merkle, tiles
from shared.audit.tiles import TILE, TiledTree, inclusion_proof
from tests.shared.audit.stores import Stores, stores

SMALL = 4


@pytest.fixture
async def there(postgres_admin_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Stores]:
    monkeypatch.setattr(tiles, "TILE", SMALL)
    async with stores(postgres_admin_url, tmp_path) as made:
        yield made


@settings(max_examples=10)
@given(st.integers(0, 3), st.integers(0, 9), st.data())
def test_a_range_of_whole_tiles_needs_no_leaf(whole: int, rest: int, data: st.DataObject) -> None:
    leaves = [merkle.leaf_hash(bytes([number % 256])) for number in range(whole * TILE + rest + 1)]
    index = data.draw(st.integers(0, len(leaves) - 1))
    roots = [merkle.root(leaves[number * TILE : (number + 1) * TILE]) for number in range(len(leaves) // TILE)]
    near = {n: leaf for n, leaf in enumerate(leaves) if n // TILE in (index // TILE, len(leaves) // TILE)}
    tree = TiledTree(roots, near)
    proof = [tree.root(start, end) for start, end in merkle.inclusion_path(len(leaves), index)]
    assert proof == merkle.inclusion_proof(leaves, index)


@pytest.mark.parametrize("missing", [0, 1, 5])
async def test_every_record_of_a_log_is_proved_with_the_tiles_that_there_are(there: Stores, missing: int) -> None:
    for count in (3, 1, 9, 8):
        await there.write(count)
        await there.seal()
    await there.own.execute("DELETE FROM audit_tiles WHERE number >= $1", 5 - missing)
    leaves = [bytes(row["leaf"]) for row in await there.own.fetch("SELECT leaf FROM audit_log ORDER BY seq")]
    for size in (1, SMALL, 17, 21):
        for seq in range(size):
            leaf, proof = await inclusion_proof(there.own, size, seq)
            assert merkle.included(leaf, seq, size, proof, merkle.root(leaves[:size]))


async def test_tiles_that_an_older_sealer_did_not_keep_are_completed(there: Stores) -> None:
    await there.write(13)
    await there.seal()
    await there.own.execute("DELETE FROM audit_tiles WHERE number >= 1")
    await there.write(4)
    await there.seal()
    assert await there.own.fetchval("SELECT array_agg(number ORDER BY number) FROM audit_tiles") == [0, 1, 2, 3]
