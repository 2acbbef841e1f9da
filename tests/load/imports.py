"""What importing each function costs, beside bare functions-framework with pydantic: fresh processes, best of N.

python -m tests.load.imports [--runs 9]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time

from shared.function import catalog

BARE = "import functions_framework, pydantic\nclass M(pydantic.BaseModel):\n    x: int"
SERVING = "import functions_framework.aio, pydantic, fastapi"


def best_s(code: str, runs: int) -> float:
    """The shortest wall time of a fresh interpreter that runs this."""
    times = []
    for _ in range(runs):
        started = time.perf_counter()
        subprocess.run([sys.executable, "-c", code], cwd=catalog.ROOT, check=True)
        times.append(time.perf_counter() - started)
    return min(times)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=9)
    options = parser.parse_args()
    bare = best_s(BARE, options.runs)
    print(f"{os.cpu_count()} cores; best of {options.runs}; bar 1.3 × bare")
    print(f"  {'functions-framework + pydantic':<34} {bare * 1000:6.0f} ms")
    print(f"  {'… with ASGI and FastAPI':<34} {best_s(SERVING, options.runs) * 1000:6.0f} ms")
    for deployable in catalog.find():
        taken = best_s(f"import {deployable.module}", options.runs)
        print(f"  {deployable.name:<34} {taken * 1000:6.0f} ms   {taken / bare:.2f} ×")


if __name__ == "__main__":
    main()
