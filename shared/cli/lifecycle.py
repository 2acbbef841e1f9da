"""`up`, `down` and `status`."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import click

from shared.cli.failures import Failed, Missing, typed
from shared.cli.output import Result, as_json_option, command, print_result, say, table
from shared.cli.progress import Progress, block
from shared.errors import Problem
from shared.host.children import Trace, end
from shared.host.home import Home, find_home
from shared.host.memory import own_mib, resident_mib
from shared.host.programs import NotInstalled
from shared.host.run import HANDBOOK, record_progress, run
from shared.host.servers import StartFailed
from shared.host.stack import ROOT, STORES_ONLY
from shared.host.supervisor import Report, end_leftovers

READY_TIMEOUT_S = 900.0
POLL_S = 0.05
STOP_TIMEOUT_S = 60.0


@click.command(name="up")
@click.option("--detach", is_flag=True, help="Return as soon as the stack is ready; `dcoder down` stops it.")
@click.option("--no-handbook", is_flag=True, help="Leave out the handbook and the first question.")
@click.option("--stores", is_flag=True, help="Only the stores, for functions on a cluster; see DCODER_LISTEN.")
@as_json_option
def up_command(detach: bool, no_handbook: bool, stores: bool, as_json: bool) -> None:
    """Start the stack: servers, functions, gateway. The first time also a demo tenant that knows the handbook.

    Running it again is safe: it prints where the running stack is.
    """
    home = find_home()
    if no_handbook:
        os.environ[HANDBOOK] = "skip"
    if stores:
        os.environ[STORES_ONLY] = "true"
    if home.host() is not None:
        if not is_ready(home):
            wait_until_ready(home, Progress())
        show(home, first=False, as_json=as_json)
    elif detach:
        start_detached(home)
        show(home, first=True, as_json=as_json)
    else:
        stay_in_front(home, as_json=as_json)


def show(home: Home, *, first: bool, as_json: bool) -> None:
    """Where the stack is: the block for people, with the key the first time only; one document with `--json`."""
    print_result(stack_document(home), lambda result: block(result, home, first=first), as_json=as_json)


def start_detached(home: Home) -> None:
    """Start the host in a session of its own and wait until it is ready; a second `up` waits for the first."""
    home.prepare()
    with home.wait_for_turn():
        if home.host() is not None:
            return
        home.progress.unlink(missing_ok=True)
        home.remove("host.json")
        wait_until_ready(home, Progress(), detached_host(home))


def detached_host(home: Home) -> subprocess.Popen[bytes]:
    with (home.logs / "host.log").open("ab") as log:
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "shared.cli.hosting"],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DCODER_HOME": str(home.path)},
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )


def wait_until_ready(home: Home, progress: Progress, host: subprocess.Popen[bytes] | None = None) -> None:
    """Show the host's progress until it is ready. Raises `Failed` with its reason when it gives up."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    for event, details in follow(home.progress):
        if event:
            progress.show(event, details)
        if event == "ready" or (event == "" and is_ready(home)):
            return
        if event == "gave_up":
            raise Failed(str(details["what"]), why=str(details.get("why", "")), fix=str(details.get("fix", "")))
        if event == "" and ((host is not None and host.poll() is not None) or (host is None and home.host() is None)):
            raise Failed("the host ended before the stack was ready", why=f"see {home.logs}", fix="dcoder logs host")
        if time.monotonic() > deadline:
            raise Failed(f"not ready after {READY_TIMEOUT_S:.0f} s", fix="dcoder logs")


def is_ready(home: Home) -> bool:
    return home.host() is not None and home.read("host.json").get("phase") == "ready"


def follow(path: Path) -> Iterator[tuple[str, Mapping[str, object]]]:
    """The events of a growing file; an empty event whenever there is nothing yet."""
    position = 0
    while True:
        lines = b""
        if path.exists():
            with path.open("rb") as source:
                source.seek(position)
                lines = source.read()
        whole = lines[: lines.rfind(b"\n") + 1]
        position += len(whole)
        for line in whole.splitlines():
            message: dict[str, object] = json.loads(line)
            yield str(message.pop("event")), message
        yield "", {}
        time.sleep(POLL_S)


def stay_in_front(home: Home, *, as_json: bool) -> None:
    """Be the host until Ctrl-C."""
    recorded = record_progress(home)
    progress = Progress()

    def report(event: str, details: Mapping[str, object]) -> None:
        recorded(event, details)
        progress.show(event, details)
        if event == "ready":
            show(home, first=True, as_json=as_json)
            say("Ctrl-C stops everything. Data stays.")

    host(home, report)


