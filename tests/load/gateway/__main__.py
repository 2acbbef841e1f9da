"""What the gateway costs and stands, beside the LiteLLM proxy, Portkey's gateway and nginx, in one run.

    python -m tests.load.gateway [--rounds 5] [--seconds 2] [--only ours,nginx] [--samples FILE]

Rounds are interleaved: each contender's in turn, and again. Each contender is one process on the first core; load,
provider and the stores are on the second. `ours` is governed: a key with eight limits, reservation, ledger, headers,
and a collector that is told of each call; `untold` is the same without the collector (only when asked for by name).
`bare` is our HTTP on both sides with nothing between. The peers have neither limits nor ledger: LiteLLM needs a program
for them that only another vendor's network has, Portkey's open version lacks them. `added` is a percentile minus the
same one of `direct` in the same round; medians over the rounds are shown. `--samples` keeps each latency.
"""

from __future__ import annotations

import argparse
import asyncio
import gzip
import json
import os
import statistics
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path

from tests.fixtures.platform import scratch_platform
from tests.load import http_load
from tests.load.beside import beside
from tests.load.gateway import contenders, streams
from tests.load.gateway.contenders import Contender
from tests.load.gateway.upstream import GAP_S

NAMES = ("nginx", "bare", "ours", "untold", "portkey", "litellm")
USUAL = tuple(name for name in NAMES if name != "untold")
LEVELS = (8, 16, 32, 64)
P99_MAX_MS = 100.0
STREAMS = 256
OPENED_S = 1.0  # a stream lasts twice as long, so all are open at once
TYPE = {"content-type": "application/json"}


def asked(model: str, **more: object) -> bytes:
    return json.dumps({"model": model, "messages": [{"role": "user", "content": "Hi"}], **more}).encode()


@dataclass
class Round:
    """One contender's part of a round."""

    latencies_ms: list[float]
    per_second: float
    cpu_ms: float
    """Its processor time a request."""

    def at(self, share: float) -> float:
        return percentile(self.latencies_ms, share)


@dataclass
class Run:
    """The figures of a whole run."""

    everybody: dict[str, Contender]
    rounds: int
    seconds: float
    samples: list[dict[str, object]] = field(default_factory=list)

    def measured(
        self, what: str, model: str, connections: int, names: Iterable[str] | None = None
    ) -> dict[str, list[Round]]:
        """Closed-loop rounds; the first one warms up and does not count."""
        found: dict[str, list[Round]] = defaultdict(list)
        for number in range(self.rounds + 1):
            for name in names or self.everybody:
                one = self.everybody[name]
                before = one.cpu_s
                load = asyncio.run(
                    http_load.run(
                        one.url,
                        seconds=self.seconds if number else min(self.seconds, 1.0),
                        connections=connections,
                        body=asked(model),
                        headers={**TYPE, **one.headers},
                    )
                )
                if load.failures or not load.latencies_ms:
                    raise SystemExit(f"{name}: {load.failures} of {len(load.latencies_ms)} answers were not 2xx")
                if number:
                    cpu_ms = (one.cpu_s - before) * 1000 / len(load.latencies_ms)
                    found[name].append(Round(load.latencies_ms, load.per_second, cpu_ms))
                    self._keep(what, name, number, load.latencies_ms, connections=connections, cpu_ms=cpu_ms)
        return found

    def streamed(self, count: int, over_s: float) -> dict[str, list[streams.Streams]]:
        found: dict[str, list[streams.Streams]] = defaultdict(list)
        body = asked("instant", stream=True)
        for number in range(self.rounds + 1):
            for name, one in self.everybody.items():
                told = asyncio.run(
                    streams.run(one.url, streams=count, over_s=over_s, body=body, headers={**TYPE, **one.headers})
                )
                if number:
                    found[name].append(told)
                    self._keep(
                        f"{count} streams over {over_s:g} s",
                        name,
                        number,
                        told.frames_ms,
                        first_ms=told.first_ms,
                        whole=told.whole,
                    )
        return found

    def _keep(self, what: str, name: str, number: int, values: Sequence[float], **more: object) -> None:
        latencies = [round(value, 4) for value in values]
        self.samples.append({"what": what, "of": name, "round": number, "ms": latencies, **more})


def percentile(values: Sequence[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(len(ordered) * share))] if ordered else float("nan")


def added(found: dict[str, list[Round]], name: str, share: float) -> float:
    pairs = zip(found[name], found["direct"], strict=True)
    return statistics.median(one.at(share) - direct.at(share) for one, direct in pairs)


def idle_wait() -> str:
    """How long this kernel lets a virtual processor wait for work before it gives it back, which makes the next wake-up
    slow. It decides much of a time at one connection. docs.kernel.org/virt/guest-halt-polling.html"""
    setting = Path("/sys/module/haltpoll/parameters/guest_halt_poll_ns")
    return f"{int(setting.read_text()) / 1000:g} µs" if setting.exists() else "as long as its driver says"


