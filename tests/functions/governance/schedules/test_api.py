"""Schedules through the runtime."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import uuid4

import pytest

from shared.events import CloudEvent, to_http
from shared.events.subjects import MINUTE_PASSED
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from tests.fixtures.runtime import Runtime, serving_function


async def test_a_wake_up_makes_the_declared_schedules_known_and_the_list_tells_their_times(settings: Settings) -> None:
    async with serving_function("governance-schedules", settings) as runtime:
        assert (await runtime.call("POST", "/v1/schedules/tick", tenant="platform", role="operator")).status_code == 200
        assert (await runtime.call("POST", "/v1/schedules/tick", tenant="acme", role="admin")).status_code == 403
        listed = await runtime.call("GET", "/v1/schedules", tenant="platform", role="operator")
        found = {one["name"]: one for one in listed.json()["schedules"]}
        sweep = found["governance-events.sweep_tenant"]
        assert (sweep["cron"], sweep["per"], sweep["catch_up"]) == ("*/5 * * * *", "tenant", "skip")
        assert datetime.fromisoformat(sweep["next"]).minute % 5 == 0


async def ping(runtime: Runtime, tenant: TenantId = PLATFORM, path: str = "/events/governance-schedules") -> int:
    """What a PingSource sends, or anybody who imitates it."""
    source = "/apis/v1/namespaces/dcoder/pingsources/schedules-tick"
    event = CloudEvent(str(uuid4()), source, MINUTE_PASSED, "", tenant, datetime.now(UTC), {"claim": "everything"})
    headers, body = to_http(event)
    return (await runtime.client.post(path, headers=headers, content=body)).status_code


async def claims(control: ControlDatabase) -> list[datetime]:
    query = "SELECT nominal FROM schedule_ticks WHERE schedule = 'governance-schedules.wake' ORDER BY nominal"
    return [row["nominal"] for row in await control.fetch(query)]


async def test_a_ping_without_a_token_starts_what_is_due_once_a_minute(
    settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving_function("governance-schedules", settings) as runtime:
        process = runtime.application.process
        control = await process.get(ControlDatabase)
        later = datetime.now(UTC) + timedelta(hours=2)  # nobody else's minutes in this database
        minute = later.replace(second=0, microsecond=0)
        monkeypatch.setattr(process.clock, "now", lambda: minute - timedelta(seconds=1))
        assert await ping(runtime) == 204, "which makes the schedules known"
        before = await claims(control)
        monkeypatch.setattr(process.clock, "now", lambda: minute + timedelta(seconds=59))
        work = "SELECT count(*) FROM schedule_ticks WHERE nominal > $1 AND schedule <> 'governance-schedules.wake'"

        assert [await ping(runtime) for _ in range(20)] == [204] * 20
        assert await claims(control) == [*before, minute]
        started = await control.fetchval(work, minute - timedelta(hours=1))
        assert started > 0

        monkeypatch.setattr(process.clock, "now", lambda: minute + timedelta(seconds=60))
        assert await ping(runtime) == 204, "a forged one at the end of a minute takes nothing from the next"
        assert await claims(control) == [*before, minute, minute + timedelta(minutes=1)]
        await control.execute("UPDATE schedules SET reached = now()")


async def test_a_ping_moves_no_function_but_that_one(settings: Settings) -> None:
    async with serving_function("knowledge-documents", settings) as runtime:
        assert await ping(runtime, path="/events/knowledge-documents") == 204
    async with serving_function("governance-schedules", settings) as runtime:
        assert await ping(runtime, path="/events/knowledge-documents") == 404
