"""The archive: a plain tar that any tar program reads, written as a stream and read strictly.

Every entry is a regular file with a short name of ours. Reading makes each header again from the name and the size
it states and compares all of it, so a link, a device, an absolute path or any extension of the format is refused.
"""

from __future__ import annotations

import hashlib
import io
import re
import tarfile
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from typing import Any, BinaryIO

from shared.errors import Fault

BLOCK = 512
FLUSH_BYTES = 256 * 1024
END = bytes(2 * BLOCK)
PATH = re.compile(r"[A-Za-z0-9_%~-][A-Za-z0-9_%~.-]*(/[A-Za-z0-9_%~-][A-Za-z0-9_%~.-]*)?")
PATH_CHARS_MAX = 100

Write = Callable[[bytes], Coroutine[Any, Any, None]]  # Any: what a coroutine sends and takes, which is nothing
Produce = Callable[[Write], Coroutine[Any, Any, None]]


class Broken(Exception):
    """The archive does not fit together; `entry` is the first one that does not, where that can be told."""

    def __init__(self, message: str, entry: str | None = None) -> None:
        super().__init__(message)
        self.entry = entry


class Cut(Broken):
    """The archive ends too early: inside `entry`, or behind the entry `after`; both empty at its very beginning."""

    def __init__(self, message: str, entry: str | None, after: str) -> None:
        super().__init__(message, entry)
        self.after = after


@dataclass(frozen=True)
class Member:
    """An entry as it stands in the file: `start` is the offset of its first byte, `modified` in seconds since 1970."""

    path: str
    start: int
    size: int
    modified: int

    @property
    def end(self) -> int:
        """Where the next header begins."""
        return self.start + self.size + padding(self.size)


def padding(size: int) -> int:
    return -size % BLOCK


def header(path: str, size: int, modified: int) -> bytes:
    """The one header that an entry can have: a regular file, readable by its owner only. Raises `Fault`."""
    if not PATH.fullmatch(path) or len(path) > PATH_CHARS_MAX:
        raise Fault(f"{path[:200]!r} is no path of an entry")
    described = tarfile.TarInfo(path)
    described.size, described.mtime, described.mode = size, modified, 0o600
    return described.tobuf(format=tarfile.GNU_FORMAT)


class Archive:
    """Writes entries one after the other. Holds no more than `FLUSH_BYTES` and what is given to it at once."""

    def __init__(self, write: Write, modified: int) -> None:
        self._write = write
        self._modified = modified
        self._held = bytearray()

    async def add(self, path: str, size: int, produce: Produce) -> str:
        """Write an entry whose bytes `produce` feeds. Returns their SHA-256. Raises `Fault` unless there are `size`."""
        digest, fed = hashlib.sha256(), 0

        async def feed(data: bytes) -> None:
            nonlocal fed
            fed += len(data)
            digest.update(data)
            await self._put(data)

        await self._put(header(path, size, self._modified))
        await produce(feed)
        if fed != size:
            raise Fault(f"{path} was to have {size} bytes and had {fed}")
        await self._put(bytes(padding(size)))
        return digest.hexdigest()

    async def end(self) -> None:
        await self._put(END)
        await self._write(bytes(self._held))
        self._held.clear()

    async def _put(self, data: bytes) -> None:
        self._held += data
        if len(self._held) >= FLUSH_BYTES:
            await self._write(bytes(self._held))
            self._held.clear()


def members(file: BinaryIO) -> Iterator[Member]:
    """The entries in their order, without their bytes. Raises `Broken` for what no export writes, and for a cut."""
    length = file.seek(0, io.SEEK_END)
    place, before = 0, ""
    while True:
        file.seek(place)
        block = file.read(BLOCK)
        if block == bytes(BLOCK):
            check_end(file, place, length)
            return
        member = parsed(block, place, before)
        if member.start + member.size + padding(member.size) > length:
            there = max(length - member.start, 0)
            where = f"inside {member.path}, after {min(there, member.size)} of its {member.size} bytes"
            raise Cut(f"the archive ends {where}", member.path, before)
        yield member
        place, before = member.end, member.path


def check_end(file: BinaryIO, place: int, length: int) -> None:
    file.seek(place)
    if file.read(len(END)) != END:
        raise Broken("the archive's end is cut off")
    if length != place + len(END):
        raise Broken(f"{length - place - len(END)} bytes follow the archive's end")


def parsed(block: bytes, place: int, before: str) -> Member:
    """The entry of a header that is exactly what `header` makes."""
    after = f"after {before}" if before else "at its beginning"
    if len(block) < BLOCK:
        raise Cut(f"the archive ends {after}", None, before)
    try:
        found = tarfile.TarInfo.frombuf(block, "utf-8", "strict")
        same = found.size >= 0 and header(found.name, found.size, int(found.mtime)) == block
    except (tarfile.HeaderError, ValueError, Fault):
        same = False
    if not same:
        name = block.partition(b"\0")[0][:PATH_CHARS_MAX].decode("ascii", "replace")
        raise Broken(f"{after} stands no entry that an export writes: {name!r} is no plain file of it", name)
    return Member(found.name, place + BLOCK, found.size, int(found.mtime))


def blocks(file: BinaryIO, member: Member) -> Iterator[bytes]:
    """The entry's bytes, a piece at a time. Raises `Broken` when what fills its last block up is not zero."""
    file.seek(member.start)
    left = member.size
    while left:
        piece = file.read(min(left, FLUSH_BYTES))
        if not piece:
            raise Broken(f"the archive ends inside {member.path}", member.path)
        left -= len(piece)
        yield piece
    if any(file.read(padding(member.size))):
        raise Broken(f"{member.path} is followed by bytes that belong to no entry", member.path)


class Slice(io.RawIOBase):
    """An entry as a file of its own. Reads through `file`, whose position it moves."""

    def __init__(self, file: BinaryIO, member: Member) -> None:
        self._file = file
        self._place = member.start
        self._end = member.start + member.size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # the buffers that io gives
        self._file.seek(self._place)
        piece = self._file.read(min(len(buffer), self._end - self._place))
        buffer[: len(piece)] = piece
        self._place += len(piece)
        return len(piece)


def opened(file: BinaryIO, member: Member) -> io.BufferedReader:
    """An entry's bytes as a file that is read line by line."""
    return io.BufferedReader(Slice(file, member), FLUSH_BYTES)
