"""Which process asks, of several that are asked the same at the same time. The others wait for what it keeps.

The one that asks holds a lease in Redis, and renews it for as long as its call goes on. When it dies the lease runs
out, and one of those who wait asks in its place. The lease tells a random name of who holds it, and nothing else.
"""

from __future__ import annotations

import asyncio
import secrets
from time import monotonic

from shared.llm.answers import Answers, Kept
from shared.secrets import TenantSecrets

LEASE_S, RENEWED_EVERY_S = 3.0, 1.0
NOT_SHARED, NOT_SHARED_S = "-", 1.0
"""What stands in a lease's place after an answer that cannot be kept: who waits for it asks without one."""
WAIT_S_MAX = 120.0
LOOKS_PER_WAIT, LOOK_S_LEAST, LOOK_S_MOST = 10, 0.02, 0.25
"""Who has waited for a second looks again after a tenth of it."""


class Lead:
    """A process's part in one call that others may be asked for too."""

    def __init__(self, answers: Answers, sealing: TenantSecrets, key: str) -> None:
        self._answers, self._sealing, self._key = answers, sealing, key
        self._name = secrets.token_hex(8)
        self.holds = False
        self.found: Kept | None = None
        """What another process was answered."""
        self.answered = self.kept = False

    async def find(self) -> None:
        """Wait until another process's answer is found, or this one has to ask."""
        began = monotonic()
        while True:
            holder = await self._put(self._name, LEASE_S)
            self.holds = holder == self._name
            self.found = await self._answers.find(self._sealing, self._key)
            waited = monotonic() - began
            if self.found is not None or holder in ("", self._name, NOT_SHARED) or waited > WAIT_S_MAX:
                break
            await asyncio.sleep(min(max(waited / LOOKS_PER_WAIT, LOOK_S_LEAST), LOOK_S_MOST))
        if self.found is not None and self.holds:
            await self._put("", LEASE_S)

    async def hold(self, asking: asyncio.Task[None]) -> None:
        """Keep the lease until the call has ended, then give it up. Who waits asks in place of a call that was left or
        refused, for that is no answer for others."""
        while not (await asyncio.wait({asking}, timeout=RENEWED_EVERY_S))[0]:
            await self._put(self._name, LEASE_S)
        shared = self.kept or asking.cancelled() or not self.answered
        await self._put("" if shared else NOT_SHARED, NOT_SHARED_S)

    async def _put(self, value: str, ttl_s: float) -> str:
        return await self._answers.lease(self._sealing.tenant, self._key, self._name, value, ttl_s)
