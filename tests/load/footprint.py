"""How long the stack takes to start, and the memory it holds when idle.

    python -m tests.load.footprint [--starts 3] [--idle-s 20]

Memory is the proportional set size: a page that several processes share counts once in all.
"""

from __future__ import annotations

import argparse
import statistics
import time

from tests.fixtures.servers import scratch_directory
from tests.fixtures.stack import Cli

MEMORY_BAR_MIB = 900
START_BAR_S = 10


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--starts", type=int, default=3, help="starts after the first")
    parser.add_argument("--idle-s", type=float, default=20.0, help="seconds to leave it alone before measuring")
    wanted = parser.parse_args()
    with scratch_directory() as folder:
        cli = Cli(folder / "home")
        try:
            measure(cli, wanted.starts, wanted.idle_s)
        finally:
            cli.run("down", "--wipe")


def measure(cli: Cli, starts: int, idle_s: float) -> None:
    first = cli.json("up", "--detach")["started_in_s"]
    later = []
    for _ in range(starts):
        cli.json("down")
        later.append(cli.json("up", "--detach")["started_in_s"])
    time.sleep(idle_s)
    status = cli.json("status")
    print(f"{'first start, with the handbook ingested':<42} {first:>8.1f} s")
    print(f"{f'later start (median of {starts})':<42} {statistics.median(later):>8.1f} s   bar {START_BAR_S} s")
    for row in status["processes"]:
        print(f"{'memory of ' + row['name']:<42} {row['memory_mib']:>8.1f} MiB")
    print(f"{'memory of the idle stack':<42} {status['memory_mib']:>8.1f} MiB bar {MEMORY_BAR_MIB} MiB")


if __name__ == "__main__":
    main()
