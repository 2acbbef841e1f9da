"""Whether the caller is still there: work for one who has gone is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from starlette.types import Receive

T = TypeVar("T")


class CallerGone(Exception):
    """The caller disconnected before the work was done."""


async def while_connected(receive: Receive, work: Coroutine[None, None, T]) -> T:
    """The work's result. When the caller goes first, the work is cancelled, has ended, and `CallerGone` is raised."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(disconnected(receive))
    try:
        await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            return working.result()
        raise CallerGone
    finally:
        leaving.cancel()
        if not working.done():
            working.cancel()
            await asyncio.wait({working})


async def disconnected(receive: Receive) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
