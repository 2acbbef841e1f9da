"""Counters that are not there, built from the ledger: never needed before, lost by Redis, or of a new quota."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from uuid import uuid4

from shared.errors import Unavailable
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.quotas.counters import Counters, Inside, Reserved, State
from shared.quotas.limits import Quota
from shared.quotas.stored import sums_of

GRACE_S = 0.25
"""Between a builder's leave and its snapshot: for the open rows of reservations that were lost with Redis to commit."""
TRIES_MAX = 20
POLL_S = 0.05
POLLS_MAX = 100


class Building:
    """This process's part in it. Every method raises `Unavailable` while Redis does not answer."""

    def __init__(self, control: ControlDatabase, counters: Counters) -> None:
        self._control = control
        self._counters = counters
        self._building: dict[tuple[TenantId, int], asyncio.Task[None]] = {}

    async def states(self, tenant: TenantId, quotas: Sequence[Quota]) -> list[State]:
        """How these quotas' counters stand."""
        for _ in range(TRIES_MAX):
            told = await self._counters.look(tenant, quotas)
            if isinstance(told, Reserved):
                return list(told.states)
            await self.built(tenant, [quotas[place] for place in told.places])
        raise Unavailable("the quotas' counters cannot be built", retry_after_s=2)

    async def inside(self, tenant: TenantId, quota: Quota) -> Inside | None:
        """A quota's counter from within; None when it is not there."""
        return await self._counters.inspect(tenant, quota)

    async def built(self, tenant: TenantId, quotas: Iterable[Quota]) -> None:
        """Have the counters built, each once at a time in this process."""
        await asyncio.gather(*(self._built(tenant, quota) for quota in quotas))

    async def rebuild(self, tenant: TenantId, quota: Quota) -> None:
        """Build the counter again from the ledger, open calls' reservations included. Calls wait for it meanwhile; when
        this fails, the next call builds it."""
        builder = uuid4().hex
        await self._counters.rebuild(tenant, quota, builder)
        await self._install(tenant, quota, builder)

    async def _built(self, tenant: TenantId, quota: Quota) -> None:
        place = tenant, quota.id
        if (building := self._building.get(place)) is None:
            building = self._building[place] = asyncio.create_task(self._build(tenant, quota), name="build-counter")
            building.add_done_callback(lambda _: self._building.pop(place, None))
        await asyncio.shield(building)

    async def _build(self, tenant: TenantId, quota: Quota) -> None:
        builder = uuid4().hex
        for _ in range(POLLS_MAX):
            leave = await self._counters.build(tenant, quota, builder)
            if leave == "there":
                return
            if leave == "build":
                break
            await asyncio.sleep(POLL_S)
        else:
            raise Unavailable(f"the counter of quota {quota.id} is not built in time", retry_after_s=2)
        await self._install(tenant, quota, builder)

    async def _install(self, tenant: TenantId, quota: Quota, builder: str) -> None:
        await asyncio.sleep(GRACE_S)
        await self._counters.install(tenant, quota, builder, await sums_of(self._control, tenant, quota))
