"""Lua scripts: each call is one change in the server, whole or not at all, in one round trip."""

from __future__ import annotations

import asyncio
import hashlib

from shared.errors import Fault, Problem, Unavailable
from shared.ids import TenantId
from shared.redis.cache import prefix_of
from shared.redis.connection import TIMEOUT_S, Answer, Connection, ConnectionLost, ServerRefused, Value, connected
from shared.telemetry import log

PASSING = ("LOADING", "BUSY", "OOM", "READONLY", "MASTERDOWN", "CLUSTERDOWN", "TRYAGAIN", "NOREPLICAS", "MISCONF")
"""The server's errors that time may heal."""

LEASE = """
local holder = redis.call('GET', KEYS[1])
if holder and holder ~= ARGV[1] then return {holder} end
if ARGV[2] == '' then redis.call('DEL', KEYS[1]) else redis.call('SET', KEYS[1], ARGV[2], 'PX', ARGV[3]) end
return {ARGV[1]}
"""


class Script:
    """One script on the server, over one connection, which is opened at first use and again when it was lost."""

    def __init__(self, url: str, text: str) -> None:
        self._url = url
        self._text = text
        self._sha = hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()
        self._connection: Connection | None = None
        self._connecting = asyncio.Lock()

    async def run(self, key: str, *arguments: Value, patient: bool = False) -> list[Answer]:
        """Run it on that key. Nobody waits for a patient one, so it is sent with others.

        Raises `Unavailable`; the change may then have been made all the same.
        """
        try:
            answer = await self._answered(key, arguments, patient)
        except TimeoutError as late:
            raise Unavailable("Redis does not answer in time", retry_after_s=2) from late
        except (OSError, ConnectionLost) as failure:
            raise Unavailable(f"Redis is not reachable: {type(failure).__name__}", retry_after_s=2) from failure
        except ServerRefused as refused:
            if str(refused).startswith(PASSING):
                raise Unavailable(f"Redis takes no changes: {refused}", retry_after_s=2) from refused
            raise Fault(f"Redis refused the script: {refused}") from refused
        if not isinstance(answer, list):
            raise Fault("the script answered with something else than a list")
        return answer

    async def close(self) -> None:
        if self._connection is not None:
            self._connection.close()

    async def _answered(self, key: str, arguments: tuple[Value, ...], patient: bool) -> Answer:
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self._connected()
        try:
            return await connection.command("EVALSHA", self._sha, 1, key, *arguments, patient=patient)
        except ServerRefused as refused:
            if not str(refused).startswith("NOSCRIPT"):  # the first call after the server's start
                raise
            return await connection.command("EVAL", self._text, 1, key, *arguments)

    async def _connected(self) -> Connection:
        async with self._connecting:
            if self._connection is None or not self._connection.usable:
                async with asyncio.timeout(TIMEOUT_S):
                    self._connection = await connected(self._url)
            return self._connection


class Leases:
    """The process's way to all tenants' leases. Nothing depends on them but that work is not done twice."""

    def __init__(self, url: str) -> None:
        self._script = Script(url, LEASE)

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
