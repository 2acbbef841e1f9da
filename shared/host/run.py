"""The host's life: servers, control database, functions, the first run's welcome, then watching until told to stop."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import time
from collections.abc import Awaitable, Mapping
from functools import partial

from shared.host.children import surroundings, trace
from shared.host.dedications import Dedications
from shared.host.home import Home, ensure_keys
from shared.host.ports import choosing, listen
from shared.host.servers import StartFailed
from shared.host.stack import FUNCTION_PORTS, WANTED_PORTS, PythonScript, Stack, plan
from shared.host.supervisor import Report, Supervisor, end_leftovers
from shared.host.translation import start_when_called

CONTROL_TIMEOUT_S = 120.0
WELCOME_TIMEOUT_S = 600.0
GRANT_TIMEOUT_S = 60.0
PLANS_MAX = 3
LINE_BYTES_MAX = 1024 * 1024
HANDBOOK = "DCODER_HANDBOOK"
"""`skip` leaves the handbook out at the first start."""


async def run(home: Home, report: Report) -> None:
    """Bring the stack up and keep it up until SIGINT or SIGTERM. Raises with nothing left running when it cannot."""
    began = time.monotonic()
    with home.lock():
        home.prepare()
        home.progress.write_bytes(b"")
        for name in end_leftovers(home):
            report("leftover", {"name": name})
        ensure_keys(home)
        supervisor = Supervisor(home, report)
        stop = stop_requested()
        try:
            await unless(stop, live(home, supervisor, report, began))
        finally:
            report("stopping", {})
            await supervisor.stop()
            home.remove("host.json")
            report("down", {})


async def live(home: Home, supervisor: Supervisor, report: Report, began: float) -> None:
    """The stack brought up, and then what is wished of it while it runs, for ever."""
    with choosing():
        stack = await started_stack(home, supervisor, report)
    script = partial(run_script, stack, report=report, timeout_s=GRANT_TIMEOUT_S)
    dedications = Dedications(stack, supervisor, report, script)
    await bring_up(stack, dedications, report, began)
    if stack.stores_only:
        await asyncio.Event().wait()
    translator = start_when_called(stack, supervisor, supervisor.held(stack.ports["translate"]), report)
    async with asyncio.TaskGroup() as side_by_side:
        side_by_side.create_task(translator)
        side_by_side.create_task(dedications.run())


async def bring_up(stack: Stack, dedications: Dedications, report: Report, began: float) -> None:
    """Everything between a started stack and one that answers."""
    announce(stack, "running")
    welcome: dict[str, object] = {}
    if not stack.stores_only:
        await dedications.settle()
        welcome = await run_script(stack, stack.welcome_script(), report, WELCOME_TIMEOUT_S)
    started_in_s = round(time.monotonic() - began, 2)
    announce(stack, "ready", started_in_s=started_in_s, welcome=welcome)
    report("ready", {"started_in_s": started_in_s})


async def started_stack(home: Home, supervisor: Supervisor, report: Report) -> Stack:
    """A stack on ports of its own: chosen anew when somebody took one between the choice and its use."""
    for attempt in range(1, PLANS_MAX + 1):
        stack = plan(home)
        announce(stack, "starting")
        for name, (wanted, chosen) in stack.moved.items():
            report("moved", {"name": name, "wanted": wanted, "port": chosen})
        failure = await start_failure_of(start_all(stack, supervisor, report))
        if failure is None:
            return stack
        await supervisor.stop()
        if attempt == PLANS_MAX or not stack.taken_ports():
            raise failure
        report("replanning", {})
    raise StartFailed(f"no {len(WANTED_PORTS)} free ports could be had")


async def start_failure_of(starting: Awaitable[None]) -> Exception | None:
    """The first reason why servers did not start, or None."""
    try:
        await starting
    except ExceptionGroup as failures:
        return failures.exceptions[0]
    except (StartFailed, OSError) as failure:
        return failure
    return None


async def start_all(stack: Stack, supervisor: Supervisor, report: Report) -> None:
    """Servers and functions, as far as possible side by side."""
    served = () if stack.stores_only else FUNCTION_PORTS
    listeners = {name: supervisor.hold(listen(stack.ports[name])) for name in served}
    others = [server for server in stack.servers if server.name != "postgres"]
    async with asyncio.TaskGroup() as side_by_side:
        side_by_side.create_task(supervisor.start(*others))
        side_by_side.create_task(start_functions(stack, supervisor, listeners, report))


async def start_functions(stack: Stack, supervisor: Supervisor, listeners: Mapping[str, int], report: Report) -> None:
    """The database, what is in it, and the functions that need nothing else to start."""
    await supervisor.start(*(server for server in stack.servers if server.name == "postgres"))
    await timed("control database", run_script(stack, stack.control_script(), report, CONTROL_TIMEOUT_S), report)
    if not stack.stores_only:
        await supervisor.start(*stack.functions(listeners))


def announce(stack: Stack, phase: str, **more: object) -> None:
    """Write down who the host is and where its stack answers."""
    here = trace(os.getpid())
    environment = stack.environment
    stack.home.write(
        "host.json",
        {
            "phase": phase,
            "pid": here.pid,
            "process_started": here.started,
            "platform_url": stack.platform_url,
            "llm_url": stack.llm_url,
            "objects_url": environment["DCODER_OBJECTS_URL"],
            "objects_access_key": environment["DCODER_OBJECTS_ACCESS_KEY"],
            "objects_secret_key": environment["DCODER_OBJECTS_SECRET_KEY"],
            "stores_only": stack.stores_only,
            "moved": {name: list(ports) for name, ports in stack.moved.items()},
            "environment": dict(environment),
            **more,
        },
    )


async def timed(name: str, work: Awaitable[dict[str, object]], report: Report) -> dict[str, object]:
    began = time.monotonic()
    report("starting", {"name": name})
    result = await work
    report("started", {"name": name, "seconds": round(time.monotonic() - began, 2)})
    return result


async def run_script(stack: Stack, script: PythonScript, report: Report, timeout_s: float) -> dict[str, object]:
    """Run one of our modules to its end. It prints progress as JSON lines, the last of which is its result."""
    process = await asyncio.create_subprocess_exec(
        *script.command().argv,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        limit=LINE_BYTES_MAX,
        **surroundings(script.command()),
    )
    try:
        async with asyncio.timeout(timeout_s):
            result, complaint = await asyncio.gather(last_line(process, report), read_all(process))
            status = await process.wait()
    except TimeoutError as late:
        raise StartFailed(f"{script.name} did not finish in {timeout_s:.0f} s") from late
    finally:
        if process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                process.kill()
            await process.wait()
    append(stack.home, script.name, complaint)
    if status != 0:
        raise StartFailed(f"{script.name} failed: {str(result.get('message', '')) or complaint[-2000:].decode()}")
    return result


async def last_line(process: asyncio.subprocess.Process, report: Report) -> dict[str, object]:
    """Report each line that names an event; return the one named `result`."""
    result: dict[str, object] = {}
    if process.stdout is not None:
        async for line in process.stdout:
            with contextlib.suppress(ValueError):
                message: dict[str, object] = json.loads(line)
                event = str(message.pop("event", ""))
                if event == "result":
                    result = message
                elif event:
                    report(event, message)
    return result


async def read_all(process: asyncio.subprocess.Process) -> bytes:
    return b"" if process.stderr is None else await process.stderr.read()


def append(home: Home, name: str, text: bytes) -> None:
    if text:
        with (home.logs / f"{name}.log").open("ab") as log:
            log.write(text)


def stop_requested() -> asyncio.Event:
    """An event that SIGINT, SIGTERM and SIGHUP set."""
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, stop.set)
    return stop


async def unless(stop: asyncio.Event, work: Awaitable[None]) -> None:
    """Do the work, or abandon it when `stop` is set first. Raises what the work raises."""
    doing = asyncio.ensure_future(work)
    waiting = asyncio.ensure_future(stop.wait())
    await asyncio.wait({doing, waiting}, return_when=asyncio.FIRST_COMPLETED)
    waiting.cancel()
    if not doing.done():
        doing.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await doing
        return
    try:
        await doing
    except ExceptionGroup as failures:
        raise failures.exceptions[0] from failures


def record_progress(home: Home) -> Report:
    """A report that is appended to `logs/progress.jsonl`, from which `up --detach` reads it."""

    def write(event: str, details: Mapping[str, object]) -> None:
        line = json.dumps({"event": event, **details})
        with home.progress.open("a") as target:
            target.write(line + "\n")

    return write
