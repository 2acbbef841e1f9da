"""Changes of quotas' states: each is told once, in order, by events, and the tenant's mirror has it."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from itertools import pairwise
from typing import Any, Literal

import pytest

from functions.governance.quotas import mirror
from functions.governance.quotas.views import Updated
from shared.function import catalog
from shared.host.delivery import Delivery
from shared.host.subscriptions import subscriptions
from shared.ids import TenantId
from shared.postgres import TenantDatabase
from shared.quotas import Meter
from shared.quotas.telling import Telling
from shared.redis.connection import connected
from shared.tenancy import TenantRegistry
from tests.fixtures.provider import completion, usage
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, limit, make_key, question

State = Literal["below", "spent", "removed"]
ENFORCED_S = 0.95
"""Every process knows a quota then, and it refuses."""


@pytest.fixture
async def mirrored(limited: Gateway) -> AsyncIterator[Gateway]:
    """A gateway whose events of quotas are delivered, by the host's own delivery."""
    settings = limited.application.process.settings
    found = subscriptions(catalog.select(["governance-quotas"]), settings)
    task = asyncio.create_task(Delivery(settings.nats_url, limited.control, found).run())
    yield limited
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


async def states(gateway: Gateway) -> dict[int, Any]:  # Any: JSON
    answer = await gateway.client.get("/v1/quotas/states")
    assert answer.status_code == 200, answer.text
    return {one["id"]: one for one in answer.json()["states"]}


async def told(gateway: Gateway, quota: int, state: str) -> Any:  # Any: JSON
    """What the mirror has of the quota, once it is in that state."""

    async def is_so() -> bool:
        return bool((await states(gateway)).get(quota, {}).get("state") == state)

    await until(is_so)
    return (await states(gateway))[quota]


async def events_of(gateway: Gateway, quota: int) -> list[str]:
    """Ids of the events of a quota that were handled."""
    rows = await (await database(gateway)).fetch(
        "SELECT event_id FROM processed_events WHERE event_id LIKE $1 ORDER BY at", f"quota-{quota}-%"
    )
    return [row["event_id"] for row in rows]


async def database(gateway: Gateway) -> TenantDatabase:
    return await (await gateway.application.process.get(TenantRegistry)).database(gateway.tenant)


async def made(gateway: Gateway, **body: Any) -> int:  # Any: JSON
    answer = await gateway.client.post("/v1/quotas", json=body)
    assert answer.status_code == 201, answer.text
    return int(answer.json()["id"])


async def test_a_budget_is_told_below_then_spent_then_changed_then_removed(mirrored: Gateway) -> None:
    key = await make_key(mirrored.application, mirrored.tenant)
    quota = await made(mirrored, scope="key", name=key.split("_")[1], metric="tokens", amount=900, window="ever")
    first = await told(mirrored, quota, "below")
    assert (first["version"], first["used"], first["limit"]) == (1, 0, 900)
    await asyncio.sleep(ENFORCED_S)
    mirrored.provider.will(completion(used=usage(700, 200)))
    async with mirrored.with_key(key) as client:
        assert (await client.post("/v1/chat/completions", json=question(max_tokens=500))).status_code == 200
        spent = await told(mirrored, quota, "spent")
        assert (spent["version"], spent["used"], spent["reserved"]) == (2, 900, 0)
        assert (await client.post("/v1/chat/completions", json=question())).status_code == 429
    assert (await mirrored.client.patch(f"/v1/quotas/{quota}", json={"amount": 5000})).status_code == 200
    changed = await told(mirrored, quota, "below")
    assert (changed["version"], changed["used"], changed["limit"]) == (3, 900, 5000)
    assert (await mirrored.client.delete(f"/v1/quotas/{quota}")).status_code == 204

    async def is_gone() -> bool:
        return quota not in await states(mirrored)

    await until(is_gone)
    assert await events_of(mirrored, quota) == [f"quota-{quota}-{version}" for version in (1, 2, 3, 4)]


async def test_a_soft_limit_is_told_as_reached(mirrored: Gateway) -> None:
    member = f"{secrets.token_hex(4)}@example.com"
    key = await make_key(mirrored.application, mirrored.tenant, tags=[f"member:{member}"])
    quota = await made(mirrored, scope="member", name=member, metric="tokens", amount=10, window="day", hard=False)
    await told(mirrored, quota, "below")
    async with mirrored.with_key(key) as client:
        await client.post("/v1/chat/completions", json=question())
        reached = await told(mirrored, quota, "reached")
        assert (reached["used"], reached["resets_at"][11:19]) == (10, "00:00:00")
        assert (await client.post("/v1/chat/completions", json=question())).status_code == 200


async def test_a_hard_limit_that_turns_a_call_away_is_spent_and_stays_so_though_smaller_ones_fit(
    mirrored: Gateway,
) -> None:
    key = await make_key(mirrored.application, mirrored.tenant)
    quota = await limit(mirrored, scope="key", name=key.split("_")[1], metric="tokens", span="ever", amount=1000)
    mirrored.provider.will(completion(used=usage(500, 100)))
    async with mirrored.with_key(key) as client:
        await client.post("/v1/chat/completions", json=question(max_tokens=700))
        await mirrored.ledger(1)
        refused = await client.post("/v1/chat/completions", json=question(max_tokens=700))
        assert refused.status_code == 429
        spent = await told(mirrored, quota, "spent")
        assert spent["used"] == 600
        assert (await client.post("/v1/chat/completions", json=question(max_tokens=100))).status_code == 200
        await mirrored.ledger(2)
        assert (await client.post("/v1/chat/completions", json=question(max_tokens=700))).status_code == 429
    meter = await mirrored.application.process.get(Meter)
    await meter.telling.close()
    await asyncio.sleep(0.5)
    assert (await states(mirrored))[quota]["version"] == spent["version"]


