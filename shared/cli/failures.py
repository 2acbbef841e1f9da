"""Why a command ends without having done what was asked: what happened, why, and the command that fixes it.

Failed            1
├── Misused       2   the command line is wrong
└── Missing       3   something the command needs is not there
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import ClassVar

COMMAND = re.compile(r"(?<![\w./-])dcoder(?= )")


class Failed(Exception):
    """The command could not do it."""

    exit_code: ClassVar[int] = 1
    code: ClassVar[str] = "failed"

    def __init__(self, what: str, *, why: str = "", fix: str = "") -> None:
        super().__init__(what)
        self.what = what
        self.why = why
        self.fix = fix

    def document(self) -> dict[str, object]:
        return {"code": self.code, "message": self.what, "why": typed(self.why), "fix": typed(self.fix)}

    def text(self) -> str:
        lines = [f"error: {self.what}"]
        if self.why:
            lines.append(f"  why: {typed(self.why)}")
        if self.fix:
            lines.append(f"  fix: {typed(self.fix)}")
        return "\n".join(lines)


def typed(command: str) -> str:
    """The command as it works where the person stands: `dcoder` is not on the PATH, its launcher can be named."""
    launcher = os.environ.get("DCODER_LAUNCHER", "")
    if not launcher:
        return command
    near = Path(launcher).parent == Path.cwd()
    return COMMAND.sub("./dcoder" if near else launcher, command)


class Misused(Failed):
    exit_code, code = 2, "usage"


class Missing(Failed):
    exit_code, code = 3, "prerequisite_missing"
