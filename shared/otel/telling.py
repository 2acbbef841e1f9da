"""What the thread does with records: adds up what they measure, and hands spans and sums to the collector."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from shared.otel import wire
from shared.otel.posting import Post
from shared.otel.records import Record
from shared.otel.sums import Sums
from shared.telemetry import log

if TYPE_CHECKING:
    from shared.otel.sending import Collector


class Telling:
    """One thread's."""

    def __init__(self, collector: Collector, wait: Callable[[float], object]) -> None:
        self._post = Post(collector.url, collector.headers, wait)
        self._speaker = wire.Speaker(str(uuid.uuid4()), time.time_ns())
        self._sums = Sums()

    def tell(self, batch: Sequence[Record]) -> int:
        """Add these up and tell their spans. Returns how many of those the collector did not take."""
        for record in batch:
            self._sums.add(record.measured())
        recorded = [record for record in batch if wire.is_sampled(record)]
        told = not recorded or self._told("/v1/traces", lambda: wire.traces(recorded, self._speaker))
        return 0 if told else len(recorded)

    def tell_metrics(self, dropped: int) -> None:
        """What was measured since the process began."""
        self._told("/v1/metrics", lambda: wire.metrics(self._sums, dropped, self._speaker, time.time_ns()))

    def _told(self, path: str, made: Callable[[], bytes]) -> bool:
        try:
            flaw = self._post.send(path, made())
        except Exception as failure:  # noqa: BLE001  the thread's edge: what comes later has to be told all the same
            flaw = repr(failure)
        if flaw:
            log("telemetry_not_taken", path=path, error=flaw)
        return not flaw
