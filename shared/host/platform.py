"""Every function but the gateway, with what the host does beside: `python -m shared.host.platform`."""

from __future__ import annotations

from collections.abc import Awaitable

from shared.host.functions import run_until_stopped
from shared.host.home import find_home
from shared.host.stack import GATEWAY
from shared.settings import Settings

SCHEDULES = "governance-schedules"
TICKS_PATH = "/v1/schedules/tick"
HOST = "host:ticks"
CONNECTIONS_MAX = 4
"""Delivery writes dead letters only."""


def deliver(settings: Settings) -> Awaitable[None]:
    """Post events to the functions that asked for them, the gateway's included."""
    from shared.function import catalog
    from shared.host.delivery import Delivery
    from shared.host.subscriptions import subscriptions
    from shared.postgres import ControlDatabase, Databases

    served = list(settings.functions)
    if (catalog.ROOT / "functions" / GATEWAY.replace("-", "/") / "function.py").exists():
        served.append(GATEWAY)
    control = ControlDatabase(settings.postgres_url, Databases(CONNECTIONS_MAX))
    return Delivery(settings.nats_url, control, subscriptions(catalog.select(served), settings)).run()


def tick(settings: Settings) -> Awaitable[None]:
    """Wake the schedules up once a minute."""
    from shared.host.ticks import Ticks
    from shared.identity import Caller, Tokens
    from shared.ids import PLATFORM
    from shared.secrets import read_key

    tokens = Tokens(read_key(settings, "tokens"))
    caller = Caller(PLATFORM, HOST, "system", "function")
    return Ticks(settings.platform_url + TICKS_PATH, lambda: tokens.mint(caller, audience=SCHEDULES)).run()


async def run_own(settings: Settings) -> None:
    """Run tenants' own functions, each revision in a process of its own."""
    from shared.function.process import Process
    from shared.function.resources import OPENERS
    from shared.host.revisions import OwnProcesses

    process = Process(settings, OPENERS)
    try:
        await OwnProcesses(process, find_home()).run()
    finally:
        await process.close()


def main() -> None:
    settings = Settings.from_environment()
    run_until_stopped([lambda: deliver(settings), lambda: tick(settings), lambda: run_own(settings)])


if __name__ == "__main__":
    main()
