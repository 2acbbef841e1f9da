"""Nobody but shared/postgres opens, acquires or configures a database connection.

Why: a handler that took a connection of its own once wrote one tenant's rows through another tenant's session,
because the pooled connection still carried the first one's settings. A handler gets `TenantDatabase`, which is bound
to its tenant, and session state (`SET` without `LOCAL`, session advisory locks, `LISTEN`) never survives a pooler.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

OWNER = "shared/postgres/"
FORBIDDEN_CALLS = frozenset({"create_pool", "set_type_codec", "add_listener"})
SESSION_STATE = re.compile(
    r"^\s*(SET\s+(?!LOCAL\b|TRANSACTION\b)\w+\s*(=|TO\b)|LISTEN\s|SELECT\s+pg_(try_)?advisory_lock\b)", re.IGNORECASE
)


def violations(path: str, source: str) -> Iterator[str]:
    """`path:line: sentence` for each call or statement that breaks the rule."""
    if path.startswith(OWNER):
        return
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in FORBIDDEN_CALLS:
            yield f"{path}:{node.lineno}: {node.func.attr} outside {OWNER}"
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and SESSION_STATE.match(node.value):
            yield f"{path}:{node.lineno}: session state in SQL; use SET LOCAL or pg_advisory_xact_lock"


def check(root: Path) -> list[str]:
    """Every violation below functions/ and shared/."""
    files = [*root.glob("functions/**/*.py"), *root.glob("shared/**/*.py")]
    return [line for file in sorted(files) for line in violations(str(file.relative_to(root)), file.read_text())]
