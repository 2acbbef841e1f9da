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
    """The work's result. When the caller goes first, the work is cancelled, has ended, and `CallerGone` is raised.

    The work runs in the task that waits for it; only who watches the caller has a task of its own.
    """
    working = asyncio.current_task()
    assert working is not None
    gone = False

    async def watch() -> None:
        nonlocal gone
        while (await receive())["type"] != "http.disconnect":
            pass
        gone = True
        working.cancel()

    watching = asyncio.create_task(watch())
    try:
        return await work
    except asyncio.CancelledError:
        if gone and working.uncancel() == 0:
            raise CallerGone from None
        raise
    finally:
        watching.cancel()