def host(home: Home, report: Report) -> None:
    """Run the host; turn what stops it from starting into `Failed`."""
    try:
        asyncio.run(run(home, report))
    except StartFailed as failure:
        raise Failed("the stack did not start", why=str(failure), fix="dcoder doctor, then dcoder logs") from failure
    except Problem as problem:
        raise Failed("the stack did not start", why=problem.detail, fix="dcoder doctor") from problem
    except NotInstalled as absent:
        raise Missing("a program is missing", why=str(absent), fix="rm -r .venv, then ./dcoder up") from absent


def stack_document(home: Home) -> dict[str, object]:
    """Where the stack is and with which keys: what `up --json` promises."""
    record, keys = home.read("host.json"), home.read("secrets/keys.json")
    tenants = keys.get("tenants")
    welcome = record.get("welcome")
    tenant = str(welcome.get("tenant", "demo")) if isinstance(welcome, dict) else "demo"
    return {
        **{name: record.get(name) for name in ("platform_url", "llm_url", "objects_url")},
        "objects_access_key": record.get("objects_access_key"),
        "objects_secret_key": record.get("objects_secret_key"),
        "objects_bucket": f"dcoder-{tenant}",
        "tenant": tenant,
        "tenant_key": tenants.get(tenant) if isinstance(tenants, dict) else None,
        "admin_key": keys.get("admin_key"),
        "started_in_s": record.get("started_in_s"),
        "home": str(home.path),
        "pid": record.get("pid"),
        "welcome": welcome if isinstance(welcome, dict) else {},
        "moved": record.get("moved", {}),
        "stores_only": record.get("stores_only", False),
    }


@command(lambda result: str(result["message"]), name="down")
@click.option("--wipe", is_flag=True, help="Also delete all data, keys and logs.")
def down_command(wipe: bool) -> Result:
    """Stop the stack. Safe when nothing runs."""
    home = find_home()
    stopped = stop_host(home)
    left = end_leftovers(home)
    if wipe:
        home.wipe()
    what = "stopped" if stopped or left else "nothing was running"
    message = f"{what}; {'all data deleted' if wipe else 'data kept'}: {home.path}"
    return {"ok": True, "stopped": stopped or bool(left), "wiped": wipe, "home": str(home.path), "message": message}


def stop_host(home: Home) -> bool:
    """Ask the host to stop everything, and wait until it has. Returns whether one ran."""
    found = home.host()
    if found is None:
        return False
    end(found, signal.SIGTERM, grace_s=STOP_TIMEOUT_S)
    return True


@command(lambda result: status_text(result), name="status")
def status_command() -> Result:
    """Show what runs, where, and how much memory it holds."""
    home = find_home()
    found = home.host()
    if found is None:
        return {"running": False, "home": str(home.path), "processes": []}
    record = home.read("host.json")
    processes = [process_row("host", found, 0) | {"memory_mib": round(own_mib(found.pid), 1)}, *children(home)]
    return {
        "running": True,
        "phase": record.get("phase"),
        "home": str(home.path),
        **{name: record.get(name) for name in ("platform_url", "llm_url", "objects_url", "started_in_s")},
        "memory_mib": round(sum(float(str(row["memory_mib"])) for row in processes), 1),
        "processes": processes,
    }


def children(home: Home) -> list[dict[str, object]]:
    rows = []
    for name, record in home.read("children.json").items():
        if isinstance(record, dict):
            rows.append(process_row(name, Trace(int(record["pid"]), str(record["started"])), int(record["restarts"])))
    return rows


def process_row(name: str, process: Trace, restarts: int) -> dict[str, object]:
    return {
        "name": name,
        "pid": process.pid,
        "running": process.running,
        "restarts": restarts,
        "memory_mib": round(resident_mib(process.pid), 1),
    }


def status_text(result: Result) -> str:
    if not result["running"]:
        return typed(f"not running ({result['home']}). Start it with: dcoder up")
    rows = result["processes"]
    assert isinstance(rows, list)
    listed = table(
        [
            [row["name"], row["pid"], "running" if row["running"] else "gone", row["restarts"], row["memory_mib"]]
            for row in rows
        ],
        head=["process", "pid", "state", "restarts", "MiB"],
    )
    where = "  ".join(f"{name} {result[name + '_url']}" for name in ("platform", "llm", "objects"))
    held = f"state in {result['home']}, {result['memory_mib']} MiB resident"
    return f"{result['phase']}  {where}\n{held}\n\n{listed}"
