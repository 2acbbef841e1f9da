"""Leases: of all processes that could do the same, the one that holds it does."""

from __future__ import annotations

from shared.errors import Problem
from shared.ids import TenantId
from shared.redis.cache import prefix_of
from shared.redis.scripts import Script
from shared.telemetry import log

SCRIPT = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {holder} end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return {ARGV[1]}
"""


class Leases:
    """The process's way to all tenants' leases. Nothing depends on them but that work is not done twice."""

    def __init__(self, url: str) -> None:
        self._script = Script(url, SCRIPT)

    async def put(self, tenant: TenantId, key: str, holder: str, value: str, ttl_s: float) -> str:
        """Put a value there for `ttl_s`, or nothing for an empty one, where no other holder's stands.

        Returns the holder when that was done, else what stands there; nothing when the server does not say.
        """
        try:
            (told,) = await self._script.run(prefix_of(tenant) + key, holder, value, round(ttl_s * 1000))
        except Problem as failure:
            log("lease_unknown", error=failure.code)
            return ""
        return told.decode("ascii", "replace") if isinstance(told, bytes) else ""

    async def close(self) -> None:
        await self._script.close()
