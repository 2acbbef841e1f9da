"""Child processes that cannot outlive the host: started with a death signal, recorded, stopped in order."""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TypedDict

PR_SET_PDEATHSIG = 1
STOP_POLL_S = 0.02
LINUX = platform.system() == "Linux"


@dataclass(frozen=True)
class Command:
    """What to run. `unprivileged`: root hands it to another user, because the program refuses to run as root."""

    argv: tuple[str, ...]
    cwd: Path
    environment: Mapping[str, str] = field(default_factory=dict)
    stop_signal: signal.Signals = signal.SIGTERM
    stop_grace_s: float = 12.0
    """How long it may take to stop before SIGKILL."""
    unprivileged: bool = False
    descriptors: tuple[int, ...] = ()
    """Open files that it inherits under the same numbers."""
    inherits: bool = True
    """Whether it gets the host's own environment too. What is not the platform's code must not: it holds secrets."""
    orphan_signal: signal.Signals | None = None
    """What it gets when the host dies, when that is not the stop signal."""

    @property
    def on_host_death(self) -> signal.Signals:
        return self.orphan_signal or self.stop_signal


@dataclass(frozen=True)
class Trace:
    """A process that may be gone: its id, and its start time so that a reused id is not mistaken for it."""

    pid: int
    started: str

    @property
    def running(self) -> bool:
        return start_time(self.pid) == self.started != ""


def spawn(command: Command, log: Path) -> subprocess.Popen[bytes]:
    """Start the command, its output appended to `log`. The kernel stops it when the calling thread ends."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        return subprocess.Popen(  # noqa: S603  the commands are ours
            [*without_root(command), *command.argv],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            **surroundings(command),
        )


class Surroundings(TypedDict):
    """What every child is started with, whichever way it is started."""

    cwd: Path
    env: dict[str, str]
    start_new_session: bool
    pass_fds: tuple[int, ...]
    preexec_fn: Callable[[], None] | None


def surroundings(command: Command) -> Surroundings:
    return Surroundings(
        cwd=command.cwd,
        env={**(os.environ if command.inherits else {}), **command.environment},
        start_new_session=True,  # Ctrl-C at the terminal reaches the host alone, which stops children in order
        pass_fds=command.descriptors,
        preexec_fn=death_signal(command.on_host_death),
    )


def without_root(command: Command) -> tuple[str, ...]:
    """The prefix with which root runs a command as somebody else; empty for everybody but root.

    The one capability kept lets that user reach a state directory or environment below a private home. Without
    `no_setuid_fixup` the kernel would leave it out when a program asks `access(2)`, as initdb does.
    """
    if not command.unprivileged or os.geteuid() != 0:
        return ()
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        return ()
    uid, gid = unprivileged_user()
    capability = "+dac_override"
    return (
        setpriv, f"--reuid={uid}", f"--regid={gid}", "--clear-groups",
        f"--inh-caps={capability}", f"--ambient-caps={capability}", "--securebits=+no_setuid_fixup",
        "--pdeathsig", command.on_host_death.name.removeprefix("SIG"), "--",
    )  # fmt: skip


@cache
def unprivileged_user() -> tuple[int, int]:
    """User and group that run, for root, what refuses to run as root."""
    import pwd

    known = {entry.pw_name: entry for entry in pwd.getpwall()}
    entry = known.get("postgres") or known["nobody"]
    return entry.pw_uid, entry.pw_gid


def own_for_unprivileged(path: Path) -> None:
    """Give a file, or a folder and what is in it, to the user of `unprivileged` commands. Does nothing unless root."""
    if os.geteuid() != 0:
        return
    uid, gid = unprivileged_user()
    if path.is_file():
        os.chown(path, uid, gid)
    for folder, _, files in os.walk(path):
        os.chown(folder, uid, gid)
        for name in files:
            os.chown(os.path.join(folder, name), uid, gid, follow_symlinks=False)


def death_signal(number: signal.Signals) -> Callable[[], None] | None:
    """What a child runs first so that the kernel signals it when its parent dies. Linux only."""
    if not LINUX:
        return None
    libc = ctypes.CDLL(None)
    parent = os.getpid()

    def arm() -> None:
        libc.prctl(PR_SET_PDEATHSIG, int(number))
        if os.getppid() != parent:
            os._exit(1)

    return arm


def start_time(pid: int) -> str:
    """When the process started, as an opaque text; empty when there is none, or only its zombie."""
    if LINUX:
        try:
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        except OSError:
            return ""
        return "" if fields[0] == "Z" else fields[19]
    found = subprocess.run(  # noqa: S603  a fixed program and a number
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return found.stdout.strip()


def trace(pid: int) -> Trace:
    return Trace(pid, start_time(pid))


def end(process: Trace, number: signal.Signals = signal.SIGTERM, *, grace_s: float = 10.0) -> bool:
    """Stop a process: the signal, then SIGKILL after `grace_s`. Returns whether it went without SIGKILL."""
    if not process.running:
        return True
    os.kill(process.pid, number)
    if wait_gone(process, grace_s):
        return True
    try:
        os.kill(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return True
    wait_gone(process, 5.0)
    return False


def wait_gone(process: Trace, timeout_s: float) -> bool:
    """Wait until the process is gone. Returns whether it is."""
    deadline = time.monotonic() + timeout_s
    while process.running:
        if time.monotonic() > deadline:
            return False
        time.sleep(STOP_POLL_S)
    return True
