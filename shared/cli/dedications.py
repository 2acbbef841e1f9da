"""`tenant dedicate|undedicate|dedications`: functions that serve a tenant from a process of their own."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

import click

from shared.cli.client import Client, platform_as_operator
from shared.cli.cluster import WAIT_S, context_option
from shared.cli.failures import Failed, Misused
from shared.cli.output import Result, command, rows_of, table

POLL_S = 0.3
LOCAL_WAIT_S = 60.0

environment_option = click.option(
    "--environment", default="", metavar="NAME", help="On the cluster of this environment; default: the local stack."
)
gateway_option = click.option("--gateway", default="", help="Where the cluster's ingress answers, http://host:port.")
keys_option = click.option(
    "--keys", type=click.Path(path_type=Path), help="Folder of key files; default: DCODER_HOME's."
)


def path_of(tenant: str, function: str) -> str:
    return f"/v1/dedications/{tenant}/{function}"


def listed(operator: Client, tenant: str = "") -> list[Mapping[str, object]]:
    query = {"tenant": tenant} if tenant else None
    return rows_of(operator.call("GET", "/v1/dedications", query=query).json(), "dedications")


def dedicated_text(result: Result) -> str:
    return f"{result['function']} serves tenant {result['tenant']} alone at {result['address']}"


@command(dedicated_text, name="dedicate")
@click.argument("tenant")
@click.argument("function")
@environment_option
@gateway_option
@keys_option
@click.option("--wait", "wait_s", default=WAIT_S, show_default=True, help="Seconds until it must serve.")
@context_option
def dedicate_command(
    tenant: str, function: str, environment: str, gateway: str, keys: Path | None, wait_s: int, context: str
) -> Result:
    """Let FUNCTION serve TENANT from a process of its own, which holds nothing of anybody else. Safe to repeat."""
    if environment:
        from shared.cli.settling import place_of, settle

        place = place_of(environment, gateway=gateway, keys=keys, context=context)
        place.operator.call("PUT", path_of(tenant, function), {})
        settle(place, wait_s=wait_s, only=tenant)
        operator = place.operator
    else:
        operator = platform_as_operator()
        operator.call("PUT", path_of(tenant, function), {})
        wait_until_served(operator, tenant, function)
    return {"ok": True, **row_of(listed(operator, tenant), function)}


@command(lambda result: f"{result['function']} serves tenant {result['tenant']} with all others", name="undedicate")
@click.argument("tenant")
@click.argument("function")
@environment_option
@gateway_option
@context_option
def undedicate_command(tenant: str, function: str, environment: str, gateway: str, context: str) -> Result:
    """Let FUNCTION serve TENANT together with all others again. No call and no event is lost. Safe to repeat."""
    if environment:
        from shared.cli.settling import place_of, settle

        place = place_of(environment, gateway=gateway, keys=None, context=context)
        ask_to_end(place.operator, tenant, function)
        settle(place, wait_s=WAIT_S, only=tenant)
    else:
        operator = platform_as_operator()
        ask_to_end(operator, tenant, function)
        wait_until(lambda: not row_of(listed(operator, tenant), function), f"{function} of {tenant} has not ended")
    return {"ok": True, "tenant": tenant, "function": function}


def list_text(result: Result) -> str:
    rows = [
        [one["tenant"], one["function"], one["state"], one["address"] or ""] for one in rows_of(result, "dedications")
    ]
    return table(rows, head=["tenant", "function", "state", "address"])


@command(list_text, name="dedications")
@click.argument("tenant", default="")
@environment_option
@gateway_option
@context_option
def list_command(tenant: str, environment: str, gateway: str, context: str) -> Result:
    """List the functions that serve a tenant alone."""
    if not environment:
        return {"dedications": listed(platform_as_operator(), tenant)}
    from shared.cli.settling import place_of

    place = place_of(environment, gateway=gateway, keys=None, context=context)
    return {"dedications": listed(place.operator, tenant)}


@command(lambda result: f"tenant {result['tenant']} has this key of its bucket", name="objects-key")
@click.argument("tenant")
@environment_option
@gateway_option
@context_option
def objects_key_command(tenant: str, environment: str, gateway: str, context: str) -> Result:
    """Bring the key of TENANT's bucket, for an object store that makes none itself.

    It is read from DCODER_TENANT_ACCESS_KEY and DCODER_TENANT_SECRET_KEY, and tried before it is kept.
    """
    key = {"access_key": brought("DCODER_TENANT_ACCESS_KEY"), "secret_key": brought("DCODER_TENANT_SECRET_KEY")}
    if environment:
        from shared.cli.settling import place_of

        operator = place_of(environment, gateway=gateway, keys=None, context=context).operator
    else:
        operator = platform_as_operator()
    operator.call("PUT", f"/v1/tenants/{tenant}/objects-key", key)
    return {"ok": True, "tenant": tenant}


def brought(variable: str) -> str:
    """Raises `Misused`."""
    if value := os.environ.get(variable):
        return value
    raise Misused(
        f"{variable} is not set",
        why="a key is taken from the environment, since arguments are seen by others",
        fix="set DCODER_TENANT_ACCESS_KEY and DCODER_TENANT_SECRET_KEY",
    )


def ask_to_end(operator: Client, tenant: str, function: str) -> None:
    """One that has ended already is what was wanted."""
    try:
        operator.call("DELETE", path_of(tenant, function))
    except Failed as failure:
        if "404" not in failure.why:
            raise


def row_of(rows: Iterable[Mapping[str, object]], function: str) -> Mapping[str, object]:
    return next((one for one in rows if one["function"] == function), {})


def wait_until_served(operator: Client, tenant: str, function: str) -> None:
    """The local host looks once a second. Raises `Failed`."""
    wait_until(
        lambda: row_of(listed(operator, tenant), function).get("state") == "serving",
        f"{function} of {tenant} did not start",
    )


def wait_until(holds: Callable[[], bool], what: str) -> None:
    deadline = time.monotonic() + LOCAL_WAIT_S
    while not holds():
        if time.monotonic() > deadline:
            raise Failed(f"{what} within {LOCAL_WAIT_S:.0f} s", why="the host goes on trying", fix="dcoder logs")
        time.sleep(POLL_S)
