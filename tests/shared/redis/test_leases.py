"""A lease has one holder at a time, and goes with it; without a server nobody holds any."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator

import pytest

from shared.ids import TenantId
from shared.redis import Leases
from tests.fixtures.ports import free_port

ACME, GLOBEX = TenantId("acme"), TenantId("globex")


@pytest.fixture
async def leases(redis_url: str) -> AsyncIterator[Leases]:
    leases = Leases(redis_url)
    yield leases
    await leases.close()


@pytest.fixture
def key() -> str:
    return f"asking:{secrets.token_hex(8)}"


async def test_of_many_who_want_it_one_holds_it(leases: Leases, key: str) -> None:
    told = await asyncio.gather(*(leases.put(ACME, key, f"holder-{one}", f"holder-{one}", 5) for one in range(50)))
    assert len(set(told)) == 1
    assert await leases.put(GLOBEX, key, "another's", "another's", 5) == "another's"  # no tenant sees another's


async def test_who_holds_it_renews_it_and_gives_it_up(leases: Leases, key: str) -> None:
    for _ in range(4):
        assert await leases.put(ACME, key, "first", "first", 0.3) == "first"
        await asyncio.sleep(0.2)
    assert await leases.put(ACME, key, "second", "", 1) == "first"  # only its holder gives it up
    assert await leases.put(ACME, key, "first", "", 1) == "first"
    assert await leases.put(ACME, key, "second", "second", 1) == "second"


async def test_one_that_is_not_renewed_runs_out(leases: Leases, key: str) -> None:
    await leases.put(ACME, key, "first", "first", 0.1)
    await asyncio.sleep(0.2)
    assert await leases.put(ACME, key, "second", "second", 1) == "second"
    assert await leases.put(ACME, key, "first", "first", 1) == "second"


async def test_without_a_server_nobody_holds_any(key: str) -> None:
    leases = Leases(f"redis://127.0.0.1:{free_port()}")
    assert await leases.put(ACME, key, "first", "first", 1) == ""
    await leases.close()
