"""`bench`: measurements that come with the project, each on servers of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import click

from shared.cli.failures import Failed, Missing
from shared.cli.output import Result, command, rows_of, table
from shared.host.stack import ROOT

SAVINGS = "tests.load.savings"


@click.group(name="bench")
def bench_command() -> None:
    """Measure what the platform saves."""


def savings_text(result: Result) -> str:
    rows = rows_of(result, "rows")
    return table([list(row.values()) for row in rows], head=list(rows[0])) if rows else ""


@click.option("--page", type=click.Path(path_type=Path), help="Also write an HTML page with the table.")
def savings(page: Path | None) -> Result:
    """Send four fixed workloads through a gateway of their own, and tell what caching and compression save.

    It takes a minute or two, and touches no platform that runs.
    """
    if not (ROOT / "tests" / "load").is_dir():
        raise Missing("the workloads are not here", why="they come with the project's sources", fix="git clone it")
    wanted = ["--json", *(["--page", str(page.absolute())] if page else [])]
    done = subprocess.run(  # noqa: S603  our own module
        [sys.executable, "-m", SAVINGS, *wanted],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DCODER_LOG": "quiet"},
        stdout=subprocess.PIPE,
        check=False,
    )
    if done.returncode:
        raise Failed("the measurement failed", why="the lines above", fix=f".venv/bin/python -m {SAVINGS}")
    return dict(json.loads(done.stdout))


bench_command.add_command(command(savings_text, name="savings")(savings))
