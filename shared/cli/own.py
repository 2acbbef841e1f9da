"""`functions deploy|show|traffic|rollback|logs|rm`: functions that a tenant brings along."""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING

import click

from shared.cli.client import Client, platform_as_operator
from shared.cli.cluster import WAIT_S as CLUSTER_WAIT_S
from shared.cli.cluster import context_option
from shared.cli.dedications import environment_option, gateway_option, keys_option
from shared.cli.failures import Failed, Misused
from shared.cli.logs import LINES_MAX, follow_files, last_lines, log_files
from shared.cli.output import Result, command, rows_of, table
from shared.errors import Problem

if TYPE_CHECKING:
    from shared.cli.settling import Place

POLL_S = 0.3
WAIT_S = 90.0

tenant_option = click.option("--tenant", required=True, metavar="NAME", help="Whose function it is.")


@dataclass(frozen=True)
class Where:
    """The running stack, or with `environment` a cluster."""

    environment: str
    gateway: str
    keys: Path | None
    context: str

    @cached_property
    def place(self) -> Place | None:
        if not self.environment:
            return None
        from shared.cli.settling import place_of

        return place_of(self.environment, gateway=self.gateway, keys=self.keys, context=self.context)

    @property
    def operator(self) -> Client:
        return self.place.operator if self.place else platform_as_operator()

    def settle(self, tenant: str, name: str) -> None:
        """Until calls are shared out as it was wished. On this machine the host sees to it, on a cluster we do."""
        if self.place is None:
            wait_until_served(self.operator, tenant, name)
            return
        from shared.cli.revisions import settle

        settle(self.place, tenant, name, wait_s=CLUSTER_WAIT_S)


def where_options(command: Callable[..., Result]) -> Callable[..., Result]:  # ...: each command has its own
    """`--environment` and what goes with it, as one argument `where`."""

    @wraps(command)
    def run(environment: str, gateway: str, keys: Path | None, context: str, **more: object) -> Result:
        return command(where=Where(environment, gateway, keys, context), **more)

    for option in (context_option, keys_option, gateway_option, environment_option):
        run = option(run)
    return run


def path_of(tenant: str, name: str = "") -> str:
    return f"/v1/functions/{tenant}" + (f"/{name}" if name else "")


def deployed_text(result: Result) -> str:
    if not result["serves"]:
        return f"revision {result['revision']} of {result['name']} is stored; no calls go to it yet"
    return f"revision {result['revision']} of {result['name']} serves tenant {result['tenant']} at {result['url']}"


@command(deployed_text, name="deploy")
@click.argument("folder", type=click.Path(path_type=Path))
@tenant_option
@click.option("--no-traffic", is_flag=True, help="Store it only. `functions traffic` sends calls to it.")
@where_options
def deploy_command(folder: Path, tenant: str, no_traffic: bool, where: Where) -> Result:
    """Pack the function in FOLDER and run it for one tenant, as its next revision."""
    archive, manifest, slug = packed_function(folder)
    operator = where.operator
    sent = {"archive": base64.b64encode(archive).decode(), "manifest": manifest, "traffic": not no_traffic}
    told = operator.call("POST", path_of(tenant), sent).json()
    revision = rows_of(told, "revisions")[0]["revision"]
    if not no_traffic:
        where.settle(tenant, slug)
    url = f"{operator.url}/v1/own/{slug}"
    return {"ok": True, "tenant": tenant, "name": slug, "revision": revision, "serves": not no_traffic, "url": url}


def packed_function(folder: Path) -> tuple[bytes, Mapping[str, object], str]:
    """The archive of the folder, what it declares, and its name. The function is imported here. Raises `Failed`."""
    from shared.bundles.archive import files_of, packed
    from shared.bundles.loading import declared, imported

    folder = folder.resolve()
    if not folder.is_dir():
        raise Misused(
            f"{folder} is no folder",
            why="a function is a folder with function.py",
            fix="dcoder functions new --own rates",
        )
    try:
        files = files_of(folder)
        manifest = declared(folder.name, imported(folder.name, files))
        return packed(files), manifest.model_dump(mode="json"), manifest.slug
    except Problem as refused:
        raise Failed(
            f"{folder} cannot be deployed: {refused.detail}", fix="correct it, and run the command again"
        ) from refused


def wait_until_served(operator: Client, tenant: str, name: str) -> None:
    """Until calls are shared out as it was wished. Raises `Failed` with why a revision does not start."""
    deadline = time.monotonic() + WAIT_S
    while True:
        told = operator.call("GET", path_of(tenant, name)).json()
        if told["serving"] == told["traffic"]:
            return
        wished = told["traffic"]
        assert isinstance(wished, dict)
        for one in rows_of(told, "revisions"):
            if str(one["revision"]) in wished and one["failure"]:
                raise Failed(
                    f"revision {one['revision']} of {name} does not start; calls go where they went before",
                    why=str(one["failure"]).strip().rpartition("\n")[2],
                    fix=f"dcoder functions logs {name} --tenant {tenant}",
                )
        if time.monotonic() > deadline:
            raise Failed(f"{name} does not answer within {WAIT_S:.0f} s", fix="dcoder status, dcoder doctor")
        time.sleep(POLL_S)


