"""Parsing from the outside: a child process per file, one kept warm, each with limits it cannot lift.

Nothing of the file is interpreted in this process; what comes back is a bounded JSON document.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakKeyDictionary

from functions.knowledge.documents.refusal import Refused, refused

ROOT = str(Path(__file__).parents[3])
IMPORTED_FROM = [ROOT, *(one for one in sys.path if one)]
"""Isolated, the child reads no PYTHONPATH, by which a container's dependencies are found."""
CHILD = (
    f"import sys; sys.path[:0] = [one for one in {IMPORTED_FROM!r} if one not in sys.path]; "
    "from functions.knowledge.documents.parsers.child import main; main()"
)
COMMAND = (sys.executable, "-I", "-c", CHILD)
READ_BYTES = 256 * 1024


@dataclass(frozen=True)
class Limits:
    """What one parse may use. JSON escapes make the output up to six times the text."""

    wall_s: float = 120.0
    cpu_s: int = 60
    memory_bytes: int = 1024 * 1024 * 1024
    output_bytes: int = 200_000_000


LIMITS = Limits()


@dataclass(frozen=True, slots=True)
class Block:
    """A piece of the text that the document's own structure sets apart."""

    kind: str
    start: int
    end: int
    page: int | None
    heading: str


@dataclass(frozen=True, slots=True)
class ParsedDocument:
    """The text that is stored and cited, and its blocks."""

    text: str
    blocks: tuple[Block, ...]
    note: str


class Parsers:
    """Starts the children: at most `at_once` parse, one waits ready so that a small file does not wait for Python."""

    def __init__(self, at_once: int = 2, in_hand: int = 8) -> None:
        self._places = asyncio.Semaphore(in_hand)
        self._turns = asyncio.Semaphore(at_once)
        self._spare: asyncio.subprocess.Process | None = None
        self._preparing: asyncio.Task[None] | None = None

    @asynccontextmanager
    async def place(self) -> AsyncIterator[None]:
        """Wait to be among the `in_hand` documents whose text and chunks may be in memory."""
        async with self._places:
            yield

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn to parse. Waiting counts against nobody."""
        async with self._turns:
            yield

    async def parse(self, path: Path, name: str, limits: Limits = LIMITS) -> ParsedDocument:
        """Text and blocks of the file. Raises `Refused` with a typed reason."""
        child = await self._ready_child()
        try:
            async with asyncio.timeout(limits.wall_s):
                output = await exchange(child, path, name, limits)
                await child.wait()
        except TimeoutError as late:
            raise refused("parse_timeout", f"parsing took longer than {limits.wall_s:g} s") from late
        finally:
            await end(child)
            self._prepare()
        return understood(output, child.returncode or 0)

    async def close(self) -> None:
        if self._preparing is not None:
            await self._preparing
        if self._spare is not None:
            await end(self._spare)
            self._spare = None

    async def _ready_child(self) -> asyncio.subprocess.Process:
        child, self._spare = self._spare, None
        if child is not None and child.returncode is None:
            return child
        return await start()

    def _prepare(self) -> None:
        if self._spare is None and (self._preparing is None or self._preparing.done()):
            self._preparing = asyncio.get_running_loop().create_task(self._start_spare(), name="spare-parser")

    async def _start_spare(self) -> None:
        self._spare = await start()


OF_LOOP: WeakKeyDictionary[asyncio.AbstractEventLoop, Parsers] = WeakKeyDictionary()


def parsers_of_loop() -> Parsers:
    """The process's parsers. They need no closing: a child ends when its parent does."""
    return OF_LOOP.setdefault(asyncio.get_running_loop(), Parsers())


async def start() -> asyncio.subprocess.Process:
    """A child without our environment: it holds secrets."""
    return await asyncio.create_subprocess_exec(
        *COMMAND,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env={"LANG": "C.UTF-8", "PATH": os.defpath},
        start_new_session=True,
    )


async def exchange(child: asyncio.subprocess.Process, path: Path, name: str, limits: Limits) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    request = {"path": str(path), "name": name, "cpu_s": limits.cpu_s, "memory_bytes": limits.memory_bytes}
    with contextlib.suppress(ConnectionError):  # a child that died is told apart by its exit status
        child.stdin.write(json.dumps(request).encode() + b"\n")
        await child.stdin.drain()
    output = bytearray()
    while block := await child.stdout.read(READ_BYTES):
        output += block
        if len(output) > limits.output_bytes:
            raise refused("too_large", f"the parsed document has more than {limits.output_bytes} bytes")
    return bytes(output)


async def end(child: asyncio.subprocess.Process) -> None:
    if child.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()


def understood(output: bytes, status: int) -> ParsedDocument:
    """What the child answered. Raises `Refused` for a refusal, a signal or gibberish."""
    if status == -signal.SIGXCPU:
        raise refused("parse_timeout", "parsing used up its processor time")
    try:
        answer = json.loads(output)
    except ValueError as flaw:
        raise refused("parser_crash", f"the parser ended with status {status} and no answer") from flaw
    if answer.get("reason"):
        raise Refused(str(answer["reason"]), str(answer["detail"]))
    blocks = tuple(Block(*block) for block in answer["blocks"])
    return ParsedDocument(answer["text"], blocks, answer["note"])
