"""A request's body on its way to the handler: bounded, and set aside where it has to be read twice."""

from __future__ import annotations

import hashlib
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import IO, TYPE_CHECKING

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

if TYPE_CHECKING:
    from starlette.types import Message, Receive

IN_MEMORY_BYTES = 1024 * 1024
PIECE_BYTES = 64 * 1024


def bounded(receive: Receive, bytes_max: int) -> Receive:
    """`receive` that refuses more than `bytes_max`, whatever length the request declared: next to
    `Transfer-Encoding: chunked` a declared length means nothing."""
    received = 0

    async def receive_bounded() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > bytes_max:
            raise HTTPException(413, f"the body has more than {bytes_max} bytes")
        return message

    return receive_bounded


async def pieces(receive: Receive) -> AsyncIterator[bytes]:
    """The body as it comes. Raises `ClientDisconnect` when it ends before it is complete."""
    more = True
    while more:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        yield message.get("body", b"")
        more = message.get("more_body", False)


async def whole(receive: Receive) -> bytes:
    """The body in memory. Raises as `pieces` does."""
    message = await receive()
    if message["type"] == "http.request" and not message.get("more_body", False):  # nearly always: no generator for it
        return bytes(message.get("body", b""))
    found, more = [], True
    while more:
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        found.append(message.get("body", b""))
        if more := message.get("more_body", False):
            message = await receive()
    return b"".join(found)


@dataclass(frozen=True)
class Kept:
    """A body that was read: its SHA-256, and a `receive` that gives it once more."""

    digest: bytes
    receive: Receive


@asynccontextmanager
async def kept(receive: Receive) -> AsyncIterator[Kept]:
    """Read the body and keep it for the length of the block, what exceeds 1 MiB on the disk. Raises as `pieces` does.

    When it has been given again, the real `receive` goes on: it tells of the caller who leaves.
    """
    digest = hashlib.sha256()
    with tempfile.SpooledTemporaryFile(IN_MEMORY_BYTES, prefix="dcoder-body-") as file:
        async for piece in pieces(receive):
            digest.update(piece)
            file.write(piece)
        file.seek(0)
        yield Kept(digest.digest(), replayed(file, receive))


def replayed(file: IO[bytes], receive: Receive) -> Receive:
    ended = False

    async def receive_replayed() -> Message:
        nonlocal ended
        if ended:
            return await receive()
        piece = file.read(PIECE_BYTES)
        ended = not piece
        return {"type": "http.request", "body": piece, "more_body": not ended}

    return receive_replayed
