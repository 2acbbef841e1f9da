"""The tutorial's commands, run as they stand, say what it says they say."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.fixtures.servers import scratch_directory

ROOT = Path(__file__).resolve().parents[2]
TUTORIAL = ROOT / "docs" / "tutorials" / "first-answer.md"
BLOCK = re.compile(r"```console\n(.*?)```", re.DOTALL)
PICTURE = re.compile(r"```\n(.*?)```", re.DOTALL)
NUMBER = re.compile(r"\d+(\.\d+)?")


@dataclass(frozen=True)
class Step:
    """A command and the lines that it must print, in order; `…` stands for anything."""

    command: str
    expected: tuple[str, ...]


def steps(text: str) -> list[Step]:
    found: list[Step] = []
    for block in BLOCK.findall(text):
        for line in block.splitlines():
            if line.startswith("$ "):
                found.append(Step(line[2:], ()))
            elif line.strip():
                found[-1] = Step(found[-1].command, (*found[-1].expected, line))
    return found


def missing(lines: tuple[str, ...], printed: str) -> str:
    """The first piece of the expected lines that does not come, in order; empty when all do."""
    place = 0
    for piece in (piece for line in lines for piece in line.split("…") if piece):
        found = printed.find(piece, place)
        if found < 0:
            return piece
        place = found + len(piece)
    return ""


@pytest.fixture
def home() -> Iterator[dict[str, str]]:
    with scratch_directory() as folder:
        environment = {**os.environ, "DCODER_HOME": str(folder / "home")}
        yield environment
        subprocess.run(["./dcoder", "down", "--wipe"], cwd=ROOT, env=environment, capture_output=True, check=False)


def test_the_tutorial_has_steps() -> None:
    assert len(steps(TUTORIAL.read_text())) >= 10


@pytest.mark.timeout(400)
def test_every_step_of_the_tutorial_works_as_written(home: dict[str, str]) -> None:
    outputs = []
    for step in steps(TUTORIAL.read_text()):
        ran = subprocess.run(
            ["bash", "-c", f"({step.command}) 2>&1"], cwd=ROOT, env=home, capture_output=True, text=True, timeout=240,
            check=False,
        )  # fmt: skip
        printed = ran.stdout + ran.stderr
        assert ran.returncode == 0, f"{step.command}\n{printed}"
        assert missing(step.expected, printed) == "", f"{step.command}\n{printed}"
        outputs.append(printed)
    picture = PICTURE.findall((ROOT / "README.md").read_text())[0].splitlines()
    assert missing(tuple(map(unnumbered, picture)), unnumbered(outputs[0])) == "", outputs[0]


def unnumbered(text: str) -> str:
    """The text with times, ports and offsets alike, and runs of blanks as one."""
    return " ".join(NUMBER.sub("#", text).split())
