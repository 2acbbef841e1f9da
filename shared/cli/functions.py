"""`functions ls|run|new`, and what `shared.cli.own` adds for functions of a tenant."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NoReturn

import click

from shared.cli.client import running
from shared.cli.failures import Failed, Misused
from shared.cli.output import Result, as_json_option, command, print_result, rows_of, table
from shared.cli.own import (
    Where,
    deploy_command,
    logs_command,
    packed_function,
    path_of,
    remove_command,
    rollback_command,
    show_command,
    traffic_command,
    where_options,
)
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
from shared.host.stack import GATEWAY, ROOT, TRANSLATE, platform_functions

NAME = re.compile(r"([a-z][a-z0-9]*)/([a-z][a-z0-9_]*)")
OWN_NAME = re.compile(r"[a-z][a-z0-9]*(_[a-z0-9]+)*")


@click.group(name="functions")
def functions_command() -> None:
    """List, run, add or deploy functions."""


def list_text(result: Result) -> str:
    if "tenant" in result:
        own = [[row["name"], own_shares(row)] for row in rows_of(result, "functions")]
        return table(own, head=["function", "calls"])
    rows = [[row["name"], row["operation"], row["trigger"], row["permission"]] for row in operations_of(result)]
    return table(rows, head=["function", "operation", "started by", "permission"])


def own_shares(row: Mapping[str, object]) -> str:
    serving = row["serving"]
    assert isinstance(serving, dict)
    return ", ".join(f"revision {revision}: {percent} %" for revision, percent in serving.items()) or "none yet"


def operations_of(result: Result) -> Iterator[Mapping[str, object]]:
    for function in rows_of(result, "functions"):
        for operation in rows_of(function, "operations"):
            yield {"name": function["name"], **operation}


@command(list_text, name="ls")
@click.option("--tenant", default="", metavar="NAME", help="Only the functions that this tenant brought along.")
@where_options
def list_command(tenant: str, where: Where) -> Result:
    """List every function: what starts each of its operations, and the permission it takes."""
    if tenant:
        return {"tenant": tenant, **where.operator.call("GET", path_of(tenant)).json()}
    if where.environment:
        raise Misused(
            "--environment goes with --tenant",
            why="the platform's own functions are the same everywhere",
            fix=f"dcoder functions ls --tenant NAME --environment {where.environment}",
        )
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
@click.argument("name", metavar="NAME|FOLDER")
@click.option("--port", type=click.IntRange(1, 65535), help="Default: a free one.")
@as_json_option
def run_command(name: str, port: int | None, as_json: bool) -> None:
    """Serve one function alone, against the running stack, until Ctrl-C: one of the platform's under
    functions-framework, or the one in FOLDER before it is deployed."""
    if Path(name).is_dir():
        run_folder(Path(name).resolve(), port, as_json=as_json)
    known = [*platform_functions(), GATEWAY, TRANSLATE]
    if name not in known:
        raise Misused(f"there is no function {name!r}", why=f"known: {', '.join(known)}", fix="dcoder functions ls")
    url = f"http://{LOOPBACK}:{free_port(port or 0)}"
    become(framework_command(url), name, url, as_json=as_json)


def run_folder(folder: Path, port: int | None, *, as_json: bool) -> NoReturn:
    """A tenant's function before it is deployed. Raises `Failed` when it cannot be."""
    packed_function(folder)
    chosen = free_port(port or 0)
    argv = [sys.executable, "-P", "-m", "shared.host.trial", str(folder), str(chosen)]
    become(argv, folder.name, f"http://{LOOPBACK}:{chosen}", as_json=as_json)


def become(argv: list[str], name: str, url: str, *, as_json: bool) -> NoReturn:
    """Run the server in this process's place, so that its signals and exit status are our caller's."""
    _, record = running()
    environment = record.get("environment")
    print_result({"name": name, "url": url}, lambda _: f"{name} listens on {url}; Ctrl-C stops it", as_json=as_json)
    sys.stdout.flush()
    told = environment if isinstance(environment, dict) else {}
    path = search_path_of(name)
    os.execve(  # noqa: S606  as the docstring says
        sys.executable, argv, {**os.environ, **told, "PYTHONPATH": path, "DCODER_FUNCTION": name}
    )


def search_path_of(name: str) -> str:
    """`PYTHONPATH` of the function's process. The translator's packages are installed if they are not there yet."""
    if name != TRANSLATE:
        return str(ROOT)
    from shared.host.translation import ensure_packages, search_path

    ensure_packages()
    return search_path()


def framework_command(url: str) -> list[str]:
    """functions-framework with our one entry file, as Knative runs it."""
    source = str(ROOT / "functions" / "entry.py")
    port = url.rpartition(":")[2]
    options = ["--source", source, "--target", "main", "--asgi", "--host", LOOPBACK, "--port", port]
    return [sys.executable, "-P", "-m", "functions_framework", *options]


@command(lambda result: "\n".join(["created:", *(f"  {one}" for one in rows(result))]), name="new")
@click.argument("path", metavar="CAPABILITY/NAME|FOLDER")
@click.option("--own", is_flag=True, help="A function for a tenant, in FOLDER, to be deployed with `functions deploy`.")
def new_command(path: str, own: bool) -> Result:
    """Add a function that answers, with its test: a folder functions/CAPABILITY/NAME, or with --own any folder."""
    if own:
        return {"created": scaffold_own(Path(path))}
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
        f"functions/{capability}/{name}/function.py": FUNCTION.format(name=name, route=f"/v1/{capability}/{name}"),
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


def scaffold_own(folder: Path) -> list[str]:
    """Write a tenant's function: declaration, handler and test. Raises `Failed` rather than overwrite a folder."""
    name = folder.name
    if not OWN_NAME.fullmatch(name):
        fix = "dcoder functions new --own rates"
        raise Misused(f"{name!r} is no name of a function", why="lower-case words joined by _", fix=fix)
    if folder.exists():
        raise Failed(f"{folder} exists already", fix="choose another name")
    folder.mkdir(parents=True)
    root = f"/v1/own/{name.replace('_', '-')}"
    files = {
        "__init__.py": "",
        "function.py": FUNCTION.format(name=name, route=f"{root}/hello"),
        f"test_{name}.py": OWN_TEST.format(name=name),
    }
    for path, text in files.items():
        (folder / path).write_text(text)
    return [str(folder / path) for path in files]


FUNCTION = '''"""Greets the caller by name."""

from __future__ import annotations

from pydantic import BaseModel

from shared.function import Function
from shared.identity import Caller

{name} = Function()


class Greeting(BaseModel):
    """What the caller is told."""

    text: str


@{name}.get("{route}", permission="documents:read")
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

OWN_TEST = '''"""{name}."""

from __future__ import annotations

import asyncio

from {name}.function import greet
from shared.identity import Caller
from shared.ids import TenantId


def test_a_caller_is_greeted_by_name() -> None:
    caller = Caller(TenantId("acme"), "ada", "member", "key")
    assert asyncio.run(greet(caller)).text == "Hello, ada of acme"
'''

OWN_COMMANDS = (
    deploy_command,
    show_command,
    traffic_command,
    rollback_command,
    logs_command,
    remove_command,
)
for one in (list_command, run_command, new_command, *OWN_COMMANDS):
    functions_command.add_command(one)