def show_text(result: Result) -> str:
    serving = result["serving"]
    assert isinstance(serving, dict)
    rows = [
        [one["revision"], f"{serving.get(str(one['revision']), 0)} %", state_of(one), one["created_at"]]
        for one in rows_of(result, "revisions")
    ]
    return table(rows, head=["revision", "calls", "state", "deployed at"])


def state_of(revision: Mapping[str, object]) -> str:
    if revision["failure"]:
        return "does not start"
    return "answers" if revision["answers"] else "asleep"


@command(show_text, name="show")
@click.argument("name")
@tenant_option
@where_options
def show_command(name: str, tenant: str, where: Where) -> Result:
    """List the revisions of a tenant's function, the newest first, and which share of the calls each gets."""
    return where.operator.call("GET", path_of(tenant, name)).json()


def served_text(result: Result) -> str:
    serving = result["serving"]
    assert isinstance(serving, dict)
    return ", ".join(f"revision {revision}: {percent} %" for revision, percent in serving.items())


@command(served_text, name="traffic")
@click.argument("name")
@click.argument("shares", nargs=-1, required=True, metavar="REVISION=PERCENT...")
@tenant_option
@where_options
def traffic_command(name: str, shares: tuple[str, ...], tenant: str, where: Where) -> Result:
    """Share calls out among revisions: functions traffic rates 1=90 2=10 --tenant acme"""
    operator = where.operator
    operator.call("PUT", path_of(tenant, name) + "/traffic", {"traffic": dict(share_of(one) for one in shares)})
    where.settle(tenant, name)
    return operator.call("GET", path_of(tenant, name)).json()


def share_of(text: str) -> tuple[str, int]:
    revision, _, percent = text.partition("=")
    if not revision.isdigit() or not percent.isdigit():
        raise Misused(f"{text!r} is not REVISION=PERCENT", why="both are numbers", fix="dcoder functions show")
    return revision, int(percent)


@command(served_text, name="rollback")
@click.argument("name")
@tenant_option
@where_options
def rollback_command(name: str, tenant: str, where: Where) -> Result:
    """Send all calls to the revision before."""
    operator = where.operator
    operator.call("POST", path_of(tenant, name) + "/rollback", {})
    where.settle(tenant, name)
    return operator.call("GET", path_of(tenant, name)).json()


@command(lambda result: f"{result['name']} of tenant {result['tenant']} is gone", name="rm")
@click.argument("name")
@tenant_option
@click.option("--yes", is_flag=True, help="Do it: all revisions are deleted.")
@where_options
def remove_command(name: str, tenant: str, yes: bool, where: Where) -> Result:
    """Delete a tenant's function with all its revisions."""
    again = f"dcoder functions rm {name} --tenant {tenant} --yes"
    if not yes:
        raise Misused(f"this would delete every revision of {name!r}", why="it cannot be undone", fix=again)
    where.operator.call("DELETE", path_of(tenant, name))
    if where.place is not None:
        from shared.cli.revisions import take_off

        take_off(where.place, tenant, name)
    return {"ok": True, "tenant": tenant, "name": name}


def logs_text(result: Result) -> str:
    lines = result["lines"]
    assert isinstance(lines, list)
    return "\n".join(lines)


@command(logs_text, name="logs")
@click.argument("name")
@tenant_option
@click.option("--revision", type=click.IntRange(1), help="Default: the newest.")
@click.option("-f", "--follow", is_flag=True, help="Go on until Ctrl-C.")
@click.option("-n", "--lines", default=50, show_default=True, type=click.IntRange(1, LINES_MAX))
@where_options
def logs_command(name: str, tenant: str, revision: int | None, follow: bool, lines: int, where: Where) -> Result:
    """Show what a revision's process wrote."""
    if revision is None:
        kept = rows_of(where.operator.call("GET", path_of(tenant, name)).json(), "revisions")
        revision = int(str(kept[0]["revision"]))
    if where.place is not None:
        from shared.cli.revisions import log_lines

        return {"lines": log_lines(where.place, tenant, f"own-{name}-{revision}", lines=lines, follow=follow)}
    from shared.host.revisions import log_name

    files = log_files(log_name(tenant, name, revision))
    if follow:
        follow_files(files, lines)
    return {"lines": last_lines(files[0], lines)}
