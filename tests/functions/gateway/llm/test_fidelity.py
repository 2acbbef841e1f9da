"""However a stream's bytes arrive, the caller gets them as the provider sent them."""

from __future__ import annotations

import pytest

from tests.load.fidelity import measured


@pytest.mark.parametrize("seed", range(2, 6))
async def test_no_way_of_arriving_makes_a_difference(seed: int) -> None:
    assert (await measured(60, seed))[1] == 0
