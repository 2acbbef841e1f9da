"""`functions ls|run|new`."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from shared.cli.client import running
from shared.cli.failures import Failed, Misused
from shared.cli.output import Result, as_json_option, command, print_result, rows_of, table
from shared.function.declaration import (
    DeadLettered,
    DomainEvent,
    Every,
    Minute,
    ObjectCreated,
    ObjectRemoved,
    Operation,
    Route,
)
from shared.host.ports import LOOPBACK, free_port
from shared.host.stack import GATEWAY, ROOT, platform_functions

NAME = re.compile(r"([a-z][a-z0-9]*)/([a-z][a-z0-9_]*)")


@click.group(name="functions")
def functions_command() -> None:
    """List, run or add functions."""


def list_text(result: Result) -> str:
    rows = [[row["name"], row["operation"], row["trigger"], row["permission"]] for row in operations_of(result)]
    return table(rows, head=["function", "operation", "started by", "permission"])


def operations_of(result: Result) -> Iterator[Mapping[str, object]]:
    for function in rows_of(result, "functions"):
        for operation in rows_of(function, "operations"):
            yield {"name": function["name"], **operation}


@command(list_text, name="ls")
def list_command() -> Result:
    """List every function: what starts each of its operations, and the permission it takes."""
    from shared.function import catalog

    return {
        "functions": [
            {
                "name": one.name,
                "summary": one.summary,
                "timeout_s": one.function.timeout_s,
                "scale": {"min": one.function.scale.min, "max": one.function.scale.max},
                "operations": [described(operation) for operation in one.function.operations],
            }
            for one in catalog.find()
        ]
    }


def described(operation: Operation) -> dict[str, object]:
    permission = operation.trigger.permission if isinstance(operation.trigger, Route) else ""
    return {"operation": operation.name, "trigger": trigger_text(operation), "permission": permission}


def trigger_text(operation: Operation) -> str:
    match operation.trigger:
        case Route(method=method, path=path):
            return f"{method} {path}"
        case ObjectCreated(prefix=prefix):
            return f"object created in {prefix}/"
        case ObjectRemoved(prefix=prefix):
            return f"object removed from {prefix}/"
        case DomainEvent(type=kind):
            return f"event {kind}"
        case Every(cron=cron, per=per):
            return f"every {cron} per {per}"
        case Minute():
            return "each minute"
        case DeadLettered():
            return "dead letter of a broker"


@click.command(name="run")
@click.argument("name")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: a free one.")
@as_json_option
def run_command(name: str, port: int | None, as_json: bool) -> None:
    """Serve one function alone under functions-framework, against the running stack, until Ctrl-C."""
    known = [*platform_functions(), GATEWAY]
    if name not in known:
        raise Misused(f"there is no function {name!r}", why=f"known: {', '.join(known)}", fix="dcoder functions ls")
    _, record = running()
    environment = record.get("environment")
    url = f"http://{LOOPBACK}:{free_port(port or 0)}"
    print_result({"name": name, "url": url}, lambda _: f"{name} listens on {url}; Ctrl-C stops it", as_json=as_json)
    sys.stdout.flush()
    os.execve(  # noqa: S606  this process becomes functions-framework, so its signals and exit status are our caller's
        sys.executable,
        framework_command(url),
        {
            **os.environ,
            **(environment if isinstance(environment, dict) else {}),
            "PYTHONPATH": str(ROOT),
            "DCODER_FUNCTION": name,
        },
    )


def framework_command(url: str) -> list[str]:
    """functions-framework with our one entry file, as Knative runs it."""
    source = str(ROOT / "functions" / "entry.py")
    port = url.rpartition(":")[2]
    options = ["--source", source, "--target", "main", "--asgi", "--host", LOOPBACK, "--port", port]
    return [sys.executable, "-P", "-m", "functions_framework", *options]


@command(lambda result: "\n".join(["created:", *(f"  {one}" for one in rows(result))]), name="new")
@click.argument("path", metavar="CAPABILITY/NAME")
def new_command(path: str) -> Result:
    """Add a function that answers, with its test: a folder functions/CAPABILITY/NAME."""
    found = NAME.fullmatch(path)
    if found is None:
        raise Misused(
            f"{path!r} is not CAPABILITY/NAME", why="each is a lower-case word", fix="dcoder functions new lab/hello"
        )
    return {"created": scaffold(ROOT, *found.groups())}


def rows(result: Result) -> list[str]:
    created = result["created"]
    return created if isinstance(created, list) else []


def scaffold(root: Path, capability: str, name: str) -> list[str]:
    """Write the function's files. Raises `Failed` rather than overwrite one."""
    files = {
        f"functions/{capability}/__init__.py": "",
        f"functions/{capability}/{name}/__init__.py": "",
        f"functions/{capability}/{name}/function.py": FUNCTION.format(capability=capability, name=name),
        f"tests/functions/{capability}/test_{name}.py": TEST.format(capability=capability, name=name),
    }
    if (root / f"functions/{capability}/{name}").exists():
        raise Failed(f"functions/{capability}/{name} exists already", fix="choose another name")
    created = []
    for relative, text in files.items():
        if not (root / relative).exists():
            (root / relative).parent.mkdir(parents=True, exist_ok=True)
            (root / relative).write_text(text)
            created.append(relative)
    return created


FUNCTION = '''"""Greets the caller by name."""

from __future__ import annotations

from pydantic import BaseModel

from shared.function import Function
from shared.identity import Caller

{name} = Function()


class Greeting(BaseModel):
    """What the caller is told."""

    text: str


@{name}.get("/v1/{capability}/{name}", permission="documents:read")
async def greet(caller: Caller) -> Greeting:
    """Greet the caller."""
    return Greeting(text=f"Hello, {{caller.subject}} of {{caller.tenant}}")
'''
TEST = '''"""functions/{capability}/{name}."""

from __future__ import annotations

from functions.{capability}.{name}.function import greet
from shared.identity import Caller
from shared.ids import TenantId


async def test_a_caller_is_greeted_by_name() -> None:
    caller = Caller(TenantId("acme"), "ada", "member", "key")
    assert (await greet(caller)).text == "Hello, ada of acme"
'''

for one in (list_command, run_command, new_command):
    functions_command.add_command(one)
