"""Whether what was left out is really not needed: everything that the application imports, anywhere, is imported."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from knative.image.contents import ENVIRONMENT
from shared.errors import Fault


def imports_in(application: Path) -> set[str]:
    """The modules that the application's files name in import statements, those for type checkers aside."""
    return {name for path in application.rglob("*.py") for name in imports_of(ast.parse(path.read_text()))}


def imports_of(tree: ast.AST) -> Iterator[str]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            yield node.module
        else:
            yield from imports_of(node)


def check(application: Path, libraries: Sequence[Path], *, elsewhere: frozenset[str] = frozenset()) -> None:
    """Import all of it with nothing else in reach. Raises `Fault` naming the module that is missing.

    `elsewhere`: packages that another image has, for functions that run there.
    """
    wanted = sorted(name for name in imports_in(application) if name.partition(".")[0] not in elsewhere)
    program = "import importlib\nfor name in " + repr(wanted) + ":\n    importlib.import_module(name)\n"
    path = os.pathsep.join(str(one) for one in (application, *libraries))
    done = subprocess.run(  # noqa: S603  this interpreter
        [sys.executable, "-S", "-s", "-P", "-B", "-c", program],
        env={**ENVIRONMENT, "PYTHONPATH": path, "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        last = done.stderr.strip().rpartition("\n")[2]
        raise Fault(
            f"the image lacks what a function imports: {last}; see OMITTED and PRUNED in knative/image/contents.py"
        )
