"""`deploy apply|status|rollback|delete`: the platform on the cluster that kubectl points at."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from shared.cli.failures import Missing, Misused
from shared.cli.output import Result, command, rows_of, say, table

if TYPE_CHECKING:
    from knative.environment import Environment
    from knative.kubectl import Kubectl
    from knative.manifest import Manifest
    from knative.readiness import State

STORE_SETTINGS = (
    "DCODER_POSTGRES_URL", "DCODER_REDIS_URL", "DCODER_OBJECTS_ACCESS_KEY", "DCODER_OBJECTS_SECRET_KEY",
)  # fmt: skip
WAIT_S = 300

context_option = click.option("--context", default="", help="kubectl's context; default: the current one.")
environment_argument = click.argument("environment")


def cluster_of(context: str) -> Kubectl:
    from knative.kubectl import KubectlMissing, kubectl

    try:
        return kubectl(context)
    except KubectlMissing as missing:
        raise Missing(
            "kubectl is needed and not on the PATH", fix="install it: https://kubernetes.io/docs/tasks/tools/"
        ) from missing


def rendered(name: str, image: str = "") -> tuple[Environment, tuple[Manifest, ...]]:
    from knative.environment import load, with_image
    from knative.render import render
    from shared.function import catalog

    environment = with_image(load(name), image) if image else load(name)
    return environment, render(catalog.find(), environment)


def check(cluster: Kubectl, environment: Environment, manifests: tuple[Manifest, ...]) -> None:
    """Raises `Missing` with everything that stands in the way; nothing has been changed then."""
    from knative.preflight import findings

    found = findings(cluster, environment, manifests)
    if found:
        raise Missing(
            "; ".join(one.what for one in found),
            why="nothing was changed",
            fix=" · ".join(one.fix for one in found),
        )


def secrets_of(environment: Environment, folder: Path | None) -> tuple[Manifest, ...]:
    """From the process's environment, and what it lacks from the host that runs in DCODER_HOME."""
    from knative.secrets import manifests
    from shared.host.home import find_home

    home = find_home()
    told = home.read("host.json").get("environment")
    host = cast("Mapping[str, str]", told) if isinstance(told, Mapping) else {}
    settings = {name: os.environ.get(name) or str(host.get(name, "")) for name in STORE_SETTINGS}
    return manifests(environment, folder or home.secrets, settings)


def applied_text(result: Result) -> str:
    if result["dry_run"]:
        return "\n".join(str(one) for one in cast("list[str]", result["applied"])) + "\nnothing was changed"
    return f"release {result['release']} serves in namespace {result['namespace']}"


@command(applied_text, name="apply")
@environment_argument
@click.option("--image", default="", help="Instead of the environment's.")
@click.option("--secrets", is_flag=True, help="Also write the Secrets, from key files and DCODER_* addresses.")
@click.option("--keys", type=click.Path(path_type=Path), help="Folder of the key files; default: those of DCODER_HOME.")
@click.option("--dry-run", is_flag=True, help="Ask the cluster what would change; change nothing.")
@click.option("--wait", "wait_s", default=WAIT_S, show_default=True, help="Seconds until everything must be ready.")
@click.option("--gateway", default="", help="Where the ingress answers, http://host:port; else the cluster is asked.")
@context_option
def apply_command(
    environment: str,
    *,
    image: str,
    secrets: bool,
    keys: Path | None,
    dry_run: bool,
    wait_s: int,
    gateway: str,
    context: str,
) -> Result:
    """Deploy ENVIRONMENT: check, apply, remove what is no longer rendered, wait until ready. Safe to repeat."""
    cluster = cluster_of(context)
    place, manifests = rendered(environment, image)
    check(cluster, place, manifests)
    confidential = secrets_of(place, keys) if secrets else ()
    if not secrets and not dry_run:
        need_secrets(cluster, place)
    if dry_run:
        return dry(cluster, place, manifests)
    done = deploy(cluster, place, manifests, confidential=confidential, wait_s=wait_s)
    settle_or_roll(cluster, place, keys=keys, gateway=gateway, wait_s=wait_s)
    return done


def dry(cluster: Kubectl, environment: Environment, manifests: tuple[Manifest, ...]) -> Result:
    from knative import apply

    said = apply.apply(cluster, manifests, dry_run=True)
    gone = apply.superfluous(cluster, environment, manifests)
    return {"ok": True, "dry_run": True, "applied": [*said, *(f"{kind}/{name} pruned" for kind, name in gone)]}


