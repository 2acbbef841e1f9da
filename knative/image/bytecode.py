"""Python compiled ahead: an import then reads one file, compares nothing and writes nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from shared.errors import Fault


def compile_tree(root: Path, folder: Path) -> None:
    """Compile what lies in `root / folder` for its place at `/folder`; `.pyc` files are never checked against sources.

    One process, one order, one seed: else sets and references come out in another order, and the bytes differ.
    Files that are templates of another syntax stay as they are. Raises `Fault`.
    """
    options = ["-q", "-q", "-f", "-o", "0", "--invalidation-mode", "unchecked-hash", "-s", str(root), "-p", "/"]
    done = subprocess.run(  # noqa: S603  this interpreter
        [sys.executable, "-s", "-P", "-m", "compileall", *options, str(root / folder)],
        env={"PATH": os.environ.get("PATH", ""), "PYTHONHASHSEED": "0", "LANG": "C.UTF-8"},
        capture_output=True,
        text=True,
    )
    if done.returncode not in (0, 1):  # 1: some file did not compile
        raise Fault(f"compileall failed for {folder}: {done.stderr.strip()[-500:]}")
