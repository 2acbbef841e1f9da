"""A vendor's SDK is imported by its one owner, and there inside a function, never at import.

Why: importing litellm costs 3.5 s and 169 MiB, boto3 0.3 s, nats 0.3 s. One `import boto3` at the top of a shared
module made every function that scales from zero pay for it, the ones that never touch an object included; and two
owners of one client are two connection budgets and two places to patch.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from pathlib import Path

OWNERS: Mapping[str, tuple[str, ...]] = {
    "asyncpg": ("shared/postgres/",),
    "pgvector": ("shared/postgres/",),
    "redis": ("shared/redis/",),
    "boto3": ("shared/objects.py",),
    "botocore": ("shared/objects.py", "shared/object_keys.py"),
    "nats": ("shared/events/", "shared/host/delivery.py"),
    "temporalio": ("shared/workflows/",),
    "litellm": ("functions/gateway/translate/",),
    "onnxruntime": ("shared/embeddings/",),
    "onnx": ("shared/embeddings/",),
    "tokenizers": ("shared/embeddings/",),
    "safetensors": ("shared/embeddings/",),
    "opentelemetry": ("shared/otel/",),
    "jwt": ("shared/identity.py",),
    "httpx": (
        "shared/function/invoke.py",
        "shared/function/forwarding.py",
        "shared/events/broker.py",
        "shared/llm/",
        "shared/cli/",
        "shared/host/",
        "functions/gateway/llm/",
    ),
}


def violations(path: str, source: str) -> Iterator[str]:
    """`path:line: sentence` for each import that breaks the rule. Imports for type checkers only are free."""
    tree = ast.parse(source)
    checked = {id(node) for block in type_checking_blocks(tree) for node in ast.walk(block)}
    top = {id(node) for node in tree.body}
    for node in ast.walk(tree):
        if id(node) in checked:
            continue
        for vendor in imported(node):
            owners = OWNERS.get(vendor)
            if owners is None:
                continue
            if not path.startswith(owners):
                yield f"{path}:{node.lineno}: {vendor} belongs to {', '.join(owners)}"  # type: ignore[attr-defined]
            elif id(node) in top:
                yield f"{path}:{node.lineno}: import {vendor} inside the function that uses it"  # type: ignore[attr-defined]


def imported(node: ast.AST) -> list[str]:
    if isinstance(node, ast.Import):
        return [alias.name.partition(".")[0] for alias in node.names]
    if isinstance(node, ast.ImportFrom) and node.module and not node.level:
        return [node.module.partition(".")[0]]
    return []


def type_checking_blocks(tree: ast.AST) -> Iterator[ast.If]:
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and isinstance(node.test, ast.Name) and node.test.id == "TYPE_CHECKING":
            yield node


def check(root: Path) -> list[str]:
    """Every violation below functions/ and shared/."""
    files = [*root.glob("functions/**/*.py"), *root.glob("shared/**/*.py")]
    return [line for file in sorted(files) for line in violations(str(file.relative_to(root)), file.read_text())]
