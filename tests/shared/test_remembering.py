"""What is remembered is fresh, read once at a time, and read ahead for who asks often."""

from __future__ import annotations

import asyncio

import pytest

from shared.remembering import Remembered


class Store:
    """A value that changes, and how often it was read."""

    def __init__(self) -> None:
        self.value = "old"
        self.reads = 0
        self.pause = asyncio.Event()
        self.pause.set()

    async def read(self) -> str:
        self.reads += 1
        value = self.value
        await self.pause.wait()
        return value


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    now = [100.0]
    monkeypatch.setattr("shared.remembering.monotonic", lambda: now[0])
    return now


async def test_a_change_is_seen_within_the_time(now: list[float]) -> None:
    store, remembered = Store(), Remembered[str, str](fresh_s=0.8, kept_max=10)
    assert await remembered.get("a", store.read) == "old"
    store.value = "new"
    now[0] += 0.3
    assert await remembered.get("a", store.read) == "old"
    now[0] += 0.6
    assert await remembered.get("a", store.read) == "new"


async def test_who_asks_often_never_waits(now: list[float]) -> None:
    store, remembered = Store(), Remembered[str, str](fresh_s=0.8, kept_max=10)
    await remembered.get("a", store.read)
    store.value = "new"
    store.pause.clear()
    now[0] += 0.5
    for _ in range(3):
        assert await remembered.get("a", store.read) == "old"  # returns although no reading can end
        await asyncio.sleep(0)
    assert store.reads == 2
    store.pause.set()
    await asyncio.sleep(0.01)
    assert await remembered.get("a", store.read) == "new"


async def test_many_who_wait_share_one_reading(now: list[float]) -> None:
    store, remembered = Store(), Remembered[str, str](fresh_s=0.8, kept_max=10)
    assert set(await asyncio.gather(*(remembered.get("a", store.read) for _ in range(50)))) == {"old"}
    assert store.reads == 1


async def test_a_slow_reading_is_as_old_as_its_beginning_and_replaces_nothing_newer(now: list[float]) -> None:
    slow, quick = Store(), Store()
    remembered = Remembered[str, str](fresh_s=0.8, kept_max=10)
    slow.pause.clear()
    reading = asyncio.create_task(remembered.afresh("a", slow.read))
    await asyncio.sleep(0)
    now[0] += 0.1
    quick.value = "newer"
    await remembered.afresh("a", quick.read)
    slow.pause.set()
    assert await reading == "old"
    assert remembered.last_known("a") == "newer"


async def test_a_reading_that_fails_is_told_and_forgotten() -> None:
    remembered = Remembered[str, str](fresh_s=0.8, kept_max=10)

    async def failing() -> str:
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await remembered.get("a", failing)
    assert await remembered.get("a", Store().read) == "old"


async def test_what_is_remembered_is_bounded() -> None:
    store, remembered = Store(), Remembered[int, str](fresh_s=0.8, kept_max=3)
    for number in range(10):
        await remembered.get(number, store.read)
    assert [remembered.last_known(number) for number in range(10)] == [None] * 7 + ["old"] * 3
