"""Keeps processes running: starts each, waits until it is healthy, restarts it with back-off, stops it in order."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import socket
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from shared.host.children import Trace, end, surroundings, trace, without_root
from shared.host.home import Home
from shared.host.servers import START_TIMEOUT_S, Server, StartFailed, start_failure
from shared.host.stack import PythonChild

HEALTH_POLL_S = 0.05
WATCH_EVERY_S = 5.0
MISSES_MAX = 6
"""So many probes in a row may fail before a process that still runs counts as hung."""
BACK_OFF_FIRST_S = 0.5
BACK_OFF_MAX_S = 30.0
FIRST_ATTEMPTS_MAX = 3
"""What a killed host left behind may hold files and ports for a moment longer."""
STEADY_S = 60.0
"""A process that ran this long starts its next back-off from the beginning."""
LOG_BYTES_MAX = 16 * 1024 * 1024

Report = Callable[[str, Mapping[str, object]], None]


@dataclass
class Unit:
    """A supervised process and what is known of it."""

    server: Server
    process: asyncio.subprocess.Process | None = None
    ready: asyncio.Event = field(default_factory=asyncio.Event)
    restarts: int = 0
    failure: str = ""

    @property
    def name(self) -> str:
        return self.server.name


class Supervisor:
    """Starts units, records them in `children.json`, and keeps them running until `stop`."""

    def __init__(self, home: Home, report: Report) -> None:
        self._home = home
        self._report = report
        self._units: list[Unit] = []
        self._keepers: list[asyncio.Task[None]] = []
        self._held: list[socket.socket] = []

    async def start(self, *servers: Server) -> None:
        """Start these side by side and wait until all are healthy. Raises `StartFailed` with the first log's end."""
        units = [Unit(server) for server in servers]
        self._units += units
        outcomes = await asyncio.gather(*(self._first_start(unit) for unit in units), return_exceptions=True)
        for outcome in outcomes:
            if outcome is not None:
                raise outcome
        self._keepers += [asyncio.create_task(self._keep(unit), name=f"keep {unit.name}") for unit in units]

    def hold(self, listener: socket.socket) -> int:
        """Keep a listening socket open until `stop`. Returns its descriptor, for children to inherit."""
        self._held.append(listener)
        return listener.fileno()

    def held(self, port: int) -> socket.socket:
        """The listening socket of that port, which `hold` keeps."""
        return next(one for one in self._held if one.getsockname()[1] == port)

    async def forget(self, child: PythonChild) -> None:
        """Keep nothing of a process that did not start, but its listening socket."""
        for unit in [one for one in self._units if one.name == child.name]:
            await self._end(unit)
            self._units.remove(unit)
        self._record()

    async def retire(self, child: PythonChild) -> None:
        """Stop one process in order, and keep neither it nor its listening socket any more."""
        keepers = [one for one in self._keepers if one.get_name() == f"keep {child.name}"]
        for keeper in keepers:
            keeper.cancel()
        await asyncio.gather(*keepers, return_exceptions=True)
        self._keepers = [one for one in self._keepers if one not in keepers]
        for unit in [one for one in self._units if one.name == child.name]:
            await self._end(unit)
            self._units.remove(unit)
        for listener in [one for one in self._held if one.fileno() == child.listener]:
            listener.close()
            self._held.remove(listener)
        self._record()

    async def stop(self) -> None:
        """Stop everything: first the functions, then the servers they use."""
        for keeper in self._keepers:
            keeper.cancel()
        await asyncio.gather(*self._keepers, return_exceptions=True)
        for listener in self._held:
            listener.close()
        functions = [unit for unit in self._units if isinstance(unit.server, PythonChild)]
        servers = [unit for unit in self._units if unit not in functions]
        for group in (functions, servers):
            await asyncio.gather(*(self._end(unit) for unit in group))
        self._keepers, self._units, self._held = [], [], []
        self._home.remove("children.json")

    async def _first_start(self, unit: Unit) -> None:
        began = time.monotonic()
        self._report("starting", {"name": unit.name})
        for attempt in range(1, FIRST_ATTEMPTS_MAX + 1):
            await asyncio.to_thread(unit.server.prepare)
            await self._spawn(unit)
            if await self._until_healthy(unit):
                break
            failure = start_failure(unit.name, returncode(unit), self._log(unit))
            await self._end(unit)
            if attempt == FIRST_ATTEMPTS_MAX:
                raise StartFailed(failure)
            await asyncio.sleep(attempt)
        self._report("started", {"name": unit.name, "seconds": round(time.monotonic() - began, 2)})

    async def _spawn(self, unit: Unit) -> None:
        command = unit.server.command()
        log = self._log(unit)
        if log.exists() and log.stat().st_size > LOG_BYTES_MAX:
            log.replace(log.with_suffix(".log.1"))
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("ab") as output:
            unit.process = await asyncio.create_subprocess_exec(
                *without_root(command),
                *command.argv,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                **surroundings(command),
            )
        self._record()

    async def _until_healthy(self, unit: Unit) -> bool:
        deadline = time.monotonic() + START_TIMEOUT_S
        while not await asyncio.to_thread(unit.server.healthy):
            if unit.process is None or unit.process.returncode is not None or time.monotonic() > deadline:
                return False
            await asyncio.sleep(HEALTH_POLL_S)
        unit.ready.set()
        return True

    async def _keep(self, unit: Unit) -> None:
        """Restart the unit whenever it ends or hangs, waiting longer each time it does so early."""
        back_off_s = BACK_OFF_FIRST_S
        while True:
            began = time.monotonic()
            why = await self._until_gone(unit)
            unit.ready.clear()
            if time.monotonic() - began > STEADY_S:
                back_off_s = BACK_OFF_FIRST_S
            unit.restarts += 1
            self._report("restarting", {"name": unit.name, "why": why, "after_s": back_off_s})
            await asyncio.sleep(back_off_s)
            back_off_s = min(back_off_s * 2, BACK_OFF_MAX_S)
            await self._restart(unit)

    async def _restart(self, unit: Unit) -> None:
        try:
            await asyncio.to_thread(unit.server.prepare)
            await self._spawn(unit)
        except (OSError, StartFailed) as failure:
            self._report("failed", {"name": unit.name, "why": str(failure)})
            return
        if await self._until_healthy(unit):
            self._report("restarted", {"name": unit.name})

    async def _until_gone(self, unit: Unit) -> str:
        """Wait until the process ends or misses too many probes in a row; says which."""
        process = unit.process
        if process is None:
            return "never started"
        ended = asyncio.create_task(process.wait())
        misses = 0
        try:
            while not ended.done():
                await asyncio.wait({ended}, timeout=WATCH_EVERY_S)
                if ended.done():
                    break
                misses = 0 if await asyncio.to_thread(alive, unit.server) else misses + 1
                if misses >= MISSES_MAX:
                    await self._end(unit)
                    return f"did not answer {misses} probes in a row"
            return f"ended with status {process.returncode}"
        finally:
            ended.cancel()

    async def _end(self, unit: Unit) -> None:
        """Stop the process in order, by force when it does not go."""
        process = unit.process
        if process is None or process.returncode is not None:
            return
        command = unit.server.command()
        with contextlib.suppress(ProcessLookupError):
            process.send_signal(command.stop_signal)
        try:
            await asyncio.wait_for(process.wait(), command.stop_grace_s)
        except TimeoutError:
            process.kill()
            await process.wait()
        unit.server.tidy()
        self._report("stopped", {"name": unit.name})

    def _record(self) -> None:
        """Write down every process, so that the next host can stop what a killed one left behind."""
        children = {
            unit.name: {
                "pid": unit.process.pid,
                "started": trace(unit.process.pid).started,
                "signal": int(unit.server.command().stop_signal),
                "grace_s": unit.server.command().stop_grace_s,
                "restarts": unit.restarts,
            }
            for unit in self._units
            if unit.process is not None and unit.process.returncode is None
        }
        self._home.write("children.json", children)

    def _log(self, unit: Unit) -> Path:
        return self._home.logs / f"{unit.name}.log"


def returncode(unit: Unit) -> int | None:
    return None if unit.process is None else unit.process.returncode


def alive(server: Server) -> bool:
    """Whether the process answers at all, which is less than being healthy."""
    return server.alive() if isinstance(server, PythonChild) else server.healthy()


def end_leftovers(home: Home) -> list[str]:
    """Stop what a killed host left running, the last started first. Returns the names of what still ran."""
    found: list[str] = []
    for name, record in reversed(list(home.read("children.json").items())):
        if not isinstance(record, dict):
            continue
        process = Trace(int(record["pid"]), str(record["started"]))
        if process.running:
            found.append(name)
            end(process, signal.Signals(int(record["signal"])), grace_s=float(record["grace_s"]))
    home.remove("children.json")
    return found
