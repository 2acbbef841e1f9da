"""What shortening prompts takes of a processor, on the workloads of the savings report.

    python -m tests.load.compression

Each request of a workload is shortened three times; the fastest pass counts. Nothing is sent.
"""

from __future__ import annotations

import time
from collections.abc import Sequence

from shared.compression.conversation import compressed
from shared.compression.modes import MODES, Mode
from tests.load.savings.workloads import Asked, Workload, workloads

PASSES = 3
ID = "0" * 20


def main() -> None:
    print(f"{'workload':<20} {'ms a call':>10} {'µs a KiB':>10} {'µs a token saved':>18}")
    for workload in workloads():
        print(line_of(workload))


def line_of(workload: Workload) -> str:
    asked = [one for wave in workload.waves for one in wave]
    modes = frozenset(mode for mode in MODES if mode in workload.modes)
    passes = [one_pass(asked, modes) for _ in range(PASSES)]
    took = min(seconds for seconds, _, _ in passes)
    _, kib, tokens = passes[0]
    a_token = f"{took / tokens * 1e6:.2f}" if tokens else "-"
    return f"{workload.name:<20} {took / len(asked) * 1e3:>10.2f} {took / kib * 1e6:>10.0f} {a_token:>18}"


def one_pass(asked: Sequence[Asked], modes: frozenset[Mode]) -> tuple[float, float, int]:
    """Processor seconds, KiB of text, tokens saved."""
    began = time.process_time()
    done = [compressed(one.messages, modes, lambda text: ID) for one in asked]
    took = time.process_time() - began
    return took, sum(one.original_bytes for one in done) / 1024, sum(one.saved_tokens for one in done)


if __name__ == "__main__":
    main()
