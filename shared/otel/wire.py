"""Records and sums as OTLP's messages (opentelemetry-proto 1.x), in bytes."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

from shared.otel import names
from shared.otel.records import FunctionCall, Record, Value
from shared.otel.sums import Series, Sums
from shared.telemetry import SAMPLED, is_traceparent

if TYPE_CHECKING:
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope, KeyValue
    from opentelemetry.proto.metrics.v1.metrics_pb2 import Metric
    from opentelemetry.proto.resource.v1.resource_pb2 import Resource
    from opentelemetry.proto.trace.v1.trace_pb2 import ScopeSpans

SCOPE = "dcoder"
NANO = 1_000_000_000
HAS_REMOTE, IS_REMOTE = 0x100, 0x200
"""Flags of a span: it is known whether its parent is in another process, and it is (trace.proto, SpanFlags)."""


@dataclass(frozen=True)
class Speaker:
    """Which process speaks, and since when."""

    instance: str
    since_ns: int

    def resource(self) -> Resource:
        from opentelemetry.proto.resource.v1.resource_pb2 import Resource

        return Resource(attributes=pairs([("service.name", SCOPE), ("service.instance.id", self.instance)]))


def scope() -> InstrumentationScope:
    from opentelemetry.proto.common.v1.common_pb2 import InstrumentationScope

    return InstrumentationScope(name=SCOPE)


def is_sampled(record: Record) -> bool:
    return bool(int(record.traceparent[53:55] or "0", 16) & SAMPLED)


def traces(records: Sequence[Record], speaker: Speaker) -> bytes:
    """The spans of these records."""
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    request = ExportTraceServiceRequest()
    spans = request.resource_spans.add(resource=speaker.resource()).scope_spans.add(scope=scope())
    for record in records:
        add_span(spans, record)
    return bytes(request.SerializeToString())


def add_span(spans: ScopeSpans, record: Record) -> None:
    """A function's call as a server's span with the id that was passed on; a model's call as a client's span in it."""
    from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

    if isinstance(record, FunctionCall):
        own, kind = record.traceparent[36:52], Span.SPAN_KIND_SERVER
        parent = record.received[36:52] if is_traceparent(record.received) else ""
    else:
        own, parent = secrets.token_hex(8), record.traceparent[36:52]
        kind = Span.SPAN_KIND_INTERNAL if record.cache else Span.SPAN_KIND_CLIENT
    spans.spans.add(
        trace_id=bytes.fromhex(record.traceparent[3:35]),
        span_id=bytes.fromhex(own),
        parent_span_id=bytes.fromhex(parent),
        flags=SAMPLED | HAS_REMOTE | (IS_REMOTE if isinstance(record, FunctionCall) and parent else 0),
        name=record.span_name,
        kind=kind,
        start_time_unix_nano=record.ended_ns - int(record.duration_s * NANO),
        end_time_unix_nano=record.ended_ns,
        attributes=pairs(record.attributes().items()),
        status=Status(code=Status.STATUS_CODE_ERROR) if record.error else None,
    )


def metrics(sums: Sums, dropped: int, speaker: Speaker, now_ns: int) -> bytes:
    """All that was measured since the process began, and how many records were dropped."""
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.metrics.v1.metrics_pb2 import ResourceMetrics, ScopeMetrics

    found: dict[str, Metric] = {}
    everything = [*sums.series.items(), ((names.DROPPED, ()), Series(sum=dropped))]
    for (name, attributes), series in everything:
        put_point(found.setdefault(name, empty(name)), series, pairs(attributes), speaker.since_ns, now_ns)
    told = ScopeMetrics(scope=scope(), metrics=found.values())
    request = [ResourceMetrics(resource=speaker.resource(), scope_metrics=[told])]
    return bytes(ExportMetricsServiceRequest(resource_metrics=request).SerializeToString())


def empty(name: str) -> Metric:
    from opentelemetry.proto.metrics.v1.metrics_pb2 import AggregationTemporality, Histogram, Metric, Sum

    since_start = AggregationTemporality.AGGREGATION_TEMPORALITY_CUMULATIVE
    if name in names.HISTOGRAMS:
        unit = names.HISTOGRAMS[name][0]
        return Metric(name=name, unit=unit, histogram=Histogram(aggregation_temporality=since_start))
    total = Sum(aggregation_temporality=since_start, is_monotonic=True)
    return Metric(name=name, unit=names.COUNTERS[name], sum=total)


def put_point(metric: Metric, series: Series, attributes: list[KeyValue], since_ns: int, now_ns: int) -> None:
    if metric.HasField("sum"):
        metric.sum.data_points.add(
            attributes=attributes, start_time_unix_nano=since_ns, time_unix_nano=now_ns, as_int=int(series.sum)
        )
        return
    metric.histogram.data_points.add(
        attributes=attributes,
        start_time_unix_nano=since_ns,
        time_unix_nano=now_ns,
        count=series.count,
        sum=series.sum,
        bucket_counts=series.buckets,
        explicit_bounds=names.HISTOGRAMS[metric.name][1],
    )


def pairs(attributes: Iterable[tuple[str, Value]]) -> list[KeyValue]:
    return [pair(name, value) for name, value in attributes]


@lru_cache(maxsize=4096, typed=True)
def pair(name: str, value: Value) -> KeyValue:
    """One attribute. Most of a call's are those of the call before; a message that holds one copies it."""
    from opentelemetry.proto.common.v1.common_pb2 import AnyValue, ArrayValue, KeyValue

    if isinstance(value, str):
        told = AnyValue(string_value=value)
    elif isinstance(value, bool):
        told = AnyValue(bool_value=value)
    elif isinstance(value, int):
        told = AnyValue(int_value=value)
    elif isinstance(value, float):
        told = AnyValue(double_value=value)
    else:
        told = AnyValue(array_value=ArrayValue(values=[AnyValue(string_value=one) for one in value]))
    return KeyValue(key=name, value=told)
