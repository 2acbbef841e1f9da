"""The program, and folders in which a root module finds `terraform/` beside it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.fixtures.servers import scratch_directory
from tests.terraform.program import TERRAFORM, Program, binary

MakeRoot = Callable[[str], Path]


@pytest.fixture(scope="session")
def program() -> Iterator[Program]:
    with scratch_directory() as scratch:
        yield Program(binary(), scratch)


@pytest.fixture
def make_root(program: Program, tmp_path: Path) -> MakeRoot:
    """Write a root module and initialise it."""

    def make(text: str) -> Path:
        (tmp_path / "terraform").symlink_to(TERRAFORM)
        (tmp_path / "main.tf").write_text(text)
        program.ok(tmp_path, "init")
        return tmp_path

    return make
