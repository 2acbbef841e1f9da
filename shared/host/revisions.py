"""Tenants' own functions on this machine: each revision that calls go to, in a process of its own.

The control database says what is to run; this starts and ends processes until it is so, and says where each answers. A
process gets its bundle, the platform's public key and what its function's types ask for, and none of the host's own
environment. It runs as the same user, though: what keeps it from the platform's files is a cluster, not this.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from shared.bundles import revisions as own
from shared.bundles.grants import grants_of
from shared.bundles.loading import ARCHIVE, SIGNATURE, STATEMENT
from shared.bundles.revisions import Kept, Wanted
from shared.errors import NotFound, Problem
from shared.function.dedication import Origins, object_key_of, variables
from shared.function.process import Process
from shared.host import probes
from shared.host.children import Command, Trace, end, spawn, trace
from shared.host.dedications import SETTLED_S
from shared.host.files import private_directory, tail, write_private_bytes
from shared.host.home import Home
from shared.host.ports import LOOPBACK, listen
from shared.host.stack import LISTENER, ROOT, python_environment
from shared.identity import Tokens
from shared.postgres import ControlDatabase
from shared.settings import NOT_GRANTED, Settings
from shared.telemetry import log
from shared.tenancy import TenantRegistry
from shared.tenancy.dedications import Credentials

POLL_S = 0.5
START_TIMEOUT_S = 30.0
BACK_OFF_FIRST_S = 1.0
BACK_OFF_MAX_S = 30.0
STOP_GRACE_S = 12.0
CONNECTIONS_MAX = 4
MODULE = "shared.host.functions"


@dataclass
class Running:
    """A revision's process. Its socket outlives it: while it is started anew, its callers wait instead of failing."""

    listener: socket.socket
    process: subprocess.Popen[bytes]
    began: float
    answers: bool = False
    back_off_s: float = BACK_OFF_FIRST_S
    resting_until: float = 0.0
    unwanted_since: float = 0.0

    @property
    def port(self) -> int:
        return int(self.listener.getsockname()[1])


