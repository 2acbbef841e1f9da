"""One budget over all databases: bounded, clean, and no connection lost to a cancelled call."""

from __future__ import annotations

import asyncio
import secrets
import signal
import traceback
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from shared.errors import Unavailable
from shared.function.process import Process
from shared.function.resources import OPENERS
from shared.host.servers import Postgres, start
from shared.ids import TenantId
from shared.postgres import ControlDatabase, Databases, address
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.ports import free_port
from tests.fixtures.servers import scratch_directory
from tests.fixtures.waiting import until


async def connections(control: ControlDatabase, prefix: str) -> int:
    sql = "SELECT count(*) FROM pg_stat_activity WHERE starts_with(datname, $1)"
    return int(await control.fetchval(sql, prefix))


async def test_many_tenants_share_one_budget(settings: Settings, control: ControlDatabase) -> None:
    process = Process(replace(settings, connections_max=6), OPENERS)
    registry = await process.get(TenantRegistry)
    names = [TenantId(f"crowd-{number}") for number in range(20)]
    for name in names:
        await registry.create(name)
    peak = 0

    async def use(name: TenantId) -> None:
        nonlocal peak
        database = await registry.database(name)
        for _ in range(3):
            assert await database.fetchval("SELECT current_database()") == f"t_{name.replace('-', '_')}"
            peak = max(peak, await connections(control, "t_crowd"))

    await asyncio.gather(*(use(name) for name in names))
    assert 1 <= peak <= 8  # six of ours; the server lists one for a moment after it was closed
    for name in names:
        await registry.delete(name)
    await process.close()


async def test_a_spent_budget_is_told_after_a_bounded_wait(settings: Settings) -> None:
    databases = Databases(1, wait_s_max=0.1)
    async with databases.connection(settings.postgres_url):
        with pytest.raises(Unavailable) as refused:
            async with databases.connection(settings.postgres_url):
                pass
    assert refused.value.retry_after_s
    await databases.close()


@pytest.fixture
async def narrow(settings: Settings, control: ControlDatabase) -> AsyncIterator[str]:
    """The address of the control database as a role that may have two connections."""
    role, password = f"narrow_{secrets.token_hex(4)}", secrets.token_hex(8)
    await control.execute(f"CREATE ROLE {role} LOGIN CONNECTION LIMIT 2 PASSWORD '{password}'")
    await control.execute(f"GRANT CONNECT ON DATABASE dcoder TO {role}")
    yield address(settings.postgres_url, database="dcoder", user=role, password=password)
    await control.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


async def test_a_full_database_is_waited_for_until_others_let_go(narrow: str) -> None:
    """Three processes want four connections each of a role that may have two."""
    processes = [Databases(4, idle_close_s=0.2) for _ in range(3)]

    async def use(databases: Databases) -> None:
        async with databases.connection(narrow) as connection:
            await connection.execute("SELECT pg_sleep(0.05)")

    async with asyncio.timeout(30):
        await asyncio.gather(*(use(databases) for databases in processes for _ in range(8)))
    for databases in processes:
        await databases.close()


async def test_who_waits_for_a_full_database_holds_up_no_other(settings: Settings, narrow: str) -> None:
    holding, waiting = Databases(2), Databases(1, wait_s_max=0.5, full_wait_s=1.5)

    async def wait() -> None:
        with pytest.raises(Unavailable) as refused:
            async with waiting.connection(narrow):
                pass
        assert "takes no further connection: too many connections for role" in refused.value.detail
        assert refused.value.retry_after_s

    async with holding.connection(narrow), holding.connection(narrow):
        full = asyncio.create_task(wait())
        while not full.done():
            async with waiting.connection(settings.postgres_url) as connection:
                assert await connection.fetchval("SELECT 1") == 1
            await asyncio.sleep(0.01)
        await full
    await holding.close()
    await waiting.close()