async def test_quotas_of_one_scope_are_told_at_most_four_times_a_second(mirrored: Gateway) -> None:
    key = await make_key(mirrored.application, mirrored.tenant)
    name = key.split("_")[1]
    windows = ["calendar:day", "calendar:week", "calendar:month", "ever", "rolling:86400"]
    quotas = [
        await limit(mirrored, scope="key", name=name, metric="tokens", span=span, amount=10, hard=False)
        for span in windows
    ]
    async with mirrored.with_key(key) as client:
        await asyncio.gather(*(client.post("/v1/chat/completions", json=question()) for _ in range(20)))
    found = [await told(mirrored, quota, "reached") for quota in quotas]
    times = sorted(datetime.fromisoformat(one["told_at"]) for one in found)
    gaps = [(later - earlier).total_seconds() for earlier, later in pairwise(times)]
    assert min(gaps) >= 0.25
    assert [len(await events_of(mirrored, quota)) for quota in quotas] == [1] * len(quotas)


async def test_a_rate_at_its_limit_does_not_flood_the_events(mirrored: Gateway) -> None:
    key = await make_key(mirrored.application, mirrored.tenant)
    quota = await limit(mirrored, scope="key", name=key.split("_")[1], metric="parallel", span="ever", amount=1)
    began = asyncio.get_running_loop().time()
    async with mirrored.with_key(key) as client:
        for _ in range(60):
            assert (await client.post("/v1/chat/completions", json=question())).status_code == 200
    await told(mirrored, quota, (await settled(mirrored, quota))["state"])
    seconds = asyncio.get_running_loop().time() - began
    assert len(await events_of(mirrored, quota)) <= 2 + seconds / 5


async def settled(gateway: Gateway, quota: int) -> Any:  # Any: JSON
    async def is_told() -> bool:
        return quota in await states(gateway)

    await until(is_told)
    return (await states(gateway))[quota]


async def test_a_window_that_passes_while_nobody_calls_is_told_too(mirrored: Gateway) -> None:
    key = await make_key(mirrored.application, mirrored.tenant)
    quota = await limit(mirrored, scope="key", name=key.split("_")[1], metric="tokens", span="calendar:day", amount=10)
    mirrored.provider.will(completion(used=usage(7, 3)))
    meter = await mirrored.application.process.get(Meter)
    (known,) = [one for one in (await meter._quotas.of(mirrored.tenant)).quotas if one.id == quota]
    await meter.building.states(mirrored.tenant, [known])  # builds it
    redis = await connected(mirrored.application.process.settings.redis_url)
    counter = f"q:{{{mirrored.tenant}}}:{known.counter}"
    await redis.command("HSET", counter, "u", 10)
    await meter.telling.tell(mirrored.tenant, quota)
    assert (await told(mirrored, quota, "spent"))["used"] == 10
    await redis.command("HINCRBY", counter, "w", -86_400)  # as if that had been yesterday's
    redis.close()
    await meter.telling.tell_due()
    assert (await states(mirrored))[quota]["state"] == "spent"  # it is not due yet
    await mirrored.control.execute("UPDATE quota_states SET resets_at = now(), due_at = now() WHERE quota = $1", quota)
    await asyncio.sleep(0.3)
    await meter.telling.tell_due()
    assert (await told(mirrored, quota, "below"))["used"] == 0


async def test_processes_that_notice_a_change_at_once_tell_it_once(mirrored: Gateway) -> None:
    quota = await limit(mirrored, scope="tag", name=secrets.token_hex(4), metric="tokens", span="ever", amount=10)
    meter = await mirrored.application.process.get(Meter)
    several = [Telling(mirrored.control, meter.building.states) for _ in range(8)]
    await asyncio.gather(*(one.tell(mirrored.tenant, quota) for one in several))
    assert (await told(mirrored, quota, "below"))["version"] == 1


async def test_nobody_sees_another_tenants_states(mirrored: Gateway) -> None:
    answer = await mirrored.client.get("/v1/quotas/states", params={"tenant": "platform"})
    assert answer.status_code == 404


def update(version: int, state: State = "below", **more: Any) -> Updated:  # Any: a field's value
    now = datetime(2026, 11, 1, tzinfo=UTC) + timedelta(seconds=version)
    return Updated(
        id=2**62, version=version, scope="tenant", name="", metric="tokens", window="ever", hard=True, limit=100,
        state=state, told_at=now, **more,
    )  # fmt: skip


@pytest.mark.parametrize("order", [(1, 2, 3), (3, 2, 1), (2, 3, 1, 2, 3)])
async def test_the_mirror_keeps_the_newest_version_whatever_the_order(
    registry: TenantRegistry, tenant: TenantId, order: tuple[int, ...]
) -> None:
    tenants = await registry.database(tenant)
    words = {1: update(1), 2: update(2, "spent", used=100), 3: update(3, "removed")}
    for version in order:
        async with tenants.transaction() as transaction:
            await mirror.keep(transaction, words[version])
    row = await tenants.fetchrow("SELECT version, standing FROM quota_mirror WHERE id = $1", 2**62)
    assert row is not None
    assert (row["version"], row["standing"]) == (3, "removed")
    assert 2**62 not in [one["id"] for one in await mirror.states(tenants)]
    await tenants.execute("DELETE FROM quota_mirror")
