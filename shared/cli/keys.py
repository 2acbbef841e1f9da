"""`key create|ls|give|rotate|revoke`."""

from __future__ import annotations

from typing import Any

import click

from shared.cli.client import DEMO, Client, forget_tenant_key, keep_tenant_key, platform_as_operator, running
from shared.cli.limits import limit_options, limits_in
from shared.cli.output import Result, command, rows_of, table
from shared.host.home import Home

DAY_S = 24 * 3600
tenant_option = click.option("--tenant", default=DEMO, show_default=True, help="Whose keys.")


@click.group(name="key")
def key_command() -> None:
    """Create, list, give, rotate or revoke virtual keys."""


def created_text(result: Result) -> str:
    return f"{result['id']} ({result['role']} of {result['tenant']}). Shown once:\n{result['key']}"


def create_key(client: Client, tenant: str, role: str, **more: object) -> dict[str, object]:
    """Ask the platform for a key. `key` in the answer is its text, which nobody can read again."""
    body = {"role": role, **{name: value for name, value in more.items() if value}}
    return client.call("POST", "/v1/keys", body, query={"tenant": tenant}).json()


def create(tenant: str, role: str, *, days: int | None, **more: object) -> Result:
    """Create a virtual key. It is shown once; the command line keeps it for later commands when it has none."""
    home, _ = running()
    created = create_key(platform_as_operator(), tenant, role, expires_in_s=days * DAY_S if days else None, **more)
    kept = home.read("secrets/keys.json").get("tenants")
    if not isinstance(kept, dict) or tenant not in kept:
        keep_tenant_key(home, tenant, str(created["key"]))
    return {"tenant": tenant, "role": role, **created}


def keeps(home: Home, tenant: str, key_id: str) -> bool:
    """Whether it is this key that the command line presents for the tenant."""
    kept = home.read("secrets/keys.json").get("tenants")
    return isinstance(kept, dict) and str(kept.get(tenant, "")).split("_")[1:2] == [key_id]


@command(created_text, name="create")
@tenant_option
@click.option("--role", type=click.Choice(["admin", "member", "viewer"]), default="admin", show_default=True)
@click.option("--name", default="", help="A name to recognise it by.")
@click.option("--model", "models", multiple=True, help="Only this model. May be repeated.")
@click.option("--permission", "permissions", multiple=True, help="Only this permission. May be repeated.")
@click.option("--days", type=click.IntRange(1, 3650), help="Days until it expires.")
@click.option("--tag", "tags", multiple=True, help="To whom or what its usage is put down. May be repeated.")
@click.option("--member", default="", help="Whose it is: a person or program.")
@click.option("--group", "groups", multiple=True, help="A group that it belongs to. May be repeated.")
@limit_options
def create_command(
    tenant: str,
    role: str,
    name: str,
    models: tuple[str, ...],
    permissions: tuple[str, ...],
    days: int | None,
    tags: tuple[str, ...],
    groups: tuple[str, ...],
    **given: Any,  # Any: the options of limits, and the member
) -> Result:
    """Create a virtual key. It is shown once."""
    more = {"tags": list(tags), "member": given["member"], "groups": list(groups), "limits": limits_in(given)}
    return create(tenant, role, name=name, models=list(models), permissions=list(permissions), days=days, **more)


def list_text(result: Result) -> str:
    rows = [
        [row["id"], row.get("name", ""), row.get("member", ""), row["role"],
         "revoked" if row.get("revoked_at") else "valid", row.get("expires_at") or "never",
         row.get("last_used_at") or "never"]
        for row in rows_of(result, "keys")
    ]  # fmt: skip
    return table(rows, head=["id", "name", "member", "role", "state", "expires", "last used"])


@command(list_text, name="ls")
@tenant_option
def list_command(tenant: str) -> Result:
    """List a tenant's keys, without their text."""
    return platform_as_operator().call("GET", "/v1/keys", query={"tenant": tenant}).json()


@command(created_text, name="rotate")
@click.argument("key_id")
@tenant_option
@click.option("--overlap", "overlap_s", type=click.IntRange(0, 7 * 86400), help="Seconds that the old key stays valid.")
def rotate_command(key_id: str, tenant: str, overlap_s: int | None) -> Result:
    """Replace a key; the old one stays valid for an overlap."""
    body = {} if overlap_s is None else {"overlap_s": overlap_s}
    answer = platform_as_operator().call("POST", f"/v1/keys/{key_id}/rotate", body, query={"tenant": tenant})
    turned = answer.json()
    home, _ = running()
    if keeps(home, tenant, key_id):
        keep_tenant_key(home, tenant, str(turned["key"]))
    return {"tenant": tenant, **turned}


def given_text(result: Result) -> str:
    groups = result["groups"]
    names = [f"member {result['member']}"] if result["member"] else []
    names += [f"group {group}" for group in groups] if isinstance(groups, list) else []
    return f"{result['id']} is put down to {', '.join(names) or 'nobody'}"


@command(given_text, name="give")
@click.argument("key_id")
@tenant_option
@click.option("--member", default="", help="Whose it is: a person or program.")
@click.option("--group", "groups", multiple=True, help="A group that it belongs to. May be repeated.")
def give_command(key_id: str, tenant: str, member: str, groups: tuple[str, ...]) -> Result:
    """Say whose a key is, in place of whose it was."""
    body = {"member": member, "groups": list(groups)}
    return platform_as_operator().call("PUT", f"/v1/keys/{key_id}/owner", body, query={"tenant": tenant}).json()


@command(lambda result: f"{result['id']} is revoked", name="revoke")
@click.argument("key_id")
@tenant_option
def revoke_command(key_id: str, tenant: str) -> Result:
    """Revoke a key, effective within a second."""
    platform_as_operator().call("DELETE", f"/v1/keys/{key_id}", query={"tenant": tenant})
    home, _ = running()
    if keeps(home, tenant, key_id):
        forget_tenant_key(home, tenant)
    return {"id": key_id, "tenant": tenant, "revoked": True}


for one in (create_command, list_command, give_command, rotate_command, revoke_command):
    key_command.add_command(one)
