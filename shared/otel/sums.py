"""What was measured, added up since the process began: OpenTelemetry's explicit-bucket histograms and sums."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable
from dataclasses import dataclass, field

from shared.otel import names
from shared.otel.records import Measured, Value

SERIES_MAX = 5000
OVERFLOW: tuple[tuple[str, Value], ...] = (("otel.metric.overflow", True),)
"""Where values go of attributes that are one combination too many (metrics SDK specification, cardinality limits)."""
Key = tuple[str, tuple[tuple[str, Value], ...]]


@dataclass(slots=True)
class Series:
    """The values of one metric with the same attributes. `buckets[i]` counts those up to the i-th bound."""

    count: int = 0
    sum: float = 0
    buckets: list[int] = field(default_factory=list)


class Sums:
    """All series, by metric and attributes."""

    def __init__(self, *, series_max: int = SERIES_MAX) -> None:
        self._series_max = series_max
        self.series: dict[Key, Series] = {}

    def add(self, measured: Iterable[Measured]) -> None:
        for one in measured:
            series = self._series(one)
            series.count += 1
            series.sum += one.value
            if series.buckets:
                series.buckets[bisect_left(names.HISTOGRAMS[one.metric][1], one.value)] += 1

    def _series(self, one: Measured) -> Series:
        key: Key = (one.metric, tuple(one.attributes.items()))
        found = self.series.get(key)
        if found is None and len(self.series) >= self._series_max:
            key = (one.metric, OVERFLOW)
            found = self.series.get(key)
        if found is None:
            bounds = names.HISTOGRAMS[one.metric][1] if one.metric in names.HISTOGRAMS else None
            found = self.series[key] = Series(buckets=[] if bounds is None else [0] * (len(bounds) + 1))
        return found
