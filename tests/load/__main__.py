"""Runs every benchmark, one after the other, each in a process of its own: `python -m tests.load [NAME …]`.

They want the machine for themselves: what runs beside them is in their figures. All takes about a quarter of an hour.
"""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BENCHMARKS = (
    *(
        "first_answer",
        "footprint",
        "imports",
        "image",
        "runtime",
        "tenants",
        "ingest",
        "retrieval",
        "abstention",
        "search",
        "audit",
        "sealing",
        "prices",
        "usage",
        "savings",
        "compression",
    ),
    "quotas",
    "interleavings",
    "fidelity",
    "growth",
    "changes",
    "gateway",
)
ON_A_CLUSTER = ("cold_start",)
"""By name only: they want the platform deployed."""


def main() -> int:
    wanted = sys.argv[1:] or list(BENCHMARKS)
    known = (*BENCHMARKS, *ON_A_CLUSTER)
    unknown = [name for name in wanted if name not in known]
    if unknown:
        print(f"there is no benchmark {unknown[0]!r}; there are {', '.join(known)}", file=sys.stderr)
        return 2
    failed = [name for name in wanted if not ran(name)]
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return 1 if failed else 0


def ran(name: str) -> bool:
    """Run one benchmark. Whether it ended well."""
    print(f"── {name}", flush=True)
    began = time.monotonic()
    status = subprocess.call([sys.executable, "-m", f"tests.load.{name}"], cwd=ROOT)
    print(f"   ({time.monotonic() - began:.0f} s)\n", flush=True)
    return status == 0


if __name__ == "__main__":
    sys.exit(main())
