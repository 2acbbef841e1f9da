"""A tenant's cache: get and set with a time to live, under the tenant's own prefix."""

from __future__ import annotations

import time
from functools import cached_property
from typing import TYPE_CHECKING, Protocol

from shared.errors import Unavailable
from shared.ids import TenantId
from shared.telemetry import log

if TYPE_CHECKING:
    from redis.asyncio import Redis

TIMEOUT_S = 0.25
PAUSE_S = 1.0
CONNECTIONS_MAX = 16
KEY_CHARS_MAX = 512
VALUE_BYTES_MAX = 1024 * 1024
SCAN_COUNT = 1000


def prefix_of(tenant: TenantId) -> str:
    return f"t:{tenant}:"


class CacheServer:
    """The process's connections to the server. After a failure it is left alone for a second."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._down_until_s = 0.0

    @cached_property
    def _client(self) -> Redis:
        from redis.asyncio import BlockingConnectionPool, Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        pool = BlockingConnectionPool.from_url(
            self._url,
            max_connections=CONNECTIONS_MAX,
            timeout=TIMEOUT_S,
            socket_timeout=TIMEOUT_S,
            socket_connect_timeout=TIMEOUT_S,
            retry=Retry(NoBackoff(), 0),
        )
        return Redis(connection_pool=pool)

    def tenant(self, tenant: TenantId) -> Cache:
        return Cache(tenant, self)

    async def get(self, key: str) -> bytes | None:
        """The value, or None: absent, expired, or the server is down."""
        from redis.exceptions import RedisError

        if time.monotonic() < self._down_until_s:
            return None
        try:
            value = await self._client.get(key)
        except (RedisError, OSError, TimeoutError) as failure:
            self._pause(failure)
            return None
        return value.encode() if isinstance(value, str) else value

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep the value for `ttl_s`, or do not when the server is down."""
        from redis.exceptions import RedisError

        if time.monotonic() < self._down_until_s or len(value) > VALUE_BYTES_MAX:
            return
        try:
            await self._client.set(key, value, px=max(1, round(ttl_s * 1000)))
        except (RedisError, OSError, TimeoutError) as failure:
            self._pause(failure)

    async def forget(self, tenant: TenantId) -> None:
        """Delete all that is kept for a tenant. Raises `Unavailable`: to forget is no matter of speed."""
        from redis.exceptions import RedisError

        try:
            for prefix in (prefix_of(tenant), f"q:{{{tenant}}}:"):  # its cache, and its quotas' counters
                async for key in self._client.scan_iter(match=f"{prefix}*", count=SCAN_COUNT):
                    await self._client.unlink(key)
        except (RedisError, OSError, TimeoutError) as failure:
            raise Unavailable(f"the cache does not answer: {type(failure).__name__}", retry_after_s=2) from failure

    def _pause(self, failure: Exception) -> None:
        log("cache_unavailable", error=type(failure).__name__)
        self._down_until_s = time.monotonic() + PAUSE_S

    async def close(self) -> None:
        if "_client" in self.__dict__:
            await self._client.aclose(close_connection_pool=True)


class Values(Protocol):
    """What keeps a cache's values."""

    async def get(self, key: str) -> bytes | None: ...
    async def set(self, key: str, value: bytes, ttl_s: float) -> None: ...


class Cache:
    """One tenant's part of the cache: no key reaches another tenant's."""

    def __init__(self, tenant: TenantId, server: Values) -> None:
        self._prefix = prefix_of(tenant)
        self._server = server

    async def get(self, key: str) -> bytes | None:
        """The value that was set and has not expired, or None."""
        return await self._server.get(self._prefixed(key))

    async def set(self, key: str, value: bytes, ttl_s: float) -> None:
        """Keep at most 1 MiB for `ttl_s` seconds. More is not kept."""
        await self._server.set(self._prefixed(key), value, ttl_s)

    def _prefixed(self, key: str) -> str:
        if not 0 < len(key) <= KEY_CHARS_MAX:
            raise ValueError(f"a cache key has 1 to {KEY_CHARS_MAX} characters, not {len(key)}")
        return self._prefix + key
