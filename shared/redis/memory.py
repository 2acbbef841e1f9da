"""A cache's values in the process itself: for one that serves a single tenant and reaches no server of all tenants."""

from __future__ import annotations

import time
from collections import OrderedDict

BYTES_MAX = 32 * 1024 * 1024


class ProcessMemory:
    """Keeps at most 32 MiB of values; what was not asked for longest goes first."""

    def __init__(self, bytes_max: int = BYTES_MAX) -> None:
        self._bytes_max = bytes_max
        self._bytes = 0
        self._kept: OrderedDict[str, tuple[float, bytes]] = OrderedDict()

    async def get(self, key: str) -> bytes | None:
        """The value, or None: absent, expired, or it had to make room."""
        found = self._kept.get(key)
        if found is None:
            return None
        if found[0] <= time.monotonic():
            self._drop(key)
            return None
        self._kept.move_to_end(key)
        return found[1]

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep the value for `ttl_s`."""
        if key in self._kept:
            self._drop(key)
        if len(value) > self._bytes_max:
            return
        self._kept[key] = (time.monotonic() + ttl_s, value)
        self._bytes += len(value)
        while self._bytes > self._bytes_max:
            self._drop(next(iter(self._kept)))

    def _drop(self, key: str) -> None:
        self._bytes -= len(self._kept.pop(key)[1])