def table(title: str, columns: Sequence[str], rows: Iterable[tuple[str, Sequence[str]]]) -> None:
    print(f"\n{title}\n  {'':<10}" + "".join(f"{column:>16}" for column in columns))
    for name, values in rows:
        print(f"  {name:<10}" + "".join(f"{value:>16}" for value in values), flush=True)


def latency(run: Run, model: str, title: str, connections: int) -> None:
    found = run.measured(title, model, connections)
    rows = [
        (name, (f"{added(found, name, 0.5):.2f}", f"{added(found, name, 0.99):.2f}", cpu(found[name])))
        for name in found
        if name != "direct"
    ]
    table(title, ("added p50 ms", "added p99 ms", "CPU ms/request"), rows)


def cpu(rounds: Sequence[Round]) -> str:
    return f"{statistics.median(one.cpu_ms for one in rounds):.3f}"


def throughput(run: Run) -> None:
    best: dict[str, tuple[float, int, float, str]] = {}
    for connections in LEVELS:
        found = run.measured(f"throughput at {connections}", "instant", connections)
        for name, rounds in found.items():
            p99 = statistics.median(one.at(0.99) for one in rounds)
            rate = statistics.median(one.per_second for one in rounds)
            if p99 < P99_MAX_MS and rate > best.get(name, (0.0,))[0]:
                best[name] = (rate, connections, p99, cpu(rounds))
    rows = [
        (name, (f"{rate:,.0f}", str(connections), f"{p99:.1f}", of_cpu))
        for name, (rate, connections, p99, of_cpu) in best.items()
    ]
    title = f"Throughput of one core, the best of {', '.join(map(str, LEVELS))} connections with p99 < 100 ms"
    table(title, ("requests/s", "connections", "p99 ms", "CPU ms/request"), rows)


def paced(run: Run, count: int, over_s: float) -> None:
    found = run.streamed(count, over_s)
    rows = []
    for name, rounds in found.items():
        direct = found["direct"]
        whole = min(one.whole for one in rounds)
        pairs = list(zip(rounds, direct, strict=True))
        first, frame = (
            statistics.median(
                percentile(getattr(one, of), 0.99) - percentile(getattr(other, of), 0.99) for one, other in pairs
            )
            for of in ("first_ms", "frames_ms")
        )
        middle = statistics.median(
            percentile(one.frames_ms, 0.5) - percentile(other.frames_ms, 0.5) for one, other in pairs
        )
        rows.append((name, (f"{whole} of {count}", f"{first:.2f}", f"{middle:.3f}", f"{frame:.3f}")))
    columns = ("whole", "first p99 ms", "frame p50 ms", "frame p99 ms")
    table(f"{count} paced streams, opened over {over_s:g} s: added to the first frame, and to each", columns, rows)


def starts(run: Run) -> None:
    rows = [(name, (f"{one.ready_s:.2f}", f"{one.resident_mib:.0f}")) for name, one in run.everybody.items() if one.pid]
    table("From the start of the process to the first 200, and memory before the load", ("s", "MiB"), rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--only", default=",".join(USUAL))
    parser.add_argument("--parts", default="latency,throughput,crowd,streams")
    parser.add_argument("--samples", type=Path)
    options = parser.parse_args()
    names = [name for name in NAMES if name in options.only.split(",")]
    contenders.pin()
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="dcoder-bench-")))
        platform = stack.enter_context(scratch_platform())
        base_url = stack.enter_context(beside("tests.load.gateway.upstream"))
        everybody = stack.enter_context(contenders.everybody(names, platform, base_url, folder))
        run = Run(everybody, options.rounds, options.seconds)
        load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
        print(f"{os.cpu_count()} cores, load {load}; medians of {options.rounds} rounds of {options.seconds:g} s")
        print(f"Python {sys.version} at {sys.base_prefix}")
        print(f"an idle processor waits {idle_wait()} before it sleeps")
        parts = options.parts.split(",")
        starts(run)
        if "latency" in parts:
            latency(run, "instant", "One connection, provider answers at once", 1)
            latency(run, "slow", "One connection, provider answers after 20 ms", 1)
        if "throughput" in parts:
            throughput(run)
        if "crowd" in parts:
            latency(run, "slow", "64 connections, provider answers after 20 ms", 64)
        if "streams" in parts:
            paced(run, 1, 0)
            for over_s in (OPENED_S, GAP_S):
                paced(run, STREAMS, over_s)
        if options.samples:
            with gzip.open(options.samples, "wt", encoding="utf-8") as file:
                file.writelines(json.dumps(one) + "\n" for one in run.samples)
    sys.stdout.flush()


if __name__ == "__main__":
    main()
