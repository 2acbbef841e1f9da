"""Schedules through the runtime."""

from __future__ import annotations

from datetime import datetime

from shared.settings import Settings
from tests.fixtures.runtime import serving_function


async def test_a_wake_up_makes_the_declared_schedules_known_and_the_list_tells_their_times(settings: Settings) -> None:
    async with serving_function("governance-schedules", settings) as runtime:
        assert (await runtime.call("POST", "/v1/schedules/tick", tenant="platform", role="operator")).status_code == 200
        assert (await runtime.call("POST", "/v1/schedules/tick", tenant="acme", role="admin")).status_code == 403
        listed = await runtime.call("GET", "/v1/schedules", tenant="platform", role="operator")
        found = {one["name"]: one for one in listed.json()["schedules"]}
        sweep = found["governance-events.sweep_tenant"]
        assert (sweep["cron"], sweep["per"], sweep["catch_up"]) == ("*/5 * * * *", "tenant", "skip")
        assert datetime.fromisoformat(sweep["next"]).minute % 5 == 0
