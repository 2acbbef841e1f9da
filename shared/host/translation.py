"""`gateway-translate` on this machine: a process of its own, started by its first call, with the packages of
`requirements/translate.lock`, which no other process has and nobody downloads who does not translate."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import os
import shutil
import socket
import sys
from dataclasses import dataclass
from pathlib import Path

from shared.errors import Fault
from shared.host.children import Command
from shared.host.servers import StartFailed
from shared.host.stack import ROOT, TRANSLATE, PythonChild, Stack
from shared.host.supervisor import Report, Supervisor

LOCKS = ("translate", "local")


@dataclass(frozen=True)
class Translator(PythonChild):
    """The process."""

    def prepare(self) -> None:
        """Install what is not there yet. Raises `StartFailed`."""
        try:
            ensure_packages()
        except (Fault, OSError) as failure:
            raise StartFailed(f"the packages of {TRANSLATE} could not be installed: {failure}") from failure

    def command(self) -> Command:
        command = super().command()
        environment = {**command.environment, "PYTHONPATH": search_path()}
        return Command(
            command.argv,
            command.cwd,
            environment,
            descriptors=command.descriptors,
            orphan_signal=command.orphan_signal,
        )


async def start_when_called(stack: Stack, supervisor: Supervisor, listener: socket.socket, report: Report) -> None:
    """Return once it runs, for which somebody must call. While it cannot start, calls are ended at once."""
    child = Translator(
        "translate",
        "shared.host.functions",
        stack.ports["translate"],
        listener.fileno(),
        {**stack.environment, "DCODER_FUNCTION": TRANSLATE, "DCODER_CONNECTIONS_MAX": "4"},
    )
    while True:
        await readable(listener)
        try:
            await supervisor.start(child)
        except StartFailed as failure:
            report("failed", {"name": child.name, "why": str(failure)})
            await supervisor.forget(child)
            refuse_waiting(listener)
        else:
            return


async def readable(listener: socket.socket) -> None:
    """Return once somebody has connected."""
    loop, somebody = asyncio.get_running_loop(), asyncio.Event()
    loop.add_reader(listener.fileno(), somebody.set)
    try:
        await somebody.wait()
    finally:
        loop.remove_reader(listener.fileno())


def refuse_waiting(listener: socket.socket) -> None:
    listener.setblocking(False)
    with contextlib.suppress(OSError):
        while True:
            listener.accept()[0].close()


def search_path() -> str:
    """`PYTHONPATH` of the process: its packages come before those that tests bring in other versions."""
    return os.pathsep.join((str(ROOT), str(packages())))


def packages() -> Path:
    """The folder of the packages: another one when a lock changes."""
    digest = hashlib.sha256(sys.version.encode())
    for name in LOCKS:
        digest.update((ROOT / "requirements" / f"{name}.lock").read_bytes())
    return Path(sys.prefix) / f"translate-{digest.hexdigest()[:16]}"


def ensure_packages() -> Path:
    """The folder, with what the lock lists beyond the environment's own packages, as in the image. Raises `Fault`."""
    from knative.image.contents import OMITTED
    from knative.image.wheels import beyond, install, read_lock

    folder = packages()
    if not folder.is_dir():
        present = [entry for entry in read_lock("local") if entry.name not in OMITTED]
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        install(beyond(read_lock("translate"), present), unfinished)
        keep(unfinished, folder)
    return folder


def keep(unfinished: Path, folder: Path) -> None:
    """Put the folder into its place, if no other process has meanwhile, and forget those of older locks."""
    try:
        unfinished.rename(folder)
    except OSError:
        shutil.rmtree(unfinished)
        if not folder.is_dir():
            raise
    for older in folder.parent.glob("translate-*"):
        if older != folder and not older.suffix:
            shutil.rmtree(older, ignore_errors=True)
