"""`deploy apply|status|rollback|delete`: the platform on the cluster that kubectl points at."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from shared.cli.failures import Missing, Misused
from shared.cli.output import Result, command, rows_of, say, table
from shared.cli.stores import keys_option, prepare_stores, secrets_of, store_settings
from shared.host.home import find_home

if TYPE_CHECKING:
    from knative.environment import Environment
    from knative.kubectl import Kubectl
    from knative.manifest import Manifest
    from knative.readiness import State

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


def applied_text(result: Result) -> str:
    if result["dry_run"]:
        return "\n".join(str(one) for one in cast("list[str]", result["applied"])) + "\nnothing was changed"
    return f"release {result['release']} serves in namespace {result['namespace']}"


@command(applied_text, name="apply")
@environment_argument
@click.option("--image", default="", help="Instead of the environment's.")
@click.option("--secrets", is_flag=True, help="Also prepare the databases and write the Secrets, from DCODER_*.")
@keys_option
@click.option("--dry-run", is_flag=True, help="Ask the cluster what would change; change nothing.")
@click.option("--wait", "wait_s", default=WAIT_S, show_default=True, help="Seconds until everything must be ready.")
@context_option
def apply_command(
    environment: str, image: str, secrets: bool, keys: Path | None, dry_run: bool, wait_s: int, context: str
) -> Result:
    """Deploy ENVIRONMENT: check, apply, remove what is no longer rendered, wait until ready. Safe to repeat."""
    cluster = cluster_of(context)
    place, manifests = rendered(environment, image)
    check(cluster, place, manifests)
    if dry_run:
        return dry(cluster, place, manifests)
    confidential = prepared(place, keys) if secrets else ()
    if not secrets:
        need_secrets(cluster, place)
    return deploy(cluster, place, manifests, confidential=confidential, wait_s=wait_s)


def prepared(environment: Environment, keys: Path | None) -> tuple[Manifest, ...]:
    """The Secrets, once the databases that they lead to are at the version of this code."""
    home = find_home()
    settings = store_settings(home)
    prepare_stores(home, keys, settings)
    say("✓ the databases are at the version of this code")
    return secrets_of(environment, keys, settings)


def dry(cluster: Kubectl, environment: Environment, manifests: tuple[Manifest, ...]) -> Result:
    from knative import apply, secrets, stamps

    marked = stamps.stamped(manifests, stamps.stored(cluster, environment, secrets.names(environment)), environment)
    said = apply.apply(cluster, marked, dry_run=True)
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
    from knative import apply, releases, secrets, stamps

    kept = stamps.stored(cluster, environment, secrets.names(environment)) if not confidential else {}
    marked = stamps.stamped(manifests, {**kept, **stamps.values_of(confidential)}, environment)
    said = apply.apply(cluster, (marked[0], *confidential, *marked[1:]), dry_run=False)
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

    told: set[str] = set()

    def report(waiting: list[State]) -> None:
        for one in waiting:
            if one.text() not in told:
                told.add(one.text())
                say(f"waiting for {one.text()}")

    wait_until_ready(lambda: states(cluster, environment, manifests), timeout_s=wait_s, report=report)


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
