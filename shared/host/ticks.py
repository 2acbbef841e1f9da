"""The local timer: one wake-up a minute for `governance-schedules`, which knows what is due.

A wake-up that is late, doubled or lost does no harm: what is due is decided from the database.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from shared.clock import Clock
from shared.telemetry import log

if TYPE_CHECKING:
    import httpx

PERIOD = timedelta(minutes=1)
TIMEOUT_S = 60.0
RETRY_S = 5.0
WAIT_S_MAX = 15.0
"""The longest sleep: a clock that was set, or a machine that slept, is noticed within this time."""
WAITS_MAX = 100

Credential = Callable[[], str]


def next_minute(now: datetime) -> datetime:
    """The next full minute after `now`."""
    return now.replace(second=0, microsecond=0) + PERIOD


class Ticks:
    """Posts a wake-up at start and at each full minute, until cancelled."""

    def __init__(self, url: str, credential: Credential, clock: Clock | None = None) -> None:
        self._url = url
        self._credential = credential
        self._clock = clock or Clock()

    async def run(self) -> None:
        """Wake the schedules up for ever. A failed wake-up is repeated after five seconds."""
        import httpx

        async with httpx.AsyncClient(timeout=TIMEOUT_S, trust_env=False) as client:
            while True:
                if await self._wake(client):
                    await self._until_next_minute()
                else:
                    await asyncio.sleep(RETRY_S)

    async def _until_next_minute(self) -> None:
        """Sleep in pieces. A clock set back by more than a period starts the wait anew."""
        target = next_minute(self._clock.now())
        for _ in range(WAITS_MAX):
            left = target - self._clock.now()
            if not timedelta(0) < left <= PERIOD:
                return
            await asyncio.sleep(min(left.total_seconds(), WAIT_S_MAX))

    async def _wake(self, client: httpx.AsyncClient) -> bool:
        import httpx

        try:
            answer = await client.post(self._url, headers={"authorization": f"Bearer {self._credential()}"})
        except httpx.HTTPError as failure:
            log("tick_failed", error=repr(failure))
            return False
        if answer.status_code != 200:
            log("tick_refused", status=answer.status_code, body=answer.text[:300])
        return answer.status_code == 200
