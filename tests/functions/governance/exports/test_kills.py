"""Whatever is killed or full while an export is fetched, no half file takes its name."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

import httpx
import pytest

from shared.cli.client import Client
from shared.cli.exports import placed
from shared.cli.failures import Failed
from shared.host.stack import ROOT
from shared.settings import Settings
from shared.tenancy.export import verify_archive
from tests.fixtures.platform import environment_of
from tests.fixtures.ports import free_port
from tests.fixtures.stack import wait_until
from tests.functions.governance.exports.filled import Filled

BIG_BYTES = 16 * 1024 * 1024
PLACING = """
import resource, signal, sys, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a background job of a shell is born deaf to it
from pathlib import Path
from shared.cli.exports import placed
if sys.argv[2] == "full":
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
with placed(Path(sys.argv[1]), replace=True) as file:
    file.write(bytes(1_000_000))
    file.flush()
    print("half", flush=True)
    time.sleep(60)
"""


@contextmanager
def served(settings: Settings) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The function in a process of its own, and its address."""
    port = free_port()
    command = [sys.executable, "-m", "uvicorn", "functions.entry:app", "--port", str(port), "--log-level", "error"]
    environment = environment_of(settings, DCODER_FUNCTION="governance-exports", PYTHONPATH=str(ROOT))
    server = subprocess.Popen(command, cwd=ROOT, env={**os.environ, **environment})
    try:
        wait_until(lambda: answers(f"http://127.0.0.1:{port}/health/ready"))
        yield server, f"http://127.0.0.1:{port}"
    finally:
        server.kill()
        server.wait()


def answers(url: str) -> bool:
    try:
        return httpx.get(url).is_success
    except httpx.TransportError:
        return False


@pytest.fixture
async def big(acme: Filled) -> AsyncIterator[Filled]:
    """A tenant whose export is more than what sockets hold."""
    await acme.objects.put("documents/big", bytes(BIG_BYTES), "application/octet-stream")
    yield acme
    await acme.objects.delete("documents/big")


class Watched:
    """A file that does something after its first block."""

    def __init__(self, file: BinaryIO, then: Callable[[], object]) -> None:
        self._file = file
        self._then = then
        self.bytes = 0

    def write(self, data: bytes) -> int:
        first, self.bytes = self.bytes == 0, self.bytes + len(data)
        written = self._file.write(data)
        if first:
            self._then()
        return written


def test_a_server_killed_while_it_answers_leaves_no_file(settings: Settings, big: Filled, tmp_path: Path) -> None:
    whole, cut = tmp_path / "whole.tar", tmp_path / "cut.tar"
    with served(settings) as (server, url):
        client = Client(url, big.key)

        def fetch(target: Path, then: Callable[[], object]) -> None:
            with placed(target, replace=False) as file:
                client.download(f"/v1/exports/{big.tenant}", Watched(file, then))  # type: ignore[arg-type]  # it writes only

        fetch(whole, lambda: None)
        with pytest.raises(Failed, match="cut short"):
            fetch(cut, server.kill)
    assert [one.name for one in tmp_path.iterdir()] == ["whole.tar"]
    assert verify_archive(whole).ok


def placing(target: Path, how: str) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PLACING, str(target), how], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGKILL], ids=["Ctrl-C", "killed"])
def test_a_command_that_is_ended_leaves_the_former_file_as_it_was(number: int, tmp_path: Path) -> None:
    target = tmp_path / "acme.tar"
    target.write_bytes(b"former")
    command = placing(target, "")
    assert command.stdout is not None
    assert command.stdout.readline() == b"half\n"
    command.send_signal(number)
    command.communicate()
    left = [one.name for one in tmp_path.iterdir() if one != target]
    assert target.read_bytes() == b"former"
    assert left == [] if number == signal.SIGINT else all(name.endswith(".part") for name in left)


def test_a_full_disk_leaves_no_file_and_says_so(tmp_path: Path) -> None:
    command = placing(tmp_path / "acme.tar", "full")
    _, told = command.communicate()
    assert b"acme.tar could not be written" in told
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_came_to_be_meanwhile_is_not_replaced(tmp_path: Path) -> None:
    target = tmp_path / "acme.tar"

    def write() -> None:
        with placed(target, replace=False) as file:
            file.write(b"mine")
            target.write_bytes(b"theirs")

    with pytest.raises(Failed, match="could not be written"):
        write()
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("acme.tar", b"theirs")]


def test_a_placed_file_is_its_owners_only(tmp_path: Path) -> None:
    target = tmp_path / "acme.tar"
    with placed(target, replace=False) as file:
        file.write(b"mine")
    assert (target.stat().st_mode & 0o777, target.stat().st_nlink, target.read_bytes()) == (0o600, 1, b"mine")


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="could not be written"), placed(tmp_path / "none" / "x.tar", replace=False):
        pass
