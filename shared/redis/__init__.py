"""The cache in Redis or Valkey. What it forgets is computed again; that it is down costs speed, never an error."""

from __future__ import annotations

from shared.redis.cache import Cache, CacheServer
from shared.redis.memory import ProcessMemory

__all__ = ["Cache", "CacheServer", "ProcessMemory"]
