"""`tenant add|ls|move|dedicate|objects-key|export|verify|rm`."""

from __future__ import annotations

import asyncio
import time

import click

from shared.cli.client import Client, forget_tenant_key, keep_tenant_key, platform_as_operator, running
from shared.cli.dedications import dedicate_command, objects_key_command, undedicate_command
from shared.cli.dedications import list_command as dedications_command
from shared.cli.exports import export_command, verify_command
from shared.cli.failures import Failed, Misused, typed
from shared.cli.keys import create_key
from shared.cli.output import Result, command, rows_of, table
from shared.errors import Problem
from shared.host.moving import move_here
from shared.ids import TenantId
from shared.settings import Settings

POLL_S = 0.5


@click.group(name="tenant")
def tenant_command() -> None:
    """Add, list, move, export or remove tenants, and give them processes of their own."""


def added_text(result: Result) -> str:
    if result["key"]:
        return f"tenant {result['tenant']} is ready. Its key, shown once:\n{result['key']}"
    another = typed(f"dcoder key create --tenant {result['tenant']}")
    return f"tenant {result['tenant']} was there already; nothing changed. Another key: {another}"


@command(added_text, name="add")
@click.argument("name")
@click.option("--server", default="", metavar="NAME", help="The PostgreSQL server; by default the control database's.")
def add_command(name: str, server: str) -> Result:
    """Create a tenant with a database of its own, and its first admin key. One that has a key already keeps it."""
    home, _ = running()
    operator = platform_as_operator()
    created = operator.call("POST", "/v1/tenants", {"name": name, "server": server}).json()
    if rows_of(operator.call("GET", "/v1/keys", query={"tenant": name}).json(), "keys"):
        return {"tenant": name, **created, "key": None, "key_id": None}
    key = create_key(operator, name, "admin", name="first")
    keep_tenant_key(home, name, str(key["key"]))
    return {"tenant": name, **created, "key": key["key"], "key_id": key["id"]}


def list_text(result: Result) -> str:
    rows = [
        [row.get("name", row.get("id")), row.get("state", ""), row.get("server", ""), row.get("created_at", "")]
        for row in rows_of(result, "tenants")
    ]
    return table(rows, head=["tenant", "state", "server", "created"])


@command(list_text, name="ls")
def list_command() -> Result:
    """List the tenants."""
    return platform_as_operator().call("GET", "/v1/tenants").json()


@command(lambda result: f"tenant {result['tenant']} and all it held is deleted", name="rm")
@click.argument("name")
@click.option("--yes", is_flag=True, help="Do it: database, documents and keys are destroyed.")
def remove_command(name: str, yes: bool) -> Result:
    """Delete a tenant with its database, documents and keys. The audit log keeps a tombstone."""
    if not yes:
        raise Misused(
            f"this would destroy everything of tenant {name!r}",
            why="it cannot be undone",
            fix=f"dcoder tenant rm {name} --yes",
        )
    home, _ = running()
    platform_as_operator().call("DELETE", f"/v1/tenants/{name}")
    forget_tenant_key(home, name)
    return {"tenant": name, "deleted": True}


def moved_text(result: Result) -> str:
    if result["state"] == "moving":
        return (
            f"tenant {result['name']} is on its way to {result['moving_to']}; dcoder tenant ls shows when it is there"
        )
    left = f". Its old copy on {result['leftover']} is dropped when that answers" if result["leftover"] else ""
    return f"tenant {result['name']} is on server {result['server']}{left}"


@command(moved_text, name="move")
@click.argument("name")
@click.option("--server", default="", metavar="NAME", help="The PostgreSQL server to move it to.")
@click.option("--cancel", is_flag=True, help="Call off a move that has not switched over yet.")
@click.option("--no-wait", is_flag=True, help="Ask for it only. It goes on by itself.")
@click.option("--here", is_flag=True, help="Copy in this process: for a tenant that takes more than ten minutes.")
def move_command(name: str, server: str, cancel: bool, no_wait: bool, here: bool) -> Result:
    """Move a tenant to another PostgreSQL server. It is read, but not written, until that is done."""
    if bool(server) == cancel:
        raise Misused(
            "say where to, or that the move is called off",
            why="one of --server and --cancel is needed",
            fix=f"dcoder tenant move {name} --server NAME",
        )
    operator = platform_as_operator()
    path = f"/v1/tenants/{name}/move"
    if cancel:
        operator.call("DELETE", path)
    elif here:
        move_in_this_process(name, server)
    else:
        operator.call("POST", path, {"server": server})
    return arrived(operator, name, wait=not no_wait)


def move_in_this_process(name: str, server: str) -> None:
    """With the settings of the running stack's functions."""
    _, record = running()
    told = record["environment"]
    settings = Settings.from_environment(told if isinstance(told, dict) else {})
    try:
        asyncio.run(move_here(settings, TenantId(name), server))
    except Problem as problem:
        raise Failed(problem.detail, fix=f"dcoder tenant move {name} --cancel, or the same again") from problem


def arrived(operator: Client, name: str, *, wait: bool) -> Result:
    """The tenant, when its move has ended or, having switched, has failed to drop the old copy.

    Raises `Failed` with what the move failed with. It is tried again.
    """
    while True:
        found = operator.call("GET", f"/v1/tenants/{name}").json()
        if not wait or (found["state"] != "moving" and (not found["leftover"] or found["move_failure"])):
            return found
        if found["state"] == "moving" and found["move_failure"]:
            raise Failed(
                f"tenant {name!r} has not been moved yet; its old server goes on serving reads, and the move is tried "
                "again by itself",
                why=str(found["move_failure"]),
                fix=f"dcoder tenant move {name} --cancel takes it back",
            )
        time.sleep(POLL_S)


DEDICATIONS = (dedicate_command, undedicate_command, dedications_command, objects_key_command)
for one in (add_command, list_command, move_command, *DEDICATIONS, export_command, verify_command, remove_command):
    tenant_command.add_command(one)
