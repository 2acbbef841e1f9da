"""Every call is exactly one row of the ledger, whatever becomes of the process and the database."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import asyncpg
import pytest

from shared.errors import Unavailable
from shared.host.control import prepare_control_database
from shared.host.servers import Postgres
from shared.identity import Caller
from shared.ids import KeyId, TenantId
from shared.postgres import ControlDatabase, Databases
from shared.quotas import SCRIPT, Counters, Meter, Metered
from shared.quotas.charging import ended_of
from shared.redis import Script
from shared.usage import Ledger, OpenCall, Outcome, Tokens
from tests.fixtures.control import control_database
from tests.fixtures.ports import free_port
from tests.fixtures.servers import running, scratch_directory
from tests.fixtures.waiting import until

CALLER = Caller(TenantId("acme"), "key:abc", "member", "key", key_id=KeyId("abc"))
EPOCH_US = "SELECT (extract(epoch FROM started_at) * 1000000)::bigint FROM {}"
CALL: dict[str, Any] = {"request_id": "request-1", "model": "gpt-4o-mini", "provider": "openai"}


@pytest.fixture
async def control(postgres_admin_url: str) -> AsyncIterator[ControlDatabase]:
    async with control_database(postgres_admin_url) as control:
        yield control


@pytest.fixture
async def meter(control: ControlDatabase, redis_url: str) -> AsyncIterator[Meter]:
    async with metering(control, redis_url) as meter:
        yield meter


@asynccontextmanager
async def metering(control: ControlDatabase, redis_url: str, *, seen_every_s: float = 0.05) -> AsyncIterator[Meter]:
    meter = Meter(control, Counters(Script(redis_url, SCRIPT)), seen_every_s=seen_every_s)
    yield meter
    await meter.close()


async def begun(meter: Meter) -> Metered:
    """A call that is on disk."""
    call = await meter.begin(CALLER, **CALL)
    await call.durable()
    return call


async def ended(meter: Meter, call: Metered, outcome: Outcome, used: Tokens | None) -> int | None:
    """End the call and wait for its row, as far as it can be written."""
    cost = meter.end(call, outcome, used)
    await meter.flush()
    return cost


async def rows(control: ControlDatabase) -> list[dict[str, Any]]:  # Any: database rows
    return [dict(row) for row in await control.fetch("SELECT * FROM usage_ledger ORDER BY started_at")]


async def open_calls(control: ControlDatabase) -> int:
    return int(await control.fetchval("SELECT count(*) FROM usage_open"))


async def test_a_call_is_open_until_it_ends_and_then_one_row(control: ControlDatabase, meter: Meter) -> None:
    call = await begun(meter)
    assert (await open_calls(control), await rows(control)) == (1, [])
    cost = await ended(meter, call, "done", Tokens(1_000_000, 1_000_000, 500_000))
    (row,) = await rows(control)
    assert (await open_calls(control), cost) == (0, 712_500)
    assert (row["tenant"], row["key_id"], row["request_id"]) == ("acme", "abc", "request-1")
    assert (row["input_tokens"], row["output_tokens"], row["cached_tokens"]) == (1_000_000, 1_000_000, 500_000)
    assert row["started_at"] <= row["ended_at"]


async def test_ending_a_call_twice_writes_one_row(control: ControlDatabase, meter: Meter) -> None:
    call = await begun(meter)
    for _ in range(8):
        meter.end(call, "done", Tokens(1, 1))
    await meter.flush()
    assert len(await rows(control)) == 1


async def test_a_call_that_is_ended_and_swept_at_once_is_one_row(control: ControlDatabase, meter: Meter) -> None:
    for _ in range(20):
        call = await begun(meter)
        await asyncio.gather(ended(meter, call, "done", Tokens(1, 1)), meter.sweep(dead_after_s=0))
    assert (len(await rows(control)), await open_calls(control)) == (20, 0)


async def test_neither_a_sweep_nor_a_sign_of_life_waits_for_a_call_that_is_being_ended(
    control: ControlDatabase, meter: Meter
) -> None:
    call = await begun(meter)
    async with control.transaction() as ending:
        await ending.execute("DELETE FROM usage_open WHERE id = $1", call.call.id)
        await asyncio.wait_for(meter.sweep(dead_after_s=0), 5)
        await asyncio.wait_for(meter._seen(), 5)
    assert (len(await rows(control)), await open_calls(control)) == (0, 0)


async def test_the_row_is_written_even_if_who_waits_for_it_is_cancelled(control: ControlDatabase, meter: Meter) -> None:
    call = await begun(meter)
    ending = asyncio.create_task(ended(meter, call, "client_gone", None))
    await asyncio.sleep(0)
    ending.cancel()

    async def written() -> bool:
        return len(await rows(control)) == 1

    await until(written)


async def test_a_beginning_that_is_cancelled_leaves_no_call_open(control: ControlDatabase, meter: Meter) -> None:
    for turns in range(12):
        beginning = asyncio.create_task(meter.begin(CALLER, **CALL))
        for _ in range(turns):
            await asyncio.sleep(0)
        beginning.cancel()
        await asyncio.wait({beginning})
        if not beginning.cancelled():
            await ended(meter, beginning.result(), "done", Tokens())

    async def none_open() -> bool:
        await meter.sweep(dead_after_s=1)  # for those that the server began after it was told of the cancellation
        return await open_calls(control) == 0

    await until(none_open)


class Flaky:
    """A control database that can be away."""

    def __init__(self, control: ControlDatabase) -> None:
        self.control = control
        self.away = False
        self.refusing: Exception | None = None

    async def execute(self, sql: str, *arguments: object) -> str:
        if self.away:
            raise Unavailable("away")
        if self.refusing is not None:
            raise self.refusing
        return await self.control.execute(sql, *arguments)

    async def fetch(self, sql: str, *arguments: object) -> list[Any]:  # Any: database rows
        if self.away:
            raise Unavailable("away")
        return await self.control.fetch(sql, *arguments)


async def test_a_call_that_postgresql_refuses_to_write_is_no_defect_of_ours(
    control: ControlDatabase, redis_url: str
) -> None:
    flaky = Flaky(control)
    async with metering(flaky, redis_url) as meter:  # type: ignore[arg-type]  # all of it that is used
        flaky.refusing = asyncpg.DeadlockDetectedError("deadlock detected")
        call = await meter.begin(CALLER, **CALL)
        with pytest.raises(Unavailable, match="usage ledger"):
            await call.durable()
        flaky.refusing = None
        await ended(meter, call, "cut", None)
    assert len(await rows(control)) == 1


async def test_a_row_that_could_not_be_written_is_written_when_the_database_is_back(
    control: ControlDatabase, redis_url: str
) -> None:
    flaky = Flaky(control)

    async def written() -> bool:
        return [row["cost_micro_usd"] for row in await rows(control)] == [150_000]

    async with metering(flaky, redis_url) as meter:  # type: ignore[arg-type]  # all of it that is used
        call = await begun(meter)
        flaky.away = True
        assert await ended(meter, call, "done", Tokens(1_000_000)) == 150_000
        flaky.away = False
        await until(written)


async def test_no_call_begins_while_the_ledger_cannot_be_written(control: ControlDatabase, redis_url: str) -> None:
    flaky = Flaky(control)
    async with metering(flaky, redis_url, seen_every_s=60) as meter:  # type: ignore[arg-type]  # all of it that is used
        await ended(meter, await begun(meter), "done", Tokens())
        flaky.away = True
        with pytest.raises(Unavailable):
            await begun(meter)
        with pytest.raises(Unavailable):
            await meter.begin(CALLER, **CALL)
        flaky.away = False
        await begun(meter)


async def test_a_database_that_takes_no_writes_for_a_while_loses_no_row(control: ControlDatabase, meter: Meter) -> None:
    name = await control.fetchval("SELECT current_database()")
    call, lasting = await begun(meter), await begun(meter)
    await read_only(control, name, "on")
    assert await ended(meter, call, "done", Tokens(1_000_000)) == 150_000
    with pytest.raises(Unavailable):
        await begun(meter)
    await asyncio.sleep(0.2)  # for beats that fail
    await read_only(control, name, "off")

    async def written() -> bool:
        return [row["cost_micro_usd"] for row in await rows(control)] == [150_000]

    await until(written, 5)
    await control.execute("UPDATE usage_open SET seen_at = now() - interval '1 hour'")

    async def seen() -> bool:
        return bool(await control.fetchval("SELECT bool_and(seen_at > now() - interval '5 seconds') FROM usage_open"))

    await until(seen, 5)
    await ended(meter, lasting, "done", Tokens(1_000_000))
    assert [row["outcome"] for row in await rows(control)] == ["done", "done"]


async def read_only(control: ControlDatabase, name: str, value: str) -> None:
    """As a server is after a failover that made it a standby: for every connection from here on."""
    change = f"ALTER DATABASE {name} SET default_transaction_read_only TO {value}"
    await control.execute(f"BEGIN READ WRITE; {change}; COMMIT")
    await control.databases.close()


async def test_what_ended_while_the_database_was_down_is_no_unknown_call(redis_url: str) -> None:
    with scratch_directory() as home:
        server = Postgres(home / "postgres", free_port(), "secret")
        with running(server, home):
            dsn = await prepare_control_database(server.url, "dcoder", "dcoder-test")
            databases = Databases(connections_max=4)
            control = ControlDatabase(dsn, databases)
            meter = Meter(control, Counters(Script(redis_url, SCRIPT)), seen_every_s=0.2)
            call = await begun(meter)
        assert await ended(meter, call, "done", Tokens(1_000_000)) == 150_000
        with pytest.raises(Unavailable):
            await begun(meter)
        with running(server, home):
            await control.execute("UPDATE usage_open SET seen_at = now() - interval '1 hour'")
            async with metering(control, redis_url) as other:
                await other.sweep()

            async def written() -> bool:
                return [(row["outcome"], row["cost_micro_usd"]) for row in await rows(control)] == [("done", 150_000)]

            await until(written, 10)
            assert await open_calls(control) == 0
            await meter.close()
            await databases.close()


async def test_the_heartbeat_keeps_an_open_call_from_the_sweeper(control: ControlDatabase, meter: Meter) -> None:
    call = await begun(meter)
    await control.execute("UPDATE usage_open SET seen_at = now() - interval '1 hour'")

    async def seen() -> bool:
        sql = "SELECT seen_at > now() - interval '5 seconds' FROM usage_open"
        return bool(await control.fetchval(sql))

    await until(seen)
    await meter.sweep(dead_after_s=1)
    assert await open_calls(control) == 1
    await ended(meter, call, "done", Tokens())


async def test_an_open_call_of_a_dead_process_becomes_unknown_once_and_is_charged_as_reserved(
    control: ControlDatabase, meter: Meter, redis_url: str
) -> None:
    async with metering(control, redis_url, seen_every_s=60) as dead:
        call = await dead.begin(CALLER, **CALL, most=Tokens(1_000_000, 1_000_000))
        await call.durable()
        await control.execute("UPDATE usage_open SET seen_at = now() - interval '1 hour'")
        await asyncio.gather(
            *(meter.sweep(dead_after_s=0.1) for _ in range(5))
        )  # else the server has to be a second old
        (row,) = await rows(control)
        assert (row["outcome"], row["cost_micro_usd"], row["price_known"]) == ("unknown", None, False)
        assert (row["charged_micro_usd"], row["charged_tokens"]) == (750_000, 2_000_000)
        await ended(dead, call, "done", Tokens(1))  # it was not dead: what the ledger says stays
        assert await rows(control) == [row]


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE usage_ledger SET cost_micro_usd = 0",
        "DELETE FROM usage_ledger",
        "TRUNCATE usage_ledger",
        "TRUNCATE usage_ledger_other",
    ],
)
async def test_the_ledger_is_append_only(control: ControlDatabase, meter: Meter, statement: str) -> None:
    await ended(meter, await begun(meter), "done", Tokens(1))
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await control.execute(statement)
    partition = await control.fetchval("SELECT tableoid::regclass::text FROM usage_ledger")
    with pytest.raises(asyncpg.RaiseError, match="append-only"):
        await control.execute(
            statement.replace("usage_ledger_other", "usage_ledger").replace("usage_ledger", partition)
        )


async def test_a_known_cost_and_an_unknown_price_cannot_stand_in_one_row(control: ControlDatabase) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await control.execute(
            "INSERT INTO usage_ledger (id, started_at, tenant, request_id, model, provider, feature, outcome,"
            " usage_known, price_known, cost_micro_usd)"
            " VALUES (gen_random_uuid(), now(), 't', 'r', 'm', 'p', 'chat', 'done', true, false, 0)"
        )


async def test_there_is_a_partition_for_this_month_and_the_next_two(control: ControlDatabase, meter: Meter) -> None:
    await asyncio.gather(*(meter.sweep() for _ in range(4)))
    names = await control.fetch("SELECT relid::regclass::text AS name FROM pg_partition_tree('usage_ledger')")
    assert len([row for row in names if row["name"].startswith("usage_ledger_2")]) == 3


def call_at(at: datetime) -> OpenCall:
    return OpenCall(uuid4(), int(at.timestamp() * 1_000_000), CALLER.tenant, "abc", "r", "gpt-4o-mini", "p", "chat")


async def test_times_are_kept_to_the_microsecond(control: ControlDatabase) -> None:
    ledger = Ledger(control, "a process")
    call = replace(call_at(datetime.now(UTC)), started_us=1_795_787_886_634_393)
    await ledger.open(call)
    assert await control.fetchval(EPOCH_US.format("usage_open")) == call.started_us
    await ledger.close(call, ended_of(call, "done", Tokens()))
    assert await control.fetchval(EPOCH_US.format("usage_ledger")) == call.started_us


async def test_a_row_that_cannot_be_written_keeps_no_other_from_it(control: ControlDatabase) -> None:
    ledger = Ledger(control, "a process")
    calls = [replace(call_at(datetime.now(UTC)), model=model) for model in ("good", "a\0b", "fine")]
    told = await asyncio.gather(*(ledger.open(call) for call in calls), return_exceptions=True)
    assert [isinstance(one, Exception) for one in told] == [False, True, False]
    assert await open_calls(control) == 2


async def test_many_calls_at_once_are_few_transactions(control: ControlDatabase, meter: Meter) -> None:
    calls = await asyncio.gather(*(meter.begin(CALLER, **CALL) for _ in range(200)))
    for call in calls:
        meter.end(call, "done", Tokens(1))
    await meter.flush()
    assert await open_calls(control) == 0
    counted = await control.fetchrow("SELECT count(*) AS rows, count(DISTINCT xmin::text) AS xids FROM usage_ledger")
    assert counted is not None
    assert counted["rows"] == 200
    assert counted["xids"] < 50


@pytest.mark.parametrize("zone", ["UTC", "Pacific/Auckland", "America/Los_Angeles"])
async def test_months_begin_in_utc_wherever_the_server_is(postgres_admin_url: str, zone: str) -> None:
    async with control_database(postgres_admin_url) as control:
        name = await control.fetchval("SELECT current_database()")
        await control.execute(f"ALTER DATABASE {name} SET timezone TO '{zone}'")
        this_month = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=0, microsecond=0)
        ledger = Ledger(control, "a process")
        for at in (this_month, this_month + timedelta(days=32)):
            await ledger.close(call_at(at), ended_of(call_at(at), "done", Tokens()))
        places = await control.fetch("SELECT tableoid::regclass::text AS place FROM usage_ledger ORDER BY started_at")
        next_month = this_month + timedelta(days=32)
        assert [row["place"] for row in places] == [f"usage_ledger_{at:%Y%m}" for at in (this_month, next_month)]


async def test_a_row_takes_less_than_seven_hundred_bytes(control: ControlDatabase, meter: Meter) -> None:
    await ended(meter, await begun(meter), "done", Tokens(1))
    assert await control.fetchval("SELECT pg_column_size(l.*) FROM usage_ledger l") < 700
