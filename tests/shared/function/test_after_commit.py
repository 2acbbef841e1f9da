"""What follows a commit: tried again while a store is away, never longer than the process wants to live."""

from __future__ import annotations

import asyncio

from shared.errors import Fault, Unavailable
from shared.function.after_commit import Coalesced
from shared.ids import TenantId

ACME = TenantId("acme")
GLOBEX = TenantId("globex")


class Flaky:
    """Work that fails a number of times first."""

    def __init__(self, *failures: Exception) -> None:
        self.failures = list(failures)
        self.tried: list[TenantId] = []

    async def __call__(self, tenant: TenantId) -> None:
        self.tried.append(tenant)
        if self.failures:
            raise self.failures.pop(0)


async def ended(coalesced: Coalesced) -> None:
    """Wait without closing, which would cut the pauses."""
    async with asyncio.timeout(5):
        await asyncio.gather(*coalesced._running.values())


async def test_what_met_busy_is_tried_again_until_it_is_done() -> None:
    work = Flaky(Unavailable("away"), Unavailable("away"))
    coalesced = Coalesced(work, delay_s=0, retries_s=(0.01, 0.01, 0.01))

    coalesced.ask(ACME)
    await ended(coalesced)

    assert work.tried == [ACME] * 3


async def test_after_the_last_pause_the_sweep_has_it_and_the_next_commit_asks_anew() -> None:
    work = Flaky(*(Unavailable("away") for _ in range(3)))
    coalesced = Coalesced(work, delay_s=0, retries_s=(0.01, 0.01))

    coalesced.ask(ACME)
    await ended(coalesced)
    assert len(work.tried) == 3

    coalesced.ask(ACME)
    await ended(coalesced)
    assert len(work.tried) == 4


async def test_a_defect_is_not_repeated() -> None:
    work = Flaky(Fault("broken"))
    coalesced = Coalesced(work, delay_s=0, retries_s=(0.01,))

    coalesced.ask(ACME)
    await ended(coalesced)

    assert work.tried == [ACME]


async def test_one_tenants_pause_keeps_no_other_tenant_waiting() -> None:
    async def work(tenant: TenantId) -> None:
        if tenant == ACME:
            raise Unavailable("its database is away")
        done.set()

    done = asyncio.Event()
    coalesced = Coalesced(work, delay_s=0, retries_s=(60.0,))

    coalesced.ask(ACME)
    await asyncio.sleep(0.01)
    coalesced.ask(GLOBEX)

    async with asyncio.timeout(2):
        await done.wait()
        await coalesced.close()


async def test_closing_cuts_a_pause_short() -> None:
    work = Flaky(Unavailable("away"))
    coalesced = Coalesced(work, delay_s=0, retries_s=(60.0,))
    coalesced.ask(ACME)
    await asyncio.sleep(0.01)

    async with asyncio.timeout(2):
        await coalesced.close()

    assert work.tried == [ACME]
