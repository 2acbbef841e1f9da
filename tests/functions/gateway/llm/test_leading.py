"""The same call in several processes at the same time is one call of the provider, whoever of them dies or leaves."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import httpx
import pytest

from functions.gateway.llm.leading import LEASE_S, Lead
from shared.ids import TenantId
from shared.llm.answers import REMEMBERED_S, Answers, Kept
from shared.redis import CacheServer
from shared.secrets import DataKey, TenantSecrets
from shared.settings import Settings
from tests.fixtures.provider import DONE, FINISH, ROLE, Pause, Script, chunk, completion, error, stream, usage
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, question
from tests.functions.gateway.llm.test_kills import Served, gateway_process, swept

PROCESSES = 4


@pytest.fixture(scope="module")
async def gateways(settings: Settings) -> AsyncIterator[list[Served]]:
    """Several processes of the gateway on the same stores."""
    async with AsyncExitStack() as stack:
        entering = [stack.enter_async_context(gateway_process(settings)) for _ in range(PROCESSES)]
        yield [await one for one in entering]


@pytest.fixture
async def cached(gateway: Gateway) -> AsyncIterator[Gateway]:
    await put(gateway, enabled=True)
    yield gateway
    await put(gateway, enabled=False)


async def put(gateway: Gateway, **setting: Any) -> None:  # Any: JSON
    (await gateway.client.put("/v1/cache", json=setting)).raise_for_status()
    (await gateway.client.delete("/v1/cache/answers")).raise_for_status()
    await asyncio.sleep(REMEMBERED_S)


async def ask(gateway: Gateway, served: Served, **more: Any) -> httpx.Response:  # Any: JSON
    async with gateway.at(served.url) as client:
        return await client.post("/v1/chat/completions", json=question(**more))


async def are_written(gateway: Gateway, count: int) -> bool:
    """Whether the rows of that many calls are written. A process writes a call's row after its answer; a sweep that
    waits for nobody would take it for dead until then."""
    return len(await gateway.rows()) >= count


def slowly(script: Script, seconds: float) -> Script:
    return replace(script, before=(Pause(seconds),))


def how(answer: httpx.Response) -> str:
    return answer.headers["x-dcoder-cache"].partition(";")[0]


@pytest.mark.parametrize("streamed", [False, True], ids=["whole", "stream"])
async def test_a_hundred_who_ask_the_same_of_four_processes_are_one_call(
    cached: Gateway, gateways: list[Served], streamed: bool
) -> None:
    cost = usage(100_000, 50_000)
    cached.provider.will(slowly(stream("Hello", used=(100_000, 50_000)) if streamed else completion(used=cost), 3.0))
    asking = [ask(cached, served, stream=streamed) for served in gateways for _ in range(25)]
    answers = await asyncio.gather(*asking)
    assert len(cached.provider.calls) == 1
    assert {answer.status_code for answer in answers} == {200}
    assert len({answer.content for answer in answers}) == 1
    assert sorted(how(answer) for answer in answers) == ["coalesced"] * 99 + ["miss"]
    rows = await cached.ledger(100)
    (made,) = (row for row in rows if row["provider"] == "scripted")
    assert made["cost_micro_usd"] > 0
    assert [row["saved_micro_usd"] for row in rows if row is not made] == [made["cost_micro_usd"]] * 99


async def test_when_the_process_that_asks_is_killed_one_of_the_others_asks(
    cached: Gateway, gateways: list[Served], settings: Settings
) -> None:
    cached.provider.will(slowly(completion("lost"), 60.0), slowly(completion("found"), 1.0))
    async with gateway_process(settings) as first:
        calling = [asyncio.create_task(ask(cached, first)) for _ in range(5)]
        await until(lambda: len(cached.provider.calls) == 1)
        others = [asyncio.create_task(ask(cached, served)) for served in gateways for _ in range(5)]
        await asyncio.sleep(LEASE_S + 1)  # it has been renewed, for nobody else has asked
        assert len(cached.provider.calls) == 1
        first.process.kill()
        answers = await asyncio.wait_for(asyncio.gather(*others), LEASE_S + 15)
        await asyncio.wait(calling)
    assert {answer.json()["choices"][0]["message"]["content"] for answer in answers} == {"found"}
    assert len(cached.provider.calls) == 2
    assert sorted(how(answer) for answer in answers) == ["coalesced"] * 19 + ["miss"]
    await until(lambda: are_written(cached, 20))
    outcomes = [outcome for _, outcome in await swept(cached)]
    assert sorted(outcomes) == ["done"] * 20 + ["unknown"] * 5  # of those who asked the one that was killed


async def test_when_all_leave_the_process_that_asks_one_of_the_others_asks_at_once(
    cached: Gateway, gateways: list[Served]
) -> None:
    cached.provider.will(Script((ROLE, Pause(60), FINISH, DONE)), stream("found"))
    leaving = [asyncio.create_task(ask(cached, gateways[0], stream=True)) for _ in range(3)]
    await until(lambda: len(cached.provider.calls) == 1)
    other = asyncio.create_task(ask(cached, gateways[1], stream=True))
    await asyncio.sleep(0.5)
    for one in leaving:
        one.cancel()
    answer = await asyncio.wait_for(other, LEASE_S)
    assert (how(answer), b"found" in answer.content, len(cached.provider.calls)) == ("miss", True, 2)


@pytest.mark.parametrize(
    "script",
    [slowly(error(500), 1.0), Script((ROLE, chunk({"content": "x"}), Pause(1.0)))],
    ids=["refused", "cut"],
)
async def test_an_answer_that_cannot_be_kept_holds_nobody_up(
    cached: Gateway, gateways: list[Served], script: Script
) -> None:
    cached.provider.will(script, *(slowly(stream("fine"), 1.0) for _ in gateways[1:]))
    first = asyncio.create_task(ask(cached, gateways[0], stream=True))
    await until(lambda: len(cached.provider.calls) == 1)
    others = [asyncio.create_task(ask(cached, served, stream=True)) for served in gateways[1:]]
    answers = await asyncio.wait_for(asyncio.gather(*others), 5)  # they ask side by side, not one after the other
    await first
    assert all(b"fine" in answer.content for answer in answers)


async def test_what_is_wanted_afresh_waits_for_nobody(cached: Gateway, gateways: list[Served]) -> None:
    cached.provider.will(slowly(completion("slow"), 5.0), completion("fresh"))
    first = asyncio.create_task(ask(cached, gateways[0]))
    await until(lambda: len(cached.provider.calls) == 1)
    async with cached.at(gateways[1].url) as client:
        told = await client.post("/v1/chat/completions", json=question(), headers={"x-dcoder-cache": "refresh"})
    assert told.json()["choices"][0]["message"]["content"] == "fresh"
    await first


async def test_for_who_has_it_off_nothing_is_in_redis(gateway: Gateway, gateways: list[Served]) -> None:
    server = await gateway.application.process.get(CacheServer)

    async def keys() -> set[bytes]:
        return {key async for key in server._client.scan_iter(match=f"t:{gateway.tenant}:*")}

    before = await keys()
    gateway.provider.will(slowly(completion(), 1.0))
    asking = asyncio.create_task(ask(gateway, gateways[0]))
    await until(lambda: len(gateway.provider.calls) == 1)
    assert await keys() == before
    await asking


async def test_a_lease_tells_nothing_and_goes_with_its_call(cached: Gateway, gateways: list[Served]) -> None:
    server = await cached.application.process.get(CacheServer)

    async def leases() -> list[bytes]:
        return [key async for key in server._client.scan_iter(match=f"t:{cached.tenant}:asking:*")]

    cached.provider.will(slowly(completion("private"), 1.0))
    asking = asyncio.create_task(ask(cached, gateways[0], text="private too"))
    await until(lambda: len(cached.provider.calls) == 1)
    (key,) = await leases()
    value = await server.get(key.decode())
    assert value is not None
    assert len(value) == 16
    assert 0 < await server._client.pttl(key) <= LEASE_S * 1000
    await asking

    async def gone() -> bool:
        return await leases() == []

    await until(gone)


async def test_a_lease_that_somebody_planted_ends(gateway: Gateway, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("functions.gateway.llm.leading.WAIT_S_MAX", 0.3)
    answers = await gateway.application.process.get(Answers)
    sealing = TenantSecrets(DataKey(TenantId(f"{gateway.tenant}-x"), b"k" * 32))
    await answers.lease(sealing.tenant, "answer:x", "somebody", "somebody", 30)
    lead = Lead(answers, sealing, "answer:x")
    await asyncio.wait_for(lead.find(), 5)
    assert (lead.holds, lead.found) == (False, None)


async def test_who_waits_finds_what_was_kept_the_moment_before_the_lease_was_free(gateway: Gateway) -> None:
    answers = await gateway.application.process.get(Answers)
    sealing = TenantSecrets(DataKey(TenantId(f"{gateway.tenant}-y"), b"k" * 32))
    kept = Kept("application/json", json.dumps({"a": 1}).encode(), 1, 5)
    await answers.keep(sealing, "answer:y", kept, 60)
    lead = Lead(answers, sealing, "answer:y")
    await lead.find()
    assert lead.found == kept
    assert await answers.lease(sealing.tenant, "answer:y", "next", "next", 1) == "next"  # it was given up
