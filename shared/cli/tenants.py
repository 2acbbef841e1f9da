"""`tenant add|ls|export|verify|rm`."""

from __future__ import annotations

import click

from shared.cli.client import forget_tenant_key, keep_tenant_key, platform_as_operator, running
from shared.cli.exports import export_command, verify_command
from shared.cli.failures import Misused, typed
from shared.cli.keys import create_key
from shared.cli.output import Result, command, rows_of, table


@click.group(name="tenant")
def tenant_command() -> None:
    """Add, list, export or remove tenants."""


def added_text(result: Result) -> str:
    if result["key"]:
        return f"tenant {result['tenant']} is ready. Its key, shown once:\n{result['key']}"
    another = typed(f"dcoder key create --tenant {result['tenant']}")
    return f"tenant {result['tenant']} was there already; nothing changed. Another key: {another}"


@command(added_text, name="add")
@click.argument("name")
def add_command(name: str) -> Result:
    """Create a tenant with a database of its own, and its first admin key. One that has a key already keeps it."""
    home, _ = running()
    operator = platform_as_operator()
    created = operator.call("POST", "/v1/tenants", {"name": name}).json()
    if rows_of(operator.call("GET", "/v1/keys", query={"tenant": name}).json(), "keys"):
        return {"tenant": name, **created, "key": None, "key_id": None}
    key = create_key(operator, name, "admin", name="first")
    keep_tenant_key(home, name, str(key["key"]))
    return {"tenant": name, **created, "key": key["key"], "key_id": key["id"]}


def list_text(result: Result) -> str:
    rows = [
        [row.get("name", row.get("id")), row.get("state", ""), row.get("created_at", "")]
        for row in rows_of(result, "tenants")
    ]
    return table(rows, head=["tenant", "state", "created"])


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


for one in (add_command, list_command, export_command, verify_command, remove_command):
    tenant_command.add_command(one)
