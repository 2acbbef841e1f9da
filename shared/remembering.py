"""What was read of a store, remembered for less than a second: a change is in force everywhere within that time."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable, Coroutine, Hashable
from time import monotonic
from typing import Any, Generic, TypeVar

K = TypeVar("K", bound=Hashable)
V = TypeVar("V")
Read = Callable[[], Coroutine[Any, Any, V]]  # Any: what a coroutine yields and is sent


class Remembered(Generic[K, V]):
    """Values by key. Each is as old as the beginning of its reading, and used for `fresh_s`.

    From half that age on it is read again beside the traffic, so that a busy caller never waits for it; only one
    reading of a key runs at a time. At most `kept_max` are kept, the latest ones.
    """

    def __init__(self, *, fresh_s: float, kept_max: int) -> None:
        self._fresh_s = fresh_s
        self._ahead_s = fresh_s / 2
        self._kept_max = kept_max
        self._kept: OrderedDict[K, tuple[float, V]] = OrderedDict()
        self._reading: dict[K, asyncio.Task[V]] = {}

    async def get(self, key: K, read: Read[V]) -> V:
        """The value, read when there is no fresh one. Raises what `read` does."""
        kept = self._kept.get(key)
        age = monotonic() - kept[0] if kept is not None else self._fresh_s
        if kept is not None and age < self._ahead_s:
            return kept[1]
        reading = self._reading.get(key)
        if reading is None:
            reading = self._reading[key] = asyncio.create_task(self.afresh(key, read))
            reading.add_done_callback(lambda done: self._have_read(key, done))
        if kept is not None and age < self._fresh_s:
            return kept[1]
        return await asyncio.shield(reading)

    async def afresh(self, key: K, read: Read[V]) -> V:
        """The value as it is now. What another reading found later stays."""
        began = monotonic()
        value = await read()
        kept = self._kept.get(key)
        if kept is None or kept[0] <= began:
            self._kept[key] = (began, value)
            self._kept.move_to_end(key)
            while len(self._kept) > self._kept_max:
                self._kept.popitem(last=False)
        return value

    def last_known(self, key: K) -> V | None:
        """The value as it was last read, however long ago; for who cannot wait."""
        kept = self._kept.get(key)
        return kept[1] if kept is not None else None

    def _have_read(self, key: K, reading: asyncio.Task[V]) -> None:
        self._reading.pop(key, None)
        if not reading.cancelled():
            reading.exception()  # noted: whoever waits hears of it, and if nobody does, the next caller reads again
