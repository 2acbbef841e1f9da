"""The counters say what a plain model says, whatever is done in whatever order."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.errors import Unavailable
from shared.host.servers import Valkey
from shared.ids import TenantId
from shared.quotas.counters import SCRIPT, Counters, Gone, Missing, Refused, Reserved, Row, Sums, Wanted
from shared.quotas.limits import Quota
from shared.redis import Script
from shared.redis.connection import Connection, connected
from shared.usage.prices import Charge
from tests.fixtures.ports import free_port
from tests.fixtures.servers import running, scratch_directory
from tests.shared.quotas.model import LEASE_S, Model

TENANT = TenantId("acme")
BEGIN_S = int(datetime(2027, 2, 26, 23, 58, tzinfo=UTC).timestamp())
CLOCKED = SCRIPT.replace("redis.call('TIME')", "redis.call('LRANGE', 'clock', 0, 1)")
QUOTAS = (
    Quota(1, "tenant", "", "micro_usd", "calendar:month", 900, True),
    Quota(2, "key", "k", "micro_usd", "calendar:day", 400, True),
    Quota(3, "tag", "t", "tokens", "rolling:60", 300, True),
    Quota(4, "tenant", "", "requests", "rolling:3600", 12, True),
    Quota(5, "key", "k", "parallel", "ever", 3, True),
    Quota(6, "model", "m", "tokens", "ever", 2000, False),
    Quota(7, "tenant", "", "micro_usd", "calendar:week", 700, True),
    Quota(8, "tenant", "", "requests", "calendar:minute", 6, True),
)


@dataclass
class Clocked:
    """Counters whose script reads its time from a key of the server, and a connection to set it."""

    counters: Counters
    connection: Connection
    tenant: TenantId

    async def at(self, now_s: int) -> None:
        await self.connection.command("DEL", "clock")
        await self.connection.command("RPUSH", "clock", now_s, 0)

    async def build(self, quota: Quota, sums: Sums, builder: str = "") -> bool:
        builder = builder or secrets.token_hex(4)
        assert await self.counters.build(self.tenant, quota, builder) == "build"
        return await self.counters.install(self.tenant, quota, builder, sums)

    async def lose(self, quota: Quota) -> None:
        await self.connection.command("DEL", f"q:{{{self.tenant}}}:{quota.counter}")

    async def figures(self) -> list[tuple[int, int]]:
        probe = secrets.token_hex(8)
        told = await self.counters.reserve(self.tenant, probe, [Wanted(quota, 0) for quota in QUOTAS])
        await self.counters.release(self.tenant, probe)
        assert isinstance(told, Reserved)
        return [(state.used, state.reserved) for state in told.states]


@pytest.fixture(scope="module")
async def clocked(redis_url: str) -> AsyncIterator[Callable[[], Clocked]]:
    assert CLOCKED != SCRIPT
    script, connection = Script(redis_url, CLOCKED), await connected(redis_url)
    counters = Counters(script, lease_ms=LEASE_S * 1000)
    yield lambda: Clocked(counters, connection, TenantId(f"t-{secrets.token_hex(6)}"))
    await script.close()
    connection.close()


@pytest.fixture
async def built(clocked: Callable[[], Clocked]) -> Clocked:
    """Empty counters for every quota."""
    one = clocked()
    await one.at(BEGIN_S)
    for quota in QUOTAS:
        await one.build(quota, Sums("1:1:", []))
    return one


NAMES = st.sampled_from("abcdef")
AMOUNTS = st.integers(0, 150)
STEPS = st.one_of(
    st.tuples(st.just("wait"), st.sampled_from([1, 2, 30, 46, 61, 200, 3700, 86_400, 3 * 86_400])),
    st.tuples(st.just("reserve"), NAMES, AMOUNTS, AMOUNTS),
    st.tuples(st.just("extend"), NAMES, AMOUNTS, AMOUNTS),
    st.tuples(st.just("settle"), NAMES, AMOUNTS, AMOUNTS),
    st.tuples(st.just("release"), NAMES),
    st.tuples(st.just("lose one"), st.sampled_from(QUOTAS), NAMES, AMOUNTS),
    st.tuples(st.just("rebuild"), st.sampled_from(QUOTAS), NAMES, AMOUNTS),
    st.tuples(st.just("lose all")),
)


async def take(step: tuple[Any, ...], one: Clocked, model: Model) -> None:  # Any: steps differ
    """Do it to both, and compare what each says of it."""
    match step:
        case ("wait", seconds):
            model.now_s += seconds
            await one.at(model.now_s)
        case ("reserve", name, money, tokens):
            wanted = [Wanted(quota, Charge(money, tokens).of(quota.metric)) for quota in QUOTAS]
            told = await one.counters.reserve(one.tenant, name, wanted)
            assert isinstance(told, Reserved if model.reserve(name, wanted) else Refused)
        case ("extend", name, money, tokens):
            wanted = [
                Wanted(quota, Charge(money, tokens).of(quota.metric))
                for quota in QUOTAS
                if quota.metric in ("micro_usd", "tokens")
            ]
            kinds = {None: Gone, True: Reserved, False: Refused}
            assert isinstance(await one.counters.extend(one.tenant, name, wanted), kinds[model.extend(name, wanted)])
        case ("settle", name, money, tokens):
            await settle(one, model, name, Charge(money, tokens))
        case ("release", name):
            if name in model.calls:
                model.release(model.calls[name])
            await one.counters.release(one.tenant, name)
        case ("lose one", quota, name, money):
            await one.lose(quota)
            assert await one.counters.build(one.tenant, quota, "builder") == "build"
            sums = model.sums(quota)
            await settle(one, model, name, Charge(money, money))  # after the snapshot, before the counter
            assert await one.counters.install(one.tenant, quota, "builder", sums)
        case ("rebuild", quota, name, money):
            await one.counters.rebuild(one.tenant, quota, "builder")
            sums = model.sums(quota)
            await settle(one, model, name, Charge(money, money))
            assert await one.counters.install(one.tenant, quota, "builder", sums)
        case _:
            await one.connection.command("FLUSHDB")
            await one.at(model.now_s)
            model.forget()
            for quota in QUOTAS:
                await one.build(quota, model.sums(quota))


async def settle(one: Clocked, model: Model, name: str, charge: Charge) -> None:
    """Twice, as after an answer that was lost."""
    call = model.calls.get(name)
    if call is None or call.state == "released":
        return
    model.settle(call, charge)
    row = Row(name, call.xid, call.at_s * 1_000_000, call.used)
    for _ in range(2):
        await one.counters.settle(one.tenant, row, QUOTAS)


@settings(max_examples=300)
@given(st.lists(STEPS, min_size=1, max_size=25))
async def test_the_counters_say_what_the_model_says(
    clocked: Callable[[], Clocked], steps: list[tuple[Any, ...]]
) -> None:
    one, model = clocked(), Model(QUOTAS, BEGIN_S)
    await one.at(BEGIN_S)
    for quota in QUOTAS:
        await one.build(quota, Sums("1:1:", []))
    for step in steps:
        await take(step, one, model)
        model.sweep()
        assert await one.figures() == [model.figures(quota) for quota in QUOTAS], step


async def test_a_counter_that_was_not_built_reserves_nothing(built: Clocked) -> None:
    await built.lose(QUOTAS[2])
    told = await built.counters.reserve(built.tenant, "a", [Wanted(quota, 1) for quota in QUOTAS])
    assert told == Missing((2,))
    assert await built.build(QUOTAS[2], Sums("1:1:", []))
    assert await built.figures() == [(0, 0)] * len(QUOTAS)


async def test_a_refusal_names_the_limit_and_when_there_is_room(built: Clocked) -> None:
    tokens = QUOTAS[2]
    await built.counters.reserve(built.tenant, "a", [Wanted(tokens, 200)])
    await built.at(BEGIN_S + 10)
    await built.counters.reserve(built.tenant, "b", [Wanted(tokens, 50)])
    told = await built.counters.reserve(built.tenant, "c", [Wanted(tokens, 100)])
    assert told == Refused(0, 0, 250, wait_ms=51_000)  # when the first has left: sixty seconds and its own
    for wait_s, kind in ((60, Refused), (61, Reserved)):
        await built.at(BEGIN_S + wait_s)
        assert isinstance(await built.counters.reserve(built.tenant, f"after {wait_s}", [Wanted(tokens, 100)]), kind)


@pytest.mark.parametrize(
    ("quota", "wait_ms"), [(QUOTAS[0], 2 * 86_400_000 + 120_000), (QUOTAS[1], 120_000), (QUOTAS[7], 60_000)],
    ids=["month", "day", "minute"],
)  # fmt: skip
async def test_a_calendar_window_has_room_when_the_next_one_begins(built: Clocked, quota: Quota, wait_ms: int) -> None:
    await built.counters.reserve(built.tenant, "a", [Wanted(quota, quota.amount)])
    told = await built.counters.reserve(built.tenant, "b", [Wanted(quota, 1)])
    assert told == Refused(0, 0, quota.amount, wait_ms)


async def test_what_never_fits_is_not_to_be_waited_for(built: Clocked) -> None:
    told = await built.counters.reserve(built.tenant, "a", [Wanted(QUOTAS[1], 401)])
    assert isinstance(told, Refused)
    assert told.wait_ms == -1


async def test_reservations_of_the_dead_are_told_with_what_their_rows_need(built: Clocked) -> None:
    await built.counters.reserve(built.tenant, "a", [Wanted(QUOTAS[1], 7)], "what was called")
    await built.counters.reserve(built.tenant, "b", [Wanted(QUOTAS[1], 5)])
    await built.at(BEGIN_S + LEASE_S - 1)
    assert await built.counters.renew(built.tenant, ["b", "nobody"]) == ["nobody"]
    await built.at(BEGIN_S + LEASE_S)
    (dead,) = await built.counters.dead(built.tenant)
    assert (dead.id, dead.started_us, dead.call) == ("a", BEGIN_S * 1_000_000, "what was called")
    assert (await built.figures())[1] == (7, 5)
    await built.counters.settle(built.tenant, Row("a", 1, dead.started_us, Charge(2, 2)), QUOTAS)
    assert (await built.counters.dead(built.tenant), (await built.figures())[1]) == ([], (2, 5))


async def test_only_one_builds_and_one_that_dies_is_replaced(built: Clocked) -> None:
    quota = QUOTAS[0]
    await built.lose(quota)
    assert await built.counters.build(built.tenant, quota, "first") == "build"
    assert await built.counters.build(built.tenant, quota, "second") == "wait"
    await built.at(BEGIN_S + 3)
    assert await built.counters.build(built.tenant, quota, "second") == "build"
    assert not await built.counters.install(built.tenant, quota, "first", Sums("1:1:", [(BEGIN_S, 999)]))
    assert await built.counters.install(built.tenant, quota, "second", Sums("1:1:", []))
    assert await built.counters.build(built.tenant, quota, "third") == "there"


async def test_amounts_near_the_largest_are_exact(clocked: Callable[[], Clocked]) -> None:
    one = clocked()
    await one.at(BEGIN_S)
    quota = Quota(1, "tenant", "", "micro_usd", "rolling:60", 2**50, True)
    await one.build(quota, Sums("1:1:", [(BEGIN_S, 2**50 - 3)]))
    assert isinstance(await one.counters.reserve(one.tenant, "a", [Wanted(quota, 4)]), Refused)
    told = await one.counters.reserve(one.tenant, "b", [Wanted(quota, 3)])
    assert isinstance(told, Reserved)
    assert (told.states[0].used, told.states[0].reserved) == (2**50 - 3, 3)


async def test_tenants_do_not_share_counters(built: Clocked, clocked: Callable[[], Clocked]) -> None:
    other = clocked()
    for quota in QUOTAS:
        await other.build(quota, Sums("1:1:", []))
    await built.counters.reserve(built.tenant, "a", [Wanted(QUOTAS[0], 900)])
    assert isinstance(await other.counters.reserve(other.tenant, "a", [Wanted(QUOTAS[0], 900)]), Reserved)


async def test_a_server_that_is_gone_is_told_and_found_again_when_it_is_back() -> None:
    quota = QUOTAS[0]
    with scratch_directory() as home:
        server = Valkey(home / "redis", free_port(), "secret")
        script = Script(server.url, SCRIPT)
        counters = Counters(script)
        with pytest.raises(Unavailable):
            await counters.build(TENANT, quota, "a")
        with running(server, home):
            assert await counters.build(TENANT, quota, "a") == "build"
            assert await counters.install(TENANT, quota, "a", Sums("1:1:", []))
            await counters.reserve(TENANT, "x", [Wanted(quota, 5)])
        with pytest.raises(Unavailable):
            await counters.reserve(TENANT, "y", [Wanted(quota, 5)])
        with running(server, home):
            told = await asyncio.gather(
                *(counters.reserve(TENANT, f"z{number}", [Wanted(quota, 1)]) for number in range(50))
            )
            assert all(isinstance(one, Reserved) for one in told)
            assert max(one.states[0].reserved for one in told if isinstance(one, Reserved)) == 55
        await script.close()
