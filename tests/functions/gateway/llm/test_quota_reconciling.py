"""Reconciliation of ledger, counters and mirror: what differs is found, told and mended, and nothing else is."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from functions.governance.quotas.reconciling import used_off
from shared.identity import Caller, Tokens
from shared.ids import PLATFORM
from shared.quotas import Meter
from shared.quotas.counters import Inside
from shared.quotas.limits import Quota
from shared.redis.connection import Connection, connected
from tests.fixtures.provider import DONE, ROLE, Pause, Script, completion, usage, usage_chunk
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, limit, make_key, question
from tests.functions.gateway.llm.test_quota_states import database, mirrored, states, told
from tests.functions.gateway.llm.test_quotas import standing

__all__ = ["mirrored"]
MADE_UP = 2**40
"""A quota that there never was."""


@pytest.fixture
async def redis(limited: Gateway) -> AsyncIterator[Connection]:
    connection = await connected(limited.application.process.settings.redis_url)
    yield connection
    connection.close()


async def reconciled(gateway: Gateway) -> list[Any]:  # Any: JSON
    """What differed of the quotas there are. Other tests take theirs away without a word, which is found too."""
    answer = await gateway.client.post("/v1/quotas/reconcile", timeout=60)
    assert answer.status_code == 200, answer.text
    known = {
        row["id"] for row in await gateway.control.fetch("SELECT id FROM quotas WHERE tenant = $1", gateway.tenant)
    }
    return [one for one in answer.json()["differences"] if one["quota"] in known or one["quota"] == MADE_UP]


def counter(gateway: Gateway, quota: int) -> str:
    return f"q:{{{gateway.tenant}}}:c{quota}"


async def used_quota(gateway: Gateway, span: str) -> tuple[str, int]:
    """A key with a limit on tokens of which 900 are used."""
    key = await make_key(gateway.application, gateway.tenant)
    quota = await limit(gateway, scope="key", name=key.split("_")[1], metric="tokens", span=span, amount=1000)
    gateway.provider.will(completion(used=usage(700, 200)))
    async with gateway.with_key(key) as client:
        assert (await client.post("/v1/chat/completions", json=question(max_tokens=500))).status_code == 200
    assert await standing(gateway, quota) == (900, 0)
    return key, quota


@pytest.mark.parametrize("span", ["ever", "calendar:day", "rolling:3600"])
@pytest.mark.parametrize("off", [-400, 350])
async def test_a_counter_that_is_off_is_found_and_mended_to_the_ledger(
    limited: Gateway, redis: Connection, span: str, off: int
) -> None:
    _, quota = await used_quota(limited, span)
    for field in await fields(redis, counter(limited, quota)):
        await redis.command("HINCRBY", counter(limited, quota), field, off)
    (found,) = await reconciled(limited)
    assert (found["quota"], found["place"], found["found"], found["truth"]) == (quota, "used", 900 + off, 900)
    assert await standing(limited, quota) == (900, 0)
    assert await reconciled(limited) == []


async def fields(redis: Connection, key: str) -> list[str]:
    """Where a counter has what is used: the sum, and of a rolling one the bucket that has something."""
    names = await redis.command("HKEYS", key)
    assert isinstance(names, list)
    return [
        "u",
        *(name.decode() for name in names if isinstance(name, bytes) and name[1:].isdigit() and name[:1] == b"u"),
    ]


async def test_calls_in_flight_keep_their_reservation_and_do_not_overshoot(limited: Gateway, redis: Connection) -> None:
    key, quota = await used_quota(limited, "calendar:day")
    limited.provider.will(Script((ROLE, Pause(8), usage_chunk(30, 20), DONE)))
    body = question(stream=True, max_tokens=4)
    sent = len(httpx.Request("POST", "http://x", json=body).content)
    async with limited.with_key(key) as client:
        streaming = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await until(lambda: len(limited.provider.calls) == 2)
        await limited.ledger_open(1)
        await redis.command("HINCRBY", counter(limited, quota), "u", -900)
        (found,) = await reconciled(limited)
        assert found["place"] == "used"
        meter = await limited.application.process.get(Meter)
        (known,) = [one for one in (await meter._quotas.of(limited.tenant)).quotas if one.id == quota]
        (state,) = await meter.building.states(limited.tenant, [known])
        assert (state.used, state.reserved) == (900, sent + 4)
        refused = await client.post("/v1/chat/completions", json=question(max_tokens=50))
        assert refused.status_code == 429
        assert (await streaming).status_code == 200
    assert await standing(limited, quota) == (950, 0)


async def test_what_is_reserved_by_nobody_is_freed(limited: Gateway, redis: Connection) -> None:
    _, quota = await used_quota(limited, "ever")
    await redis.command("HINCRBY", counter(limited, quota), "r", 77)
    (found,) = await reconciled(limited)
    assert (found["place"], found["found"], found["truth"]) == ("reserved", 77, 0)
    assert await standing(limited, quota) == (900, 0)


async def test_traffic_makes_no_difference(limited: Gateway) -> None:
    key = await make_key(limited.application, limited.tenant)
    name = key.split("_")[1]
    for metric, span in (("tokens", "rolling:60"), ("micro_usd", "calendar:month"), ("requests", "calendar:minute")):
        await limit(limited, scope="key", name=name, metric=metric, span=span, amount=10**12)
    await limit(limited, scope="key", name=name, metric="parallel", span="ever", amount=1000)
    ended = asyncio.Event()

    async def ask(client: httpx.AsyncClient) -> None:
        while not ended.is_set():
            assert (await client.post("/v1/chat/completions", json=question())).status_code == 200

    async with limited.with_key(key) as client:
        asking = [asyncio.create_task(ask(client)) for _ in range(6)]
        found = [await reconciled(limited) for _ in range(3)]
        ended.set()
        await asyncio.gather(*asking)
    assert found == [[], [], []]


async def test_the_mirror_is_told_again_what_it_lost_or_has_wrong(mirrored: Gateway) -> None:
    lost, wrong = [
        await limit(mirrored, scope="tag", name=secrets.token_hex(4), metric="tokens", span="ever", amount=10)
        for _ in range(2)
    ]
    meter = await mirrored.application.process.get(Meter)
    for quota in (lost, wrong):
        await meter.telling.tell(mirrored.tenant, quota)
        await told(mirrored, quota, "below")
    tenants = await database(mirrored)
    await tenants.execute("DELETE FROM quota_mirror WHERE id = $1", lost)
    await tenants.execute("UPDATE quota_mirror SET version = 7, standing = 'spent' WHERE id = $1", wrong)
    await tenants.execute(
        "INSERT INTO quota_mirror SELECT $1, version, scope, name, metric, span, hard, amount, used, reserved,"
        " standing, resets_at, told_at FROM quota_mirror WHERE id = $2",
        MADE_UP,
        wrong,
    )
    await mirrored.control.execute("UPDATE quota_states SET told_at = now() - interval '5 minutes'")
    found = {one["quota"]: one["place"] for one in await reconciled(mirrored)}
    assert found == dict.fromkeys((lost, wrong, MADE_UP), "mirror")
    assert (await told(mirrored, lost, "below"))["version"] == 2
    assert (await told(mirrored, wrong, "below"))["version"] == 8

    async def is_gone() -> bool:
        return MADE_UP not in await states(mirrored)

    await until(is_gone)
    assert await reconciled(mirrored) == []


async def test_it_is_audited_with_what_differed(limited: Gateway, redis: Connection) -> None:
    _, quota = await used_quota(limited, "ever")
    await redis.command("HINCRBY", counter(limited, quota), "u", 5)
    tokens = await limited.application.process.get(Tokens)
    operator = tokens.mint(Caller(PLATFORM, "key:operator", "operator", "key"), audience="governance-quotas")
    async with limited.with_key(operator) as client:
        answer = await client.post("/v1/quotas/reconcile", params={"tenant": limited.tenant}, timeout=60)
        assert answer.status_code == 200, answer.text
        assert (await client.post("/v1/quotas/reconcile", timeout=60)).status_code in (400, 422)
    records = await limited.control.fetch("SELECT record FROM audit_outbox WHERE tenant = $1", limited.tenant)
    told_of = [bytes(row["record"]) for row in records if b"governance-quotas.reconcile" in bytes(row["record"])]
    assert len(told_of) == 1
    assert b'"found":905' in told_of[0]


def inside(newest: int, **buckets: int) -> Inside:
    named = {int(name[1:]): used for name, used in buckets.items()}
    return Inside(sum(named.values()), 0, 0, newest, named)


ROLLING = Quota(1, "tenant", "", "tokens", "rolling:60", 100, True)


@pytest.mark.parametrize(
    ("before", "ledger", "after", "off"),
    [
        (inside(100, b100=5), {100: 7}, inside(100, b100=7), 0),  # settled meanwhile
        (inside(100, b100=5), {100: 4}, inside(100, b100=5), 1),
        (inside(100, b100=5), {100: 9}, inside(100, b100=7), -2),
        (inside(100, b40=5, b100=1), {100: 1}, inside(101, b100=1), 0),  # the window has left bucket 40
        (inside(100), {101: 3}, inside(101), 0),  # began meanwhile
        (inside(100, b99=5), {98: 5}, inside(100, b99=5), 0),
    ],
)
def test_between_two_looks_the_ledger_may_be_anywhere(
    before: Inside, ledger: dict[int, int], after: Inside, off: int
) -> None:
    assert used_off(ROLLING, before, ledger, after) == off


def test_a_sum_that_is_not_that_of_its_buckets_is_off() -> None:
    wrong = Inside(9, 0, 0, 100, {100: 5})
    assert used_off(ROLLING, wrong, {100: 5}, wrong) == 4