class OwnProcesses:
    """Keeps the wanted revisions running, of all tenants."""

    def __init__(self, process: Process, home: Home) -> None:
        self._process = process
        self._home = home
        self._running: dict[Wanted, Running] = {}

    async def run(self) -> None:
        """Until cancelled; then every process has ended."""
        shutil.rmtree(self._home.bundles, ignore_errors=True)
        anew = True
        try:
            while True:
                try:
                    if anew:
                        await own.forget_addresses(await self._process.get(ControlDatabase))
                        anew = False
                    await self.step()
                except (Problem, OSError) as failure:
                    log("own_functions_delayed", error=repr(failure))
                await asyncio.sleep(POLL_S)
        finally:
            for one in list(self._running):
                await self._end(one)

    async def step(self) -> None:
        """Start, look after and end processes once."""
        wanted = await own.wanted(await self._process.get(ControlDatabase))
        for one in [*(gone for gone in self._running if gone not in wanted), *wanted]:
            try:
                await (self._advance(one) if one in wanted else self._retire(one))
            except (Problem, OSError) as failure:  # of this one; the others need not wait for it
                log("own_function_delayed", tenant=one.tenant, function=one.name, error=repr(failure))

    async def _advance(self, one: Wanted) -> None:
        running = self._running.get(one)
        if running is not None:
            running.unwanted_since = 0.0
        if running is None:
            await self._start(one)
        elif running.process.poll() is not None:
            await self._again(one, running)
        elif not running.answers:
            await self._look(one, running)

    async def _retire(self, one: Wanted) -> None:
        """End a process when nobody goes by what was read while calls went to it."""
        running = self._running[one]
        running.unwanted_since = running.unwanted_since or time.monotonic()
        if time.monotonic() - running.unwanted_since < SETTLED_S:
            return
        control = await self._process.get(ControlDatabase)
        async with control.transaction() as transaction:
            over = await own.retire(transaction, one)
        if over:
            await self._end(one)

    async def _start(self, one: Wanted) -> None:
        listener = listen(0)
        try:
            process = await self._spawned(one, listener)
        except BaseException:
            listener.close()
            raise
        self._running[one] = Running(listener, process, time.monotonic())

    async def _spawned(self, one: Wanted, listener: socket.socket) -> subprocess.Popen[bytes]:
        control = await self._process.get(ControlDatabase)
        kept = await own.kept(control, one.tenant, one.name, one.revision)
        registry, tokens = await self._process.get(TenantRegistry), await self._process.get(Tokens)
        held = await registry.credentials(one.tenant, tokens.public)
        folder = self._folder(one)
        write_bundle(folder, kept, held.issuer_key)
        told = environment(self._process.settings, kept, folder, held)
        command = Command(
            (sys.executable, "-P", "-m", MODULE),
            ROOT,
            {**python_environment(told), LISTENER: str(listener.fileno())},
            descriptors=(listener.fileno(),),
            inherits=False,
            orphan_signal=signal.SIGKILL,
        )
        return spawn(command, self._home.logs / f"{log_name(one.tenant, one.name, one.revision)}.log")

    async def _look(self, one: Wanted, running: Running) -> None:
        """Say where it answers, once it does; or why it does not."""
        if await asyncio.to_thread(ready, running.port):
            await self._say(one, address=f"http://{LOOPBACK}:{running.port}")
            running.answers, running.back_off_s = True, BACK_OFF_FIRST_S
        elif time.monotonic() - running.began > START_TIMEOUT_S:
            await asyncio.to_thread(end, process_trace(running), grace_s=STOP_GRACE_S)

    async def _again(self, one: Wanted, running: Running) -> None:
        """Start an ended process anew, later each time that it did not come to answer."""
        if not running.resting_until:
            if not running.answers:
                await self._say(one, failure=self._last_words(one))
            running.resting_until = time.monotonic() + running.back_off_s
            running.back_off_s = min(2 * running.back_off_s, BACK_OFF_MAX_S)
        if time.monotonic() >= running.resting_until:
            running.process = await self._spawned(one, running.listener)
            running.began, running.answers, running.resting_until = time.monotonic(), False, 0.0

    async def _say(self, one: Wanted, *, address: str = "", failure: str = "") -> None:
        control = await self._process.get(ControlDatabase)
        try:
            async with control.transaction() as transaction:
                if address:
                    await own.answers(transaction, one.tenant, one.name, one.revision, address)
                else:
                    await own.fails(transaction, one.tenant, one.name, one.revision, failure)
        except NotFound:
            return  # deleted meanwhile: the next step ends it

    async def _end(self, one: Wanted) -> None:
        running = self._running.pop(one)
        if running.process.poll() is None:
            await asyncio.to_thread(end, process_trace(running), grace_s=STOP_GRACE_S)
        running.process.poll()
        running.listener.close()
        shutil.rmtree(self._folder(one), ignore_errors=True)

    def _folder(self, one: Wanted) -> Path:
        return self._home.bundles / one.tenant / one.name / f"{one.revision}-{one.digest[:12]}"

    def _last_words(self, one: Wanted) -> str:
        text = tail(self._home.logs / f"{log_name(one.tenant, one.name, one.revision)}.log")
        return text or "its process ended without a word"


def log_name(tenant: str, name: str, revision: int) -> str:
    """Two hyphens: neither name has them, so no two revisions share a log."""
    return f"own--{tenant}--{name}--{revision}"


def ready(port: int) -> bool:
    return probes.http_status(port, "/health/ready") == 200


def process_trace(running: Running) -> Trace:
    return trace(running.process.pid)


def write_bundle(folder: Path, kept: Kept, issuer_key: bytes) -> None:
    """The three files of the bundle, and the key that proves them."""
    for place in (folder, folder / "keys"):
        private_directory(place)
    files = {
        folder / ARCHIVE: kept.sealed.archive,
        folder / STATEMENT: kept.sealed.statement,
        folder / SIGNATURE: kept.sealed.signature,
        folder / "keys" / "issuer.key": issuer_key,
    }
    for path, content in files.items():
        write_private_bytes(path, content)


def environment(settings: Settings, kept: Kept, folder: Path, held: Credentials) -> Mapping[str, str]:
    """All that the process is told. Raises `Fault` when the tenant lacks what it asks for."""
    grants = grants_of(kept.manifest)
    origins = Origins(settings.platform_url, settings.llm_url, settings.objects_url)
    return {
        **variables(kept.tenant, kept.manifest.function, grants, origins),
        "PATH": os.environ.get("PATH", os.defpath),
        "DCODER_BUNDLE": str(folder),
        "DCODER_BUNDLE_DIGEST": kept.sealed.digest,
        **object_key_of(kept.tenant, held, grants),
        "DCODER_POSTGRES_URL": held.database_url if "postgres" in grants else NOT_GRANTED,
        "DCODER_SECRETS_DIR": str(folder / "keys"),
        "DCODER_CONNECTIONS_MAX": str(CONNECTIONS_MAX),
    }
