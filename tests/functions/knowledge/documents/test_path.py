"""The parser's child finds the libraries wherever its parent found them: in a container that is PYTHONPATH alone."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig

import pytest

from shared.host.stack import ROOT

HANDBOOK = ROOT / "docs" / "handbook"
PARSE = """
import asyncio, pathlib, sys
from functions.knowledge.documents.parsing import Parsers
async def parsed():
    parsers = Parsers()
    try:
        return await parsers.parse(pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[1]).name)
    finally:
        await parsers.close()
print(len(asyncio.run(parsed()).text))
"""


@pytest.mark.parametrize("name", ["operations-runbook.docx", "security-overview.pdf"])
def test_a_file_is_read_where_the_libraries_are_on_the_path_only(name: str) -> None:
    outside = os.path.realpath(sys.executable)  # not the environment's own, which would find them by itself
    path = os.pathsep.join((str(ROOT), sysconfig.get_path("purelib")))

    done = subprocess.run(
        [outside, "-P", "-c", PARSE, str(HANDBOOK / name)],
        env={"PYTHONPATH": path, "PATH": os.defpath}, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stderr
    assert int(done.stdout) > 500
