"""A cache in the process itself: bounded, and no value outlives its time."""

from __future__ import annotations

import asyncio

from hypothesis import given
from hypothesis import strategies as st

from shared.redis import ProcessMemory

BYTES_MAX = 100


async def test_a_value_is_gone_when_its_time_is_over() -> None:
    memory = ProcessMemory()
    await memory.set("a", b"value", 0.02)
    assert await memory.get("a") == b"value"

    await asyncio.sleep(0.03)

    assert await memory.get("a") is None


async def test_what_was_asked_for_longest_ago_makes_room() -> None:
    memory = ProcessMemory(BYTES_MAX)
    for key in ("a", "b"):
        await memory.set(key, bytes(40), 60)
    await memory.get("a")

    await memory.set("c", bytes(40), 60)

    assert [await memory.get(key) is not None for key in ("a", "b", "c")] == [True, False, True]


@given(
    st.lists(st.tuples(st.sampled_from("abcd"), st.integers(0, 2 * BYTES_MAX), st.sampled_from([-1.0, 60.0]))),
)
async def test_it_never_holds_more_than_its_bound_and_gives_back_what_was_set_last(
    writes: list[tuple[str, int, float]],
) -> None:
    memory = ProcessMemory(BYTES_MAX)
    for key, size, ttl_s in writes:
        await memory.set(key, bytes(size), ttl_s)
        found = await memory.get(key)
        assert found == (bytes(size) if size <= BYTES_MAX and ttl_s > 0 else None)
        assert memory._bytes == sum(len(value) for _, value in memory._kept.values()) <= BYTES_MAX
