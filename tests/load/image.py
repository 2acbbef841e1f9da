"""The image's layers, and process start → first answer of a function in it, beside functions-framework in the same.

    python -m tests.load.image [--archive dcoder-functions.tar] [--function governance-keys] [--runs 9]

Without an archive it builds one. The process runs as the image's user in the image's root (chroot, so: as root), and
the answer is that of /health/live, which needs no store. Processor time is user and system time up to that answer.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from knative.image import contents
from knative.image.build import Wanted, build
from knative.image.unpack import layer_sizes, unpacked
from tests.fixtures.ports import free_port

PYTHON = f"/usr/local/bin/python{sys.version_info.major}.{sys.version_info.minor}"
FRAMEWORK = ("-P", "-m", "functions_framework", "--target", "main", "--asgi")
NOWHERE = {
    "DCODER_POSTGRES_URL": "postgresql://nobody@127.0.0.1:9/none",
    "DCODER_REDIS_URL": "redis://127.0.0.1:9",
    "DCODER_NATS_URL": "nats://127.0.0.1:9",
    "DCODER_OBJECTS_URL": "http://127.0.0.1:9",
    "DCODER_OBJECTS_ACCESS_KEY": "none",
    "DCODER_OBJECTS_SECRET_KEY": "none",
    "DCODER_PLATFORM_URL": "http://127.0.0.1:9",
    "DCODER_LLM_URL": "http://127.0.0.1:9",
    "DCODER_SECRETS_DIR": "/nonexistent",
    "FUNCTION_SOURCE": f"/{contents.APPLICATION}/functions/entry.py",
}
BAR_S, BAR_MB = 0.9, 250
WITHOUT = "from shared.function import serving, startup\n{}\nserving.main()"


@dataclass(frozen=True)
class Program:
    """One way to start a function in the image."""

    arguments: tuple[str, ...] = contents.ENTRYPOINT
    environment: Mapping[str, str] = field(default_factory=dict)


PROGRAMS: Mapping[str, Program] = {
    "the image's entrypoint": Program(),
    "… looking for plugins": Program(environment={"PYDANTIC_DISABLE_PLUGINS": ""}),
    "… building every model": Program(("-P", "-c", WITHOUT.format("startup.defer_models = lambda: None"))),
    "… collecting garbage": Program(("-P", "-c", WITHOUT.format("serving.gc.disable = lambda: None"))),
    "functions-framework": Program(FRAMEWORK),
}
"""Each but the last undoes one step of the entrypoint."""


def started(root: Path, program: Program, function: str) -> tuple[float, float]:
    """Seconds from the process's start to its first answer, and its processor seconds by then."""
    port = free_port()
    command = ["/usr/sbin/chroot", f"--userspec={contents.IDENTITY}", str(root), PYTHON, *program.arguments]
    environment = {
        **contents.ENVIRONMENT, **NOWHERE, **program.environment, "DCODER_FUNCTION": function, "PORT": str(port)
    }  # fmt: skip
    began = time.perf_counter()
    process = subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL)
    try:
        while process.poll() is None:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health/live", timeout=5)
            except httpx.TransportError:
                time.sleep(0.005)
            else:
                return time.perf_counter() - began, processor_s(process.pid)
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    finally:
        process.terminate()
        process.wait(20)


def processor_s(pid: int) -> float:
    """Of the process, its threads and its children, to the nanosecond."""
    tasks = list(Path(f"/proc/{pid}/task").iterdir())
    children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    own_ns = sum(int((task / "schedstat").read_text().split()[0]) for task in tasks)
    return own_ns / 1e9 + sum(processor_s(child) for child in children)


def report(name: str, rounds: list[tuple[float, float]]) -> None:
    walls, processors = zip(*rounds, strict=True)
    print(
        f"  {name:<26} wall: best {min(walls):5.2f} s, median {statistics.median(walls):5.2f} s"
        f"   processor: best {min(processors) * 1000:4.0f} ms, median {statistics.median(processors) * 1000:4.0f} ms"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path)
    parser.add_argument("--function", default="governance-keys")
    parser.add_argument("--runs", type=int, default=9)
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        archive = wanted.archive or Path(scratch, "image.tar")
        if wanted.archive is None:
            build(Wanted(contents.VARIANTS["functions"], "dev.local/measured:1"), archive, progress=lambda line: None)
        measure(archive, Path(scratch, "root"), wanted.function, wanted.runs)


def measure(archive: Path, root: Path, function: str, runs: int) -> None:
    sizes = layer_sizes(archive)
    for name, size in sizes:
        print(f"  {name:<26} {size / 1e6:6.1f} MB")
    print(f"  {'all':<26} {sum(size for _, size in sizes) / 1e6:6.1f} MB   bar {BAR_MB} MB")
    root.mkdir(mode=0o755)
    unpacked(archive, root)
    print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}; {function}, {runs} starts each; bar {BAR_S} s")
    rounds: dict[str, list[tuple[float, float]]] = {name: [] for name in PROGRAMS}
    for _ in range(runs):
        for name, program in PROGRAMS.items():
            rounds[name].append(started(root, program, function))
    for name, measured in rounds.items():
        report(name, measured)


if __name__ == "__main__":
    main()
