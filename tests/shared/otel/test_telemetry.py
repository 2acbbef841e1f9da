"""The way to a collector never holds a call up: bounded, counted, and nothing at all without one."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest

from shared.errors import Fault
from shared.otel import Collector as To
from shared.otel import FunctionCall, Telemetry
from shared.settings import collector_headers, collector_url
from shared.telemetry import traceparent
from tests.fixtures.collector import Collector, collecting
from tests.fixtures.ports import free_port
from tests.fixtures.waiting import until

TRACE, SPAN = "a" * 32, "b" * 16


@pytest.fixture
def collector() -> Iterator[Collector]:
    with collecting() as collector:
        yield collector


def record(number: int = 0) -> FunctionCall:
    return FunctionCall(
        "f.o", "GET", "/x", 200, 0.001, time.time_ns(), "acme", f"request-{number}", f"00-{TRACE}-{SPAN}-01", ""
    )


async def test_what_waits_is_sent_before_the_end(collector: Collector) -> None:
    telemetry = Telemetry(To(collector.url, every_s=60))
    for number in range(1000):
        telemetry.put(record(number))
    await telemetry.close()
    assert len(collector.spans) == 1000
    assert telemetry.dropped == 0
    assert collector.latest["http.server.request.duration"].histogram.data_points[0].count == 1000


async def test_a_collector_that_hangs_holds_nobody_up_and_what_is_too_much_is_counted(collector: Collector) -> None:
    collector.held = threading.Event()
    telemetry = Telemetry(To(collector.url, every_s=0.01), queue_max=100)
    telemetry.put(record())
    await until(lambda: not telemetry._queue, 10)  # the thread has it, and waits for the collector
    began = time.perf_counter()
    for number in range(1000):
        telemetry.put(record(number))
    assert time.perf_counter() - began < 1
    assert (telemetry.dropped, len(telemetry._queue)) == (900, 100)
    collector.held.set()
    await until(lambda: len(collector.spans) == 101, 10)
    await telemetry.close()
    dropped = collector.latest["dcoder.telemetry.dropped"].sum
    assert (dropped.data_points[0].as_int, dropped.is_monotonic) == (900, True)


async def test_what_a_collector_does_not_take_is_counted(collector: Collector) -> None:
    collector.status = 400
    telemetry = Telemetry(To(collector.url, every_s=0.01))
    telemetry.put(record())
    await until(lambda: telemetry.dropped == 1, 10)
    await telemetry.close()


async def test_without_a_collector_at_its_address_the_end_comes_in_seconds() -> None:
    telemetry = Telemetry(To(f"http://127.0.0.1:{free_port()}", every_s=0.01))
    telemetry.put(record())
    began = time.perf_counter()
    await telemetry.close()
    assert time.perf_counter() - began < 15


def test_a_process_without_a_collector_loads_nothing_for_one() -> None:
    code = (
        "import sys; from shared.function import catalog; from shared.function.process import Process;"
        "from shared.cli.generated import NOWHERE; catalog.find();"
        "assert Process(NOWHERE, {}).telemetry is None;"
        "sys.exit(any(name.startswith(('opentelemetry.proto', 'google.protobuf')) for name in sys.modules))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


@pytest.mark.parametrize("flags", ["00", "01", "03", "ff"])
def test_a_callers_trace_goes_on_with_its_wish_to_be_recorded(flags: str) -> None:
    ours = traceparent(f"00-{TRACE}-{SPAN}-{flags}")
    assert ours.startswith(f"00-{TRACE}-")
    assert ours[36:52] != SPAN
    assert ours[53:] == f"{int(flags, 16) & 1:02x}"


@pytest.mark.parametrize(
    "received",
    [
        "", "x", f"00-{TRACE}-{SPAN}", f"00-{'0' * 32}-{SPAN}-01", f"00-{TRACE}-{'0' * 16}-01", f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more", f"00-{TRACE.upper()}-{SPAN}-01", f"00-{TRACE}-{SPAN}-0g",
    ],
)  # fmt: skip
def test_what_is_no_trace_context_begins_a_trace(received: str) -> None:
    ours = traceparent(received)
    assert TRACE not in ours
    assert ours.endswith("-01")


def test_a_version_yet_to_come_is_read_as_far_as_it_is_known() -> None:
    assert traceparent(f"01-{TRACE}-{SPAN}-01-what-comes").startswith(f"00-{TRACE}-")


@pytest.mark.parametrize("url", ["collector:4318", "ftp://c", "http://", "http://u:p@c", "http://c?key=1", "http://[c"])
def test_what_is_no_collectors_address_is_refused_without_repeating_it(url: str) -> None:
    with pytest.raises(Fault) as refused:
        collector_url(url)
    assert url not in refused.value.detail.replace("http://collector:4318", "")


def test_headers_are_read_as_opentelemetry_has_them() -> None:
    assert collector_headers("") == {}
    assert collector_headers("X-Token=a%20b%3D,y=1,") == {"x-token": "a b=", "y": "1"}
    for text in ("secret", "a b=secret", "x=secret%0d%0aevil"):
        with pytest.raises(Fault) as refused:
            collector_headers(text)
        assert "secret" not in refused.value.detail
