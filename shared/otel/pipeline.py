"""Records made into the SDK's spans and metrics, and exported. Imports the SDK; used by one thread."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING

from shared.otel import names
from shared.otel.records import FunctionCall, Record
from shared.telemetry import SAMPLED, is_traceparent, log

if TYPE_CHECKING:
    import requests
    from opentelemetry.metrics import CallbackOptions, Observation
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.trace import SpanContext

    from shared.otel.sending import Collector

SCOPE = "dcoder"
TIMEOUT_S = 5.0
NANO = 1_000_000_000


class SdkLog(logging.Handler):
    """What the SDK has to say, as lines of ours."""

    def emit(self, record: logging.LogRecord) -> None:
        log("telemetry_said", level=record.levelname, message=record.getMessage()[:500])


class Pipeline:
    """The way of spans and the way of metrics."""

    def __init__(self, collector: Collector, *, dropped: Callable[[], int]) -> None:
        from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
        from opentelemetry.sdk.resources import Resource

        speak_in_our_log()
        self._dropped = dropped
        self._resource = Resource.create({"service.name": SCOPE, "service.instance.id": str(uuid.uuid4())})
        self._exporter = OTLPSpanExporter(
            f"{collector.url}/v1/traces", headers=dict(collector.headers), timeout=TIMEOUT_S, session=session()
        )
        self._metrics = metrics_to(collector, self._resource)
        meter = self._metrics.get_meter(SCOPE)
        self._histograms = {
            name: meter.create_histogram(name, unit, explicit_bucket_boundaries_advisory=list(bounds))
            for name, (unit, bounds) in names.HISTOGRAMS.items()
        }
        self._counters = {name: meter.create_counter(name, unit) for name, unit in names.COUNTERS.items()}
        meter.create_observable_counter(names.DROPPED, [self._count_dropped], unit="{record}")

    def take(self, batch: Sequence[Record]) -> int:
        """Tell these. Returns how many spans the collector did not take."""
        from opentelemetry.sdk.trace.export import SpanExportResult

        for one in (measured for record in batch for measured in record.measured()):
            if one.metric in self._counters:
                self._counters[one.metric].add(one.value, dict(one.attributes))
            else:
                self._histograms[one.metric].record(one.value, dict(one.attributes))
        spans = [span_of(record, self._resource) for record in batch if is_sampled(record.traceparent)]
        if not spans or self._exporter.export(spans) is SpanExportResult.SUCCESS:
            return 0
        return len(spans)

    def close(self) -> None:
        """Export what was measured since the last time."""
        self._metrics.shutdown(timeout_millis=int(TIMEOUT_S * 1000))
        self._exporter.shutdown()  # type: ignore[no-untyped-call]  # the SDK has no annotation there

    def _count_dropped(self, options: CallbackOptions) -> Iterable[Observation]:
        from opentelemetry.metrics import Observation

        yield Observation(self._dropped())


def session() -> requests.Session:
    """No proxies and passwords of the environment: the collector is where the setting says."""
    import requests

    made = requests.Session()
    made.trust_env = False
    return made


def metrics_to(collector: Collector, resource: Resource) -> MeterProvider:
    from opentelemetry.exporter.otlp.proto.http.metric_exporter import OTLPMetricExporter
    from opentelemetry.sdk.metrics import MeterProvider
    from opentelemetry.sdk.metrics.export import PeriodicExportingMetricReader

    exporter = OTLPMetricExporter(
        f"{collector.url}/v1/metrics", headers=dict(collector.headers), timeout=TIMEOUT_S, session=session()
    )
    reader = PeriodicExportingMetricReader(exporter, export_interval_millis=collector.metrics_every_s * 1000)
    return MeterProvider([reader], resource, shutdown_on_exit=False)


def speak_in_our_log() -> None:
    logger = logging.getLogger("opentelemetry")
    if not any(isinstance(handler, SdkLog) for handler in logger.handlers):
        logger.addHandler(SdkLog())
        logger.propagate = False


def span_of(record: Record, resource: Resource) -> ReadableSpan:
    """A function's call as a server's span with the id that was passed on; a model's call as a client's span in it."""
    from opentelemetry.sdk.trace import ReadableSpan
    from opentelemetry.sdk.trace.id_generator import RandomIdGenerator
    from opentelemetry.sdk.util.instrumentation import InstrumentationScope
    from opentelemetry.trace import SpanKind, Status, StatusCode

    if isinstance(record, FunctionCall):
        own, parent, kind = context_of(record.traceparent), context_of(record.received), SpanKind.SERVER
    else:
        parent = context_of(record.traceparent)
        own = context_of(f"{record.traceparent[:36]}{RandomIdGenerator().generate_span_id():016x}-01")
        kind = SpanKind.INTERNAL if record.cache else SpanKind.CLIENT
    return ReadableSpan(
        record.span_name,
        own,
        parent,
        resource,
        attributes=record.attributes(),
        kind=kind,
        status=Status(StatusCode.ERROR if record.error else StatusCode.UNSET),
        start_time=record.ended_ns - int(record.duration_s * NANO),
        end_time=record.ended_ns,
        instrumentation_scope=InstrumentationScope(SCOPE),
    )


def context_of(traceparent: str) -> SpanContext | None:
    from opentelemetry.trace import SpanContext, TraceFlags

    if not is_traceparent(traceparent):
        return None
    flags = TraceFlags(int(traceparent[53:55], 16))
    return SpanContext(int(traceparent[3:35], 16), int(traceparent[36:52], 16), is_remote=True, trace_flags=flags)


def is_sampled(traceparent: str) -> bool:
    return bool(int(traceparent[53:55] or "0", 16) & SAMPLED)
