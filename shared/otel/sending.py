"""Records on their way to a collector: a bounded queue, and one thread that makes spans and metrics of them.

Who puts a record in does nothing else, waits for nothing and imports nothing: the thread does at its first record. What
finds the queue full is dropped and counted. See decision 30.
"""

from __future__ import annotations

import asyncio
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from shared.otel.records import FunctionCall, Record
from shared.telemetry import CallRecord, log

if TYPE_CHECKING:
    from shared.otel.telling import Telling

QUEUE_MAX = 4096
BATCH_MAX = 512
EVERY_S = 1.0
METRICS_EVERY_S = 10.0
CLOSE_TIMEOUT_S = 8.0


@dataclass(frozen=True)
class Collector:
    """Where it is, without `/v1/traces`, and what it wants to see in the head of a request."""

    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    every_s: float = EVERY_S
    metrics_every_s: float = METRICS_EVERY_S


class Telemetry:
    """This process's way to its collector."""

    def __init__(self, collector: Collector, *, queue_max: int = QUEUE_MAX) -> None:
        self._collector = collector
        self._queue_max = queue_max
        self._queue: deque[Record] = deque()
        self._wake, self._ending = threading.Event(), threading.Event()
        self._thread: threading.Thread | None = None
        self._full = self._lost = self._told = 0  # the first is the callers' to count, the others the thread's

    @property
    def dropped(self) -> int:
        """Records that found the queue full, or whose spans the collector did not take."""
        return self._full + self._lost

    def put(self, record: Record) -> None:
        """Have it told. Never waits and never raises."""
        waiting = len(self._queue)
        if waiting >= self._queue_max:
            self._full += 1
            return
        self._queue.append(record)
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="telemetry", daemon=True)
            self._thread.start()
        elif waiting + 1 == BATCH_MAX:
            self._wake.set()

    def called(self, record: CallRecord) -> None:
        """The observer of functions' calls."""
        self.put(
            FunctionCall(
                record.name, record.method, record.route, record.status, record.duration_ms / 1000, record.ended_ns,
                record.tenant, record.request_id, record.traceparent, record.received,
            )
        )  # fmt: skip

    async def close(self) -> None:
        """Send what waits, for seconds at most."""
        self._ending.set()
        self._wake.set()
        if self._thread is not None:
            await asyncio.to_thread(self._thread.join, CLOSE_TIMEOUT_S)

    def _run(self) -> None:
        from shared.otel.telling import Telling

        telling = Telling(self._collector, self._ending.wait)
        due = time.monotonic() + self._collector.metrics_every_s
        while not self._ending.is_set():
            self._wake.wait(self._collector.every_s)
            self._wake.clear()
            self._drain(telling)
            if time.monotonic() >= due:
                due = time.monotonic() + self._collector.metrics_every_s
                telling.tell_metrics(self.dropped)
        self._drain(telling)
        telling.tell_metrics(self.dropped)

    def _drain(self, telling: Telling) -> None:
        while self._queue:
            batch = [self._queue.popleft() for _ in range(min(len(self._queue), BATCH_MAX))]
            self._lost += telling.tell(batch)
        dropped = self.dropped
        if dropped != self._told:
            log("telemetry_dropped", count=dropped - self._told)
            self._told = dropped
