"""Supervision: started, restarted, stopped, and never left behind."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

from shared.host.children import Command, Trace, end, spawn, trace
from shared.host.home import Home
from shared.host.ports import is_free, listen
from shared.host.servers import StartFailed
from shared.host.stack import ROOT, PythonChild
from shared.host.supervisor import Supervisor, end_leftovers
from tests.fixtures.ports import free_port
from tests.fixtures.stack import wait_until


@dataclass(frozen=True)
class Sleeper:
    """A server that is healthy once it has written its file."""

    home: Path
    name: str = "sleeper"
    body: str = "open('up', 'w').close(); import time; time.sleep(600)"

    def prepare(self) -> None:
        (self.home / "up").unlink(missing_ok=True)

    def command(self) -> Command:
        return Command((sys.executable, "-c", self.body), self.home, stop_grace_s=0.5)

    def healthy(self) -> bool:
        return (self.home / "up").exists()

    def tidy(self) -> None:
        (self.home / "tidied").touch()


class Told:
    """Collects what is reported."""

    def __init__(self) -> None:
        self.events: list[tuple[str, Mapping[str, object]]] = []

    def __call__(self, event: str, details: Mapping[str, object]) -> None:
        self.events.append((event, details))

    def named(self, event: str) -> list[Mapping[str, object]]:
        return [details for name, details in self.events if name == event]


def recorded(home: Home) -> Trace:
    return trace_of(home, "sleeper")


def trace_of(home: Home, name: str) -> Trace:
    record = home.read("children.json")[name]
    assert isinstance(record, dict)
    return Trace(record["pid"], record["started"])


async def until(told: Told, event: str) -> None:
    async with asyncio.timeout(20):
        while not told.named(event):  # noqa: ASYNC110  the report is a plain callable
            await asyncio.sleep(0.02)


async def test_a_killed_process_is_restarted_and_stop_leaves_nothing(tmp_path: Path) -> None:
    home, told = Home(tmp_path), Told()
    supervisor = Supervisor(home, told)
    await supervisor.start(Sleeper(tmp_path))
    first = recorded(home)
    os.kill(first.pid, signal.SIGKILL)
    await until(told, "restarted")
    second = recorded(home)
    assert second.pid != first.pid
    await supervisor.stop()
    assert not second.running
    assert (tmp_path / "tidied").exists()
    assert home.read("children.json") == {}


async def test_a_process_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    stubborn = Sleeper(tmp_path, body="import signal; signal.signal(15, signal.SIG_IGN); " + Sleeper.body)
    supervisor = Supervisor(Home(tmp_path), Told())
    await supervisor.start(stubborn)
    process = recorded(Home(tmp_path))
    await supervisor.stop()
    assert not process.running


async def test_a_process_that_ends_at_start_fails_the_start_with_its_output(tmp_path: Path) -> None:
    supervisor = Supervisor(Home(tmp_path), Told())
    with pytest.raises(StartFailed, match="no such luck"):
        await supervisor.start(Sleeper(tmp_path, body="raise SystemExit('no such luck')"))
    await supervisor.stop()


async def test_what_a_killed_host_left_behind_is_stopped_by_the_next(tmp_path: Path) -> None:
    left = spawn(Sleeper(tmp_path).command(), tmp_path / "log")
    process = trace(left.pid)
    record = {"pid": process.pid, "started": process.started, "signal": 15, "grace_s": 5.0, "restarts": 0}
    Home(tmp_path).write("children.json", {"sleeper": record})
    assert end_leftovers(Home(tmp_path)) == ["sleeper"]
    left.wait()
    assert not process.running


async def test_a_reused_process_id_is_left_alone(tmp_path: Path) -> None:
    bystander = spawn(Sleeper(tmp_path).command(), tmp_path / "log")
    record = {"pid": bystander.pid, "started": "another", "signal": 9, "grace_s": 5.0, "restarts": 0}
    Home(tmp_path).write("children.json", {"sleeper": record})
    assert end_leftovers(Home(tmp_path)) == []
    assert trace(bystander.pid).running
    end(trace(bystander.pid))
    bystander.wait()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux signals the children of a dead process")
def test_children_stop_when_their_host_is_killed(tmp_path: Path) -> None:
    program = (
        "import sys, time; from pathlib import Path; from shared.host.children import Command, spawn;"
        "home = Path(sys.argv[1]);"
        "child = spawn(Command((sys.executable, '-c', 'import time; time.sleep(600)'), home), home / 'log');"
        "(home / 'pid.new').write_text(str(child.pid)); (home / 'pid.new').rename(home / 'pid'); time.sleep(600)"
    )
    host = subprocess.Popen([sys.executable, "-c", program, str(tmp_path)], cwd=ROOT)
    wait_until((tmp_path / "pid").exists, timeout_s=10)
    child = trace(int((tmp_path / "pid").read_text()))
    assert child.running
    host.kill()
    host.wait()
    wait_until(lambda: not child.running, timeout_s=10)


async def test_one_process_is_retired_and_the_others_stay(tmp_path: Path) -> None:
    home, told = Home(tmp_path), Told()
    supervisor = Supervisor(home, told)
    port = free_port()
    listener = listen(port)
    child = PythonChild("own", "shared.host.ports", port, supervisor.hold(listener), {})
    (tmp_path / "one").mkdir()
    await supervisor.start(Sleeper(tmp_path / "one"), Sleeper(tmp_path, name="own"))
    kept, gone = recorded(home), trace_of(home, "own")

    await supervisor.retire(child)

    assert (kept.running, gone.running) == (True, False)
    assert set(home.read("children.json")) == {"sleeper"}
    assert listener.fileno() == -1
    assert is_free(port)
    await asyncio.sleep(0.2)
    assert told.named("restarting") == []
    await supervisor.stop()
