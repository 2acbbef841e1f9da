"""`test` and `generate`: the checks of the project itself."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TextIO

import click

from shared.cli.failures import Failed
from shared.cli.output import Result, as_json_option, command, print_json, say
from shared.host.stack import ROOT

CHECKS: tuple[tuple[str, tuple[str, ...], str], ...] = (
    ("format", ("ruff", "format", "--check", "."), "{python} -m ruff format ."),
    ("lint", ("ruff", "check", "."), "{python} -m ruff check --fix ."),
    ("types", ("mypy",), "correct what mypy names above"),
    ("import rules", ("importlinter.cli", "lint"), "move the import as the contract above asks"),
    ("generated files", ("shared.cli.generated", "--check"), "./dcoder generate"),
    ("rendered manifests", ("shared.cli", "deploy", "render", "--check"), "./dcoder deploy render"),
)
BY_FILE = ("--dist", "loadfile", "--no-loadscope-reorder")
"""Worker processes take whole files, in the order of their names: the whole stacks, which mostly wait, come early."""
LINT_IMPORTS = "from importlinter.cli import lint_imports_command; lint_imports_command()"


LOCAL = "local"


@click.command(name="test", context_settings={"ignore_unknown_options": True})
@click.option(
    "--with", "extras", default="", metavar="NAMES", help="Also run what needs these: minio, image, terraform, cluster."
)
@click.option(
    "--target",
    type=click.Choice([LOCAL, "cluster"]),
    default=LOCAL,
    show_default=True,
    help="Where tests/semantics looks for the platform.",
)
@as_json_option
@click.argument("pytest_arguments", nargs=-1, type=click.UNPROCESSED)
def test_command(extras: str, target: str, as_json: bool, pytest_arguments: tuple[str, ...]) -> None:
    """Formatting, lint, types, import rules, generated files, then every test, one worker process for each processor.

    Further arguments go to pytest, and then it runs alone, in one process: dcoder test tests/shared/host -k kill
    """
    output = sys.stderr if as_json else sys.stdout
    outcomes = {} if pytest_arguments else {name: check(name, argv, fix, output) for name, argv, fix in CHECKS}
    arguments = [from_root(one) for one in pytest_arguments] or ["-n", str(os.cpu_count() or 1), *BY_FILE]
    ours = [*(("--with", extras) if extras else ()), *(("--target", target) if target != LOCAL else ())]
    status = run_module(
        "pytest", [*arguments, *ours], output
    )  # a tenant's own tests, elsewhere, know no option of ours
    failed = [name for name, passed in outcomes.items() if not passed]
    if failed:
        say(f"failed: {', '.join(failed)}")
    ok = status == 0 and not failed
    if as_json:
        print_json({"ok": ok, "checks": outcomes, "pytest": status})
    if not ok:
        raise SystemExit(1)


def from_root(argument: str) -> str:
    """A path as it is from the project's root, where pytest runs, and not from where the user is."""
    here = Path.cwd()
    path, separator, case = argument.partition("::")
    if here == ROOT or not path or path.startswith("-") or not (here / path).exists():
        return argument
    return f"{here / path}{separator}{case}"


def check(name: str, argv: Sequence[str], fix: str, output: TextIO) -> bool:
    """Run one check; say what it took, or how to repair it."""
    began = time.monotonic()
    passed = run_module(argv[0], argv[1:], output) == 0
    took = time.monotonic() - began
    if passed:
        say(f"✓ {name} ({took:.1f} s)")
    else:
        say(f"✗ {name} ({took:.1f} s)\n  fix: {fix.format(python='.venv/bin/python')}")
    return passed


def run_module(module: str, arguments: Sequence[str], output: TextIO) -> int:
    """Run an installed tool in the project's root."""
    program = ["-c", LINT_IMPORTS] if module == "importlinter.cli" else ["-m", module, *arguments]
    return subprocess.call(  # noqa: S603  tools of the environment
        [sys.executable, *program],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=output,
    )


def generated_text(result: Result) -> str:
    changed = result["changed"]
    return "\n".join(changed) if isinstance(changed, list) and changed else "nothing to change"


@command(generated_text, name="generate")
@click.option("--check", "check_only", is_flag=True, help="Change nothing; fail when a file is not what the code says.")
def generate_command(check_only: bool) -> Result:
    """Write the files that are derived from the code: reference pages and the OpenAPI document."""
    from shared.cli import generated

    wanted = generated.pages()
    changed = generated.stale(ROOT, wanted)
    if check_only and changed:
        raise Failed(f"not what the code says: {', '.join(changed)}", fix="./dcoder generate")
    generated.write(ROOT, wanted)
    return {"changed": changed}
