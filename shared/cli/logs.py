"""`logs`."""

from __future__ import annotations

import time
from collections import deque
from pathlib import Path

import click

from shared.cli.failures import Misused
from shared.cli.output import Result, command
from shared.host.home import find_home

LINES_MAX = 100_000
POLL_S = 0.2


def logs_text(result: Result) -> str:
    logs = result["logs"]
    assert isinstance(logs, dict)
    if len(logs) == 1:
        return "\n".join(next(iter(logs.values())))
    return "\n".join(f"{name:<9} {line}" for name, lines in logs.items() for line in lines)


@command(logs_text, name="logs")
@click.argument("name", default="")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(1, LINES_MAX))
def logs_command(name: str, follow: bool, lines: int) -> Result:
    """Show the last lines of one process, or of all: host, postgres, nats, redis, objects, platform, gateway, …"""
    files = log_files(name)
    if follow:
        follow_files(files, lines)
    return {"logs": {file.stem: last_lines(file, lines) for file in files}}


def log_files(name: str) -> list[Path]:
    found = sorted(find_home().logs.glob("*.log"))
    chosen = [file for file in found if name in ("", file.stem)]
    if name and not chosen:
        known = ", ".join(file.stem for file in found) or "none yet"
        raise Misused(f"there is no log named {name!r}", why=f"known: {known}", fix="dcoder logs")
    return chosen


def last_lines(file: Path, count: int) -> list[str]:
    with file.open(errors="replace") as source:
        return [line.rstrip("\n") for line in deque(source, maxlen=count)]


def follow_files(files: list[Path], lines: int) -> None:
    """Print what is there, then what comes, until interrupted."""
    positions = dict.fromkeys(files, 0)
    for file in files:
        for line in last_lines(file, lines):
            click.echo(f"{file.stem:<9} {line}")
        positions[file] = file.stat().st_size
    while True:
        for file in files:
            positions[file] = print_from(file, positions[file])
        time.sleep(POLL_S)


def print_from(file: Path, position: int) -> int:
    """Print whole lines from `position` on; start over when the file was replaced by a shorter one."""
    with file.open("rb") as source:
        source.seek(position if file.stat().st_size >= position else 0)
        new = source.read()
        whole = new[: new.rfind(b"\n") + 1]
        for line in whole.decode(errors="replace").splitlines():
            click.echo(f"{file.stem:<9} {line}")
        return source.tell() - len(new) + len(whole)
