"""What a process holds for all its calls: opened at first use, closed once, at its end.

functions-framework has no lifespan hook, so nothing is opened at start, and the first opening registers the
closing on SIGTERM: resources close when the last call in flight has ended.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Awaitable, Callable, Mapping
from types import FrameType
from typing import TYPE_CHECKING, Any, Protocol, TypeVar, cast

from shared.clock import Clock
from shared.settings import Settings
from shared.telemetry import Observer, log, log_failures

if TYPE_CHECKING:
    from shared.otel import Telemetry

T = TypeVar("T")
CLOSE_TIMEOUT_S = 10.0


def telemetry_of(settings: Settings) -> Telemetry | None:
    """The way to the collector that the settings name, if they do. Else nothing of it is imported."""
    if not settings.otlp_url:
        return None
    from shared.otel import Collector, Telemetry

    return Telemetry(Collector(settings.otlp_url, settings.otlp_headers))


class Closable(Protocol):
    async def close(self) -> None: ...


Opener = Callable[["Process"], Awaitable[object]]


class InFlight:
    """Counts the calls that are being answered: a block is one. `idle` is set when the last of a process that is to
    end has ended."""

    __slots__ = ("count", "idle", "terminating")

    def __init__(self) -> None:
        self.count = 0
        self.terminating = False
        self.idle = asyncio.Event()

    def __enter__(self) -> None:
        self.count += 1

    def __exit__(self, *ended: object) -> None:
        self.count -= 1
        if self.terminating and self.count == 0:
            self.idle.set()


class Process:
    """One process's settings, clock and resources by type."""

    def __init__(self, settings: Settings, openers: Mapping[type, Opener], clock: Clock | None = None) -> None:
        self.settings = settings
        self.clock = clock or Clock()
        self.observers: list[Observer] = [log_failures]
        self.telemetry = telemetry_of(settings)
        if self.telemetry is not None:
            self.observers.append(self.telemetry.called)
        self._openers = openers
        self._opened: dict[type, Any] = {}  # Any: each is of its type
        self._locks: dict[type, asyncio.Lock] = {}
        self.in_flight = InFlight()
        self._closing_once = asyncio.Lock()
        self._background: set[asyncio.Task[None]] = set()

    def opened(self, kind: type[T]) -> T | None:
        """The resource if it is open already: the hot path's way to it."""
        return self._opened.get(kind)

    async def get(self, kind: type[T]) -> T:
        """The process's one resource of that type, opened at first use."""
        found = self._opened.get(kind)
        if found is None:
            async with self._locks.setdefault(kind, asyncio.Lock()):
                found = self._opened.get(kind)
                if found is None:
                    if not self._opened:
                        self._close_on_sigterm()
                    found = await self._openers[kind](self)
                    self._opened[kind] = found
        return cast("T", found)

    def background(self, work: Awaitable[None], *, name: str) -> None:
        """Run something after the response; its failure is logged, and `close` waits for it."""

        async def guarded() -> None:
            try:
                await work
            except Exception as failure:  # noqa: BLE001  the edge: nobody awaits this task
                log("background_failed", task=name, error=repr(failure))

        task = asyncio.get_running_loop().create_task(guarded(), name=name)
        self._background.add(task)
        task.add_done_callback(self._background.discard)

    async def close(self) -> None:
        """Close what was opened, the last opened first. Safe to call twice, also at once: what closes first may need
        what was opened before it."""
        async with self._closing_once:
            if self._background:
                await asyncio.wait(set(self._background), timeout=CLOSE_TIMEOUT_S)
            while self._opened:
                await self._close_last()
            if self.telemetry is not None:
                await self.telemetry.close()

    async def _close_last(self) -> None:
        kind, resource = self._opened.popitem()
        if hasattr(resource, "close"):
            try:
                await asyncio.wait_for(cast("Closable", resource).close(), CLOSE_TIMEOUT_S)
            except Exception as failure:  # noqa: BLE001  one stuck resource must not keep the others open
                log("close_failed", resource=kind.__name__, error=repr(failure))

    def _close_on_sigterm(self) -> None:
        if threading.current_thread() is not threading.main_thread():
            return
        loop = asyncio.get_running_loop()
        previous = signal.getsignal(signal.SIGTERM)

        def terminate(number: int, frame: FrameType | None) -> None:
            self.in_flight.terminating = True
            with contextlib.suppress(RuntimeError):  # the loop is already closed
                loop.call_soon_threadsafe(self.background_close, loop)
            if callable(previous):
                cast("Callable[[int, Any], Any]", previous)(number, frame)
            elif previous == signal.SIG_DFL:
                raise SystemExit(128 + number)

        signal.signal(signal.SIGTERM, terminate)

    def background_close(self, loop: asyncio.AbstractEventLoop) -> None:
        async def close_when_idle() -> None:
            if self.in_flight.count:
                await self.in_flight.idle.wait()
            await self.close()

        self._closing = loop.create_task(close_when_idle(), name="close")
