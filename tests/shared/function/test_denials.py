"""Refused calls are recorded: each, counted, and none lost to the moment it came in."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from shared.errors import Unavailable
from shared.function import Function, denials
from shared.function.denials import Denial, Denials
from shared.ids import PLATFORM, TenantId
from tests.fixtures.waiting import until
from tests.shared.function.conftest import Serve

ACME = TenantId("acme")


class Outbox:
    """A control database that keeps what is audited, and can be slow or away."""

    tenant = PLATFORM

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.away = False
        self.gate = asyncio.Event()
        self.gate.set()
        self.writing = 0

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[Outbox]:
        self.writing += 1
        await self.gate.wait()
        if self.away:
            raise Unavailable("away")
        yield self

    async def audit(self, action: str, resource: str, *, details: dict[str, int], **_: object) -> None:
        self.counts[action] = self.counts.get(action, 0) + details["count"]


@pytest.fixture
def outbox(monkeypatch: pytest.MonkeyPatch) -> Outbox:
    monkeypatch.setattr(denials, "FLUSH_S", 0.02)
    return Outbox()


def record(of: Denials, action: str) -> None:
    of.record(Denial(ACME, "key:x", action, "/path", "forbidden"))


async def test_a_refusal_that_comes_while_others_are_written_is_written_too(outbox: Outbox) -> None:
    collected = Denials(outbox)  # type: ignore[arg-type]  # all of it that the collector uses
    outbox.gate.clear()
    record(collected, "first")
    await until(lambda: outbox.writing == 1)
    record(collected, "second")
    outbox.gate.set()
    await until(lambda: outbox.counts == {"first": 1, "second": 1}, 5)


async def test_refusals_outlive_a_database_that_is_away(outbox: Outbox) -> None:
    collected = Denials(outbox)  # type: ignore[arg-type]  # all of it that the collector uses
    outbox.away = True
    record(collected, "first")
    await until(lambda: outbox.writing > 1, 5)
    record(collected, "first")
    outbox.away = False
    await until(lambda: outbox.counts == {"first": 2}, 5)


async def test_the_end_of_the_process_waits_for_what_is_being_written(outbox: Outbox) -> None:
    collected = Denials(outbox)  # type: ignore[arg-type]  # all of it that the collector uses
    outbox.gate.clear()
    record(collected, "first")
    await until(lambda: outbox.writing == 1)
    closing = asyncio.create_task(collected.close())
    await asyncio.sleep(0)
    outbox.gate.set()
    await closing
    assert outbox.counts == {"first": 1}


async def test_whoever_has_no_key_chooses_no_text_in_the_log(serve: Serve) -> None:
    function = Function()

    @function.get("/things/{name}", permission="documents:read")
    async def look(name: str) -> None:
        """Look."""

    served = serve(function)
    async with served.client() as client:
        del client.headers["authorization"]
        answers = [await client.get(f"/things/{number}") for number in range(3)]
        assert {answer.status_code for answer in answers} == {401}
        collected = await served.application.process.get(Denials)
        assert [(one.resource, count) for one, count in collected._pending.items()] == [("/things/{name}", 3)]