async def test_a_storm_of_cancelled_calls_leaves_no_transaction_open(settings: Settings) -> None:
    databases = Databases(4, wait_s_max=5)
    control = ControlDatabase(settings.postgres_url, databases)

    async def slow() -> None:
        async with control.transaction() as transaction:
            await transaction.execute("SELECT 'storm', pg_sleep(0.05)")

    for _ in range(10):
        tasks = [asyncio.create_task(slow()) for _ in range(20)]
        await asyncio.sleep(0.02)
        for task in tasks[::2]:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    open_transactions = await control.fetchval(
        "SELECT count(*) FROM pg_stat_activity WHERE state LIKE 'idle in transaction%' AND query LIKE '%storm%'"
    )
    assert open_transactions == 0
    assert await control.fetchval("SELECT 1") == 1
    await databases.close()


async def test_a_rolled_back_transaction_leaves_a_clean_connection(settings: Settings) -> None:
    databases = Databases(1)
    control = ControlDatabase(settings.postgres_url, databases)

    async def break_off() -> None:
        async with control.transaction() as transaction:
            await transaction.execute("SET LOCAL search_path = nowhere")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await break_off()
    assert await control.fetchval("SHOW search_path") != "nowhere"
    await databases.close()


async def test_idle_connections_are_closed(settings: Settings, control: ControlDatabase) -> None:
    databases = Databases(4, idle_close_s=0.2)
    own = ControlDatabase(settings.postgres_url, databases)
    pid = await own.fetchval("SELECT pg_backend_pid()")
    for _ in range(100):
        if not await control.fetchval("SELECT true FROM pg_stat_activity WHERE pid = $1", pid):
            break
        await asyncio.sleep(0.05)
    else:
        raise AssertionError("the idle connection was not closed within 5 s")
    await databases.close()


async def test_a_connection_that_was_cut_is_replaced_at_the_next_use(settings: Settings) -> None:
    databases = Databases(2)
    database = ControlDatabase(settings.postgres_url, databases)
    with pytest.raises(Unavailable):
        await database.fetch("SELECT pg_terminate_backend(pg_backend_pid())")
    assert await database.fetchval("SELECT 1") == 1
    await databases.close()


@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGKILL])
async def test_a_restarted_server_is_reached_within_five_seconds(tmp_path: Path, end: signal.Signals) -> None:
    with scratch_directory() as home:
        server = Postgres(home / "postgres", free_port(), secrets.token_hex(8), durable=False)
        first = start(server, tmp_path / "postgres.log")
        databases = Databases(2)
        database = ControlDatabase(server.url, databases)
        await database.execute("CREATE TABLE kept AS SELECT 1 AS n")
        first.process.send_signal(end)
        await asyncio.to_thread(first.process.wait, 10)
        await until(partial(refuses, database), timeout_s=5)  # a killed server's child may answer once more
        second = await asyncio.to_thread(start, server, tmp_path / "postgres.log")
        try:
            await until(partial(answers, database), timeout_s=5)
        finally:
            await databases.close()
            await asyncio.to_thread(second.stop)


async def refuses(database: ControlDatabase) -> bool:
    return not await answers(database)


async def answers(database: ControlDatabase) -> bool:
    try:
        return bool(await database.fetchval("SELECT n FROM kept") == 1)
    except Unavailable:
        return False


@pytest.mark.parametrize("wrong", [{"password": "not-the-password"}, {"database": "nowhere"}, {"port": 1}])
async def test_no_failure_to_connect_tells_the_address(settings: Settings, wrong: dict[str, str | int]) -> None:
    parts = urlsplit(settings.postgres_url)
    password = str(wrong.get("password", parts.password))
    place = f"{parts.hostname}:{wrong.get('port', parts.port)}/{wrong.get('database', 'dcoder')}"
    databases = Databases(1)
    with pytest.raises(Unavailable) as failed:
        await ControlDatabase(f"postgresql://dcoder:{password}@{place}", databases).fetchval("SELECT 1")
    assert password not in "".join(traceback.format_exception(failed.value))
    await databases.close()
