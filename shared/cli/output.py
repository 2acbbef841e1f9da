"""What a command writes: its result on stdout (text, or one JSON document with `--json`), everything else on stderr."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import update_wrapper
from typing import ParamSpec

import click

from shared.cli.failures import Failed

P = ParamSpec("P")
Result = Mapping[str, object]
Text = Callable[[Result], str]


as_json_option = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")


def command(text: Text, *, name: str) -> Callable[[Callable[P, Result]], click.Command]:
    """A click command with `--json`. The function returns the JSON document, `text` renders it for people.

    A result with `ok: false` is printed like any other and exits 1.
    """

    def wrap(function: Callable[P, Result]) -> click.Command:
        def run(*args: P.args, **kwargs: P.kwargs) -> None:
            as_json = bool(kwargs.pop("as_json"))
            result = function(*args, **kwargs)
            print_result(result, text, as_json=as_json)
            if result.get("ok") is False:
                raise SystemExit(1)

        return click.command(name=name)(as_json_option(update_wrapper(run, function)))

    return wrap


def print_result(result: Result, text: Text, *, as_json: bool) -> None:
    if as_json:
        print_json(result)
    else:
        rendered = text(result)
        if rendered:
            click.echo(rendered)


def print_json(document: Mapping[str, object]) -> None:
    sys.stdout.write(json.dumps(document, indent=2, ensure_ascii=False) + "\n")
    sys.stdout.flush()


def print_failure(failure: Failed, *, as_json: bool) -> int:
    """Say why it failed, and return the exit code."""
    if as_json:
        print_json({"error": failure.document()})
    else:
        say(failure.text())
    return failure.exit_code


def say(line: str) -> None:
    """A line for the person who watches: on stderr."""
    click.echo(line, err=True)


def table(rows: Sequence[Sequence[object]], *, head: Sequence[str]) -> str:
    """Columns as wide as their widest cell."""
    cells = [[str(cell) for cell in row] for row in (head, *rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells
    )


def rows_of(result: Result, name: str) -> list[Mapping[str, object]]:
    """The list of objects under `name`, empty when there is none."""
    found = result.get(name, result.get("items"))
    return [row for row in found if isinstance(row, Mapping)] if isinstance(found, list) else []
