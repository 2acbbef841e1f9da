"""From a fresh clone to the first cited answer, packages already in the package manager's cache.

    python -m tests.load.first_answer

What is timed is what a newcomer does: clone, then `./dcoder up`, which makes the environment, starts the servers,
ingests the handbook and asks the first question.
"""

from __future__ import annotations

import json
import os
import subprocess
import time

from shared.host.stack import ROOT
from tests.fixtures.servers import scratch_directory

BAR_S = 120
TIMEOUT_S = 600


def main() -> None:
    with scratch_directory() as folder:
        clone = folder / "clone"
        environment = {**os.environ, "DCODER_HOME": str(folder / "home")}
        began = time.perf_counter()
        subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True, timeout=TIMEOUT_S)
        cloned_s = time.perf_counter() - began
        try:
            up = subprocess.run(
                ["./dcoder", "up", "--detach", "--json"], cwd=clone, env=environment, stdout=subprocess.PIPE,
                check=False, timeout=TIMEOUT_S,
            )  # fmt: skip
            answered_s = time.perf_counter() - began
            if up.returncode != 0:
                raise SystemExit(up.stdout.decode())
        finally:
            subprocess.run(["./dcoder", "down", "--wipe"], cwd=clone, env=environment, capture_output=True, check=False)
    said = json.loads(up.stdout)
    started_s, cited = float(said["started_in_s"]), len(said["welcome"]["citations"])
    print(
        f"{os.cpu_count()} cores; clone {cloned_s:.1f} s, environment {answered_s - cloned_s - started_s:.1f} s, ",
        end="",
    )
    print(f"servers, handbook and first answer {started_s:.1f} s")
    print(f"clone → first answer with {cited} citations   {answered_s:.1f} s   bar {BAR_S} s")


if __name__ == "__main__":
    main()
