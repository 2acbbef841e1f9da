"""Whether the caller is still there: work for one who has gone is ended."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from starlette.types import Receive, Scope

T = TypeVar("T")
EXTENSION = "dcoder.departure"
"""Of an ASGI scope: what our server tells of the caller's leaving. Any other server is asked by `receive`."""


class CallerGone(Exception):
    """The caller disconnected before the work was done."""


class Departure:
    """A caller's leaving, as the server tells it."""

    __slots__ = ("gone", "told")

    def __init__(self) -> None:
        self.gone = False
        self.told: Callable[[], object] | None = None
        """Called at that moment."""

    def happen(self) -> None:
        self.gone = True
        if self.told is not None:
            self.told()


async def while_connected(scope: Scope, receive: Receive, work: Coroutine[None, None, T]) -> T:
    """The work's result. When the caller goes first, the work is cancelled, has ended, and `CallerGone` is raised. The
    request's body must have been read.

    The work runs in the task that waits for it. Where the server does not tell, who watches the caller has a task of
    its own.
    """
    working = asyncio.current_task()
    assert working is not None
    departure: Departure | None = scope.get("extensions", {}).get(EXTENSION)
    watching: asyncio.Task[None] | None = None
    if departure is None:
        departure = Departure()
        watching = asyncio.create_task(watched(receive, departure))
    elif departure.gone:
        work.close()
        raise CallerGone
    departure.told = working.cancel
    try:
        return await work
    except asyncio.CancelledError:
        if departure.gone and working.uncancel() == 0:
            raise CallerGone from None
        raise
    finally:
        departure.told = None
        if watching is not None:
            watching.cancel()


async def watched(receive: Receive, departure: Departure) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    departure.happen()
