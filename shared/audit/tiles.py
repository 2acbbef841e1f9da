"""Inclusion proofs of long logs: the roots of perfect subtrees (tiles) are kept, so few leaves have to be read.

A proof reads the record's own tile, the unfinished one at the end, and one root for each other tile: of a log of ten
million records 2,400 roots and at most 8,200 leaves.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field

from shared.audit import merkle
from shared.postgres import ControlDatabase, ControlTransaction, TenantDatabase, TenantTransaction

TILE = 4096
"""Leaves of a tile; a power of two, so that every tile is a subtree."""
TILES_A_BATCH = 64
LEAVES = "SELECT seq, leaf FROM audit_log WHERE seq >= $1 AND seq < $2 ORDER BY seq"


async def complete_tiles(transaction: ControlTransaction | TenantTransaction, size: int) -> None:
    """Keep the roots of the tiles that a log of `size` records has completed, some of them if many are missing."""
    kept = await transaction.fetchval("SELECT coalesce(max(number) + 1, 0) FROM audit_tiles")
    for number in range(kept, min(size // TILE, kept + TILES_A_BATCH)):
        rows = await transaction.fetch(LEAVES, number * TILE, (number + 1) * TILE)
        root = await asyncio.to_thread(merkle.root, [bytes(row["leaf"]) for row in rows])
        await transaction.execute("INSERT INTO audit_tiles (number, root) VALUES ($1, $2)", number, root)


@dataclass(frozen=True)
class TiledTree:
    """What is known of a tree: the roots of its first tiles, and the leaves that a proof needs besides, by number."""

    tiles: Sequence[bytes]
    leaves: dict[int, bytes] = field(repr=False)

    def root(self, start: int, end: int) -> bytes:
        """The root over leaves `start` to `end`, a range that RFC 6962 splits its trees into."""
        whole = range(-(-start // TILE), min(end // TILE, len(self.tiles)))
        if not whole:
            return merkle.root([self.leaves[number] for number in range(start, end)])
        rest = [self.leaves[number] for number in range(whole.stop * TILE, end)]
        return merkle.root_of([*merkle.frontier_of(self.tiles[whole.start : whole.stop]), *merkle.frontier_of(rest)])


async def inclusion_proof(database: ControlDatabase | TenantDatabase, size: int, seq: int) -> tuple[bytes, list[bytes]]:
    """The leaf of record `seq`, and the hashes that lead from it to the root of the first `size`, lowest first."""
    tiles = [
        bytes(row["root"])
        for row in await database.fetch("SELECT root FROM audit_tiles WHERE number < $1 ORDER BY number", size // TILE)
    ]
    own, edge = seq // TILE * TILE, len(tiles) * TILE
    rows = await database.fetch(LEAVES, edge, size)
    if own < edge:
        rows += await database.fetch(LEAVES, own, own + TILE)
    tree = TiledTree(tiles, {row["seq"]: bytes(row["leaf"]) for row in rows})
    hashes = await asyncio.to_thread(lambda: [tree.root(start, end) for start, end in merkle.inclusion_path(size, seq)])
    return tree.leaves[seq], hashes
