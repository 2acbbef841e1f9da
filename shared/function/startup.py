"""A container's start: what it opens before the first call, and one log line of when it reached what.

Times are seconds since the epoch, to be read beside those of a cluster: what was before the process is not known here.
"""

from __future__ import annotations

import asyncio
import os
import time
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from shared.telemetry import log

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from shared.function.app import Application

EVENT = "started"
PROBES = "/health/"
READY = "/health/ready"
OK = 200


class Startup:
    """The moments of this process's start, each noted once."""

    def __init__(self) -> None:
        self.at: dict[str, float] = {}

    def reached(self, moment: str) -> None:
        self.at.setdefault(moment, time.time())

    def report(self) -> None:
        with suppress(OSError):  # no /proc: then the line begins with our own first moment
            self.at["process"] = process_began()
        moments = {name: round(at, 4) for name, at in sorted(self.at.items(), key=lambda one: one[1])}
        log(EVENT, processor_ms=round(time.process_time() * 1000), at=moments)


startup = Startup()
"""The process's one."""


def process_began() -> float:
    """When the kernel started this process, to its tick of 10 ms."""
    fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    age_s = time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")
    return time.time() - age_s


def defer_models() -> None:
    """Let each pydantic model be built when it is first used. To be called before any is declared.

    FastAPI declares fifty for its OpenAPI document at import, an eighth of all processor time until a process is ready,
    and no container is asked for that document. Pydantic has the setting for one's own models only.
    """
    from pydantic._internal import _config

    _config.config_defaults["defer_build"] = True


async def open_early(application: Application) -> None:
    """Open what every call needs, while the cluster does not yet know the pod's address: then it costs no time.

    What fails here fails again at the first probe or call, which says so.
    """
    for one in application.deployables:
        if one.function.early is not None:
            application.process.background(asyncio.to_thread(one.function.early), name=f"early-{one.name}")
    from shared.function.injection import REGISTRY_GRANTS, grants_of
    from shared.function.tenants import own_database
    from shared.identity import Identity
    from shared.ids import PLATFORM

    if not application.process.settings.has_database:
        return
    await (await own_database(application.process)).fetchval("SELECT 1")
    startup.reached("connected")
    if application.process.settings.dedicated_tenant:
        return
    await application.process.get(Identity)
    if any(grants_of(one.function) >= REGISTRY_GRANTS for one in application.deployables):
        from shared.secrets import TenantSecrets, new_data_key
        from shared.tenancy import TenantRegistry

        await application.process.get(TenantRegistry)
        await TenantSecrets(new_data_key(PLATFORM)).seal("start", b"")  # loads the cipher that opens tenants' keys


def watched(application: Application) -> ASGIApp:
    """The app, which opens early, notes its first probe, readiness and call, and reports once."""
    reported = False

    async def answer(scope: Scope, receive: Receive, send: Send) -> None:
        nonlocal reported
        if scope["type"] == "lifespan":
            application.process.background(open_early(application), name="open-early")
        if reported or scope["type"] != "http":
            await application(scope, receive, send)
            return
        probe = scope["path"].startswith(PROBES)
        startup.reached("probed" if probe else "called")

        async def note(message: Message) -> None:
            if message["type"] == "http.response.start":
                if not probe:
                    startup.reached("answered")
                elif scope["path"] == READY and message["status"] == OK:
                    startup.reached("ready")
            await send(message)

        await application(scope, receive, note)
        if not (probe or reported):
            reported = True
            startup.report()

    return answer
