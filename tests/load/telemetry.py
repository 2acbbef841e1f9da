"""What telling a collector takes: python -m tests.load.telemetry [calls]

On its way a call pays for putting its two records, a function's and a model's, into the queue. The rest is processor
time of a thread beside it, until both are with the collector: that is nothing for one call, and a part of the core for
many. The collector is a process of its own that takes everything and reads nothing.
"""

from __future__ import annotations

import asyncio
import resource
import statistics
import sys
import time

from shared.otel import Collector, FunctionCall, ModelCall, Telemetry
from shared.usage import Tokens
from tests.load.beside import beside

CALLS = 20_000
AT_ONCE = 500
WARM_UP = 200
TRACE = f"00-{'a' * 32}-{'b' * 16}-01"


def records(number: int) -> tuple[FunctionCall, ModelCall]:
    now = time.time_ns()
    function = FunctionCall(
        "gateway-llm.chat_completions", "POST", "/v1/chat/completions", 200, 0.9, now, "acme", str(number), TRACE, TRACE
    )
    model = ModelCall(
        "chat", "openai", "gpt-4o-mini", "acme", TRACE, stream=True, max_tokens=100, temperature=0.5, began_s=0.001,
        first_s=0.2, ended_s=0.9, ended_ns=now, chunks=50, used=Tokens(1000, 100, 400), cost_micro_usd=180,
        head=b'data: {"id":"chatcmpl-1","object":"chat.completion.chunk","model":"gpt-4o-mini-2024-07-18"}',
        reason=b'"finish_reason":"stop"',
    )  # fmt: skip
    return function, model


def cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


def put(telemetry: Telemetry, calls: int) -> list[float]:
    """Microseconds of each call's two, without making the queue longer than it may be."""
    taken = []
    for number in range(calls):
        began = time.perf_counter()
        for record in records(number):
            telemetry.put(record)
        taken.append((time.perf_counter() - began) * 1e6)
        while len(telemetry._queue) > AT_ONCE:
            time.sleep(0.002)
    return taken


def measured(url: str, calls: int) -> int:
    telemetry, memory = Telemetry(Collector(url, every_s=0.005)), resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    put(telemetry, WARM_UP)
    time.sleep(1)
    cpu = cpu_s()
    taken = sorted(put(telemetry, calls))
    while telemetry._queue:
        time.sleep(0.01)
    each = (cpu_s() - cpu) / calls * 1e6
    more = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory) / 1024
    print(
        f"{calls:,} calls: put p50 {statistics.median(taken):.1f} us, p99 {taken[calls * 99 // 100]:.1f} us;", end=" "
    )
    print(f"processor time in all {each:.0f} us a call; {telemetry.dropped} dropped; {more:.0f} MiB more memory")
    asyncio.run(telemetry.close())
    return 1 if telemetry.dropped else 0


def main() -> int:
    calls = int(sys.argv[1]) if len(sys.argv) > 1 else CALLS
    with beside("tests.load.collector") as url:
        return measured(url, calls)


if __name__ == "__main__":
    sys.exit(main())