def deploy(
    cluster: Kubectl,
    environment: Environment,
    manifests: tuple[Manifest, ...],
    *,
    confidential: tuple[Manifest, ...],
    wait_s: int,
) -> Result:
    """Apply with the Secrets first, remove what is no longer rendered, wait, and write the release down."""
    from knative import apply, releases

    said = apply.apply(cluster, (manifests[0], *confidential, *manifests[1:]), dry_run=False)
    gone = apply.superfluous(cluster, environment, manifests)
    apply.prune(cluster, environment, gone)
    wait(cluster, environment, manifests, wait_s)
    history = releases.read(cluster, environment)
    made = history.after(environment.image, releases.ready_revisions(cluster, environment), datetime.now(UTC))
    releases.write(cluster, environment, made)
    return {
        "ok": True, "dry_run": False, "applied": said, "pruned": [f"{kind}/{name}" for kind, name in gone],
        "release": made.current, "namespace": environment.namespace,
    }  # fmt: skip


def settle_or_roll(cluster: Kubectl, environment: Environment, *, keys: Path | None, gateway: str, wait_s: int) -> None:
    """Tenants' own Services as they are wished; where nobody can be asked, those that are there, as rendered."""
    from shared.cli.settling import place_at, roll, settle

    try:
        settle(place_at(cluster, environment, gateway=gateway, keys=keys), wait_s=wait_s)
    except Missing as missing:
        say(f"tenants' own Services were brought up to date, but not asked for: {missing.what}")
        roll(cluster, environment, wait_s=wait_s)


def need_secrets(cluster: Kubectl, environment: Environment) -> None:
    from knative.secrets import names

    absent = [name for name in names(environment) if cluster.one("secret", name, environment.namespace) is None]
    if absent:
        raise Missing(
            f"namespace {environment.namespace!r} has no Secret {', '.join(absent)}",
            why="nothing was changed",
            fix=f"dcoder deploy apply {environment.name} --secrets",
        )


def wait(cluster: Kubectl, environment: Environment, manifests: tuple[Manifest, ...], wait_s: int) -> None:
    from knative.readiness import states, wait_until_ready

    wait_until_ready(lambda: states(cluster, environment, manifests), timeout_s=wait_s, report=say_waiting())


def say_waiting() -> Callable[[list[State]], None]:
    """Tells, once each, what is waited for."""
    told: set[str] = set()

    def report(waiting: list[State]) -> None:
        for one in waiting:
            if one.text() not in told:
                told.add(one.text())
                say(f"waiting for {one.text()}")

    return report


def status_text(result: Result) -> str:
    rows = [
        (one["kind"], one["name"], "yes" if one["ready"] else "no", one["why"]) for one in rows_of(result, "objects")
    ]
    return f"release {result['release'] or 'none'}\n" + table(rows, head=("kind", "name", "ready", "why"))


@command(status_text, name="status")
@environment_argument
@context_option
def status_command(environment: str, context: str) -> Result:
    """What of ENVIRONMENT is ready, and why the rest is not."""
    from dataclasses import asdict

    from knative import releases
    from knative.readiness import states

    cluster = cluster_of(context)
    place, manifests = rendered(environment)
    found = states(cluster, place, manifests)
    history = releases.read(cluster, place)
    return {
        "ok": all(one.ready for one in found),
        "release": history.current,
        "releases": [asdict(one) for one in history.releases],
        "objects": [asdict(one) for one in found],
    }


@command(lambda result: f"release {result['release']} serves; moved: {result['moved']}", name="rollback")
@environment_argument
@click.option("--to", "number", default=0, help="A release of `deploy status`; default: the one before.")
@context_option
def rollback_command(environment: str, number: int, context: str) -> Result:
    """Let an earlier release serve again: only traffic moves, so no revision is made, and no pod while the old is warm.

    The next `apply` ends it.
    """
    from dataclasses import replace

    from knative import releases

    cluster = cluster_of(context)
    place, manifests = rendered(environment)
    history = releases.read(cluster, place)
    target = history.before(number)
    moved = releases.route(cluster, place, target)
    wait(cluster, place, manifests, WAIT_S)
    releases.write(cluster, place, replace(history, current=target.number))
    return {"ok": True, "release": target.number, "moved": moved}


@command(lambda result: "\n".join(cast("list[str]", result["deleted"])) or "there was nothing", name="delete")
@environment_argument
@click.option("--yes", is_flag=True, help="Required: it deletes the namespace with its Secrets.")
@context_option
def delete_command(environment: str, yes: bool, context: str) -> Result:
    """Take ENVIRONMENT off the cluster. The stores and what is in them stay."""
    from knative import apply

    place, _ = rendered(environment)
    if not yes:
        raise Misused(
            f"this deletes namespace {place.namespace!r} with everything in it",
            fix=f"dcoder deploy delete {environment} --yes",
        )
    return {"ok": True, "deleted": apply.delete(cluster_of(context), place)}
