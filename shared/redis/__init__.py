"""Redis or Valkey: a cache, whose loss costs speed and never an error, and scripts that change several keys at once."""

from __future__ import annotations

from shared.redis.cache import Cache, CacheServer
from shared.redis.memory import ProcessMemory
from shared.redis.scripts import Leases, Script

__all__ = ["Cache", "CacheServer", "Leases", "ProcessMemory", "Script"]
