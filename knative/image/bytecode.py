"""Python compiled ahead: an import then reads one file, compares nothing and writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shared.errors import Fault


def compile_beside(root: Path, folder: Path) -> None:
    """Compile what lies in `root / folder` for its place at `/folder`, into `__pycache__`. Raises `Fault`."""
    compile_all(root, folder, [])


def compile_instead(root: Path, folder: Path) -> None:
    """The same, and drop the sources: a traceback then names file and line, without the line's text. Raises `Fault`."""
    compile_all(root, folder, ["-b"])
    for source in sorted((root / folder).rglob("*.py")):
        if source.with_suffix(".pyc").exists():
            source.unlink()


def compile_all(root: Path, folder: Path, placement: list[str]) -> None:
    """Never checked against sources, which have no times. One process, one order, one seed: else sets and references
    come out in another order, and the bytes differ. Templates of another syntax stay as they are.
    """
    options = [
        *placement,
        "-q",
        "-q",
        "-f",
        "-o",
        "0",
        "--invalidation-mode",
        "unchecked-hash",
        "-s",
        str(root),
        "-p",
        "/",
    ]
    done = subprocess.run(  # noqa: S603  this interpreter
        [sys.executable, "-s", "-P", "-m", "compileall", *options, str(root / folder)],
        env={"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1):  # 1: some file did not compile
        raise Fault(f"compileall failed for {folder}: {done.stderr.strip()[-500:]}")
