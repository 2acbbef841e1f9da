"""`deploy apply|delete`: the platform on the cluster that kubectl points at."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, cast

import click

from shared.cli.failures import Failed, Missing, Misused
from shared.cli.output import Result, command, say
from shared.cli.readiness import say_waiting, wait
from shared.cli.stores import keys_option, prepared

if TYPE_CHECKING:
    from knative.environment import Environment
    from knative.kubectl import Kubectl
    from knative.manifest import Manifest
    from knative.releases import History

WAIT_S = 300
UNMOVED = "calls go where they went before"

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
    tried = f", {result['canary_percent']} % of it go to the canary" if result["canary"] else ""
    return f"release {result['release']} serves in namespace {result['namespace']}{tried}"


@command(applied_text, name="apply")
@environment_argument
@click.option("--image", default="", help="Instead of the environment's.")
@click.option("--secrets", is_flag=True, help="Also prepare the databases and write the Secrets, from DCODER_*.")
@keys_option
@click.option("--canary", type=click.IntRange(0, 99), help="Percent of the calls for it; 0: only by its address.")
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
    canary: int | None,
    dry_run: bool,
    wait_s: int,
    gateway: str,
    context: str,
) -> Result:
    """Deploy ENVIRONMENT: check, apply, remove what is no longer rendered, wait until ready. Safe to repeat."""
    cluster = cluster_of(context)
    place, manifests = rendered(environment, image)
    check(cluster, place, manifests)
    if dry_run:
        return dry(cluster, place, manifests)
    confidential = prepared(cluster, place, manifests, keys=keys, wait_s=wait_s) if secrets else ()
    if not secrets:
        need_secrets(cluster, place)
    if canary is not None:
        return try_out(cluster, place, manifests, confidential=confidential, percent=canary, wait_s=wait_s)
    done = deploy(cluster, place, manifests, confidential=confidential, wait_s=wait_s)
    settle_or_roll(cluster, place, keys=keys, gateway=gateway, wait_s=wait_s)
    return done


def dry(cluster: Kubectl, environment: Environment, manifests: tuple[Manifest, ...]) -> Result:
    from knative import apply, secrets, stamps, starting

    kept = stamps.stored(cluster, environment, secrets.names(environment))
    marked = starting.once(stamps.stamped(manifests, kept, environment))
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
    """Apply with the Secrets first, remove what is no longer rendered, and write the release down.

    Calls go to the new revisions when all of them have started, and until then to the release that serves.
    """
    from knative import apply, releases, starting

    history = releases.read(cluster, environment)
    first = starting.pinned(manifests, releases.serving(cluster, environment, history))
    start(cluster, environment, first, confidential=confidential, wait_s=wait_s)
    said = put(cluster, environment, manifests, ())
    gone = apply.superfluous(cluster, environment, manifests)
    apply.prune(cluster, environment, gone)
    wait(cluster, environment, manifests, wait_s)
    made = history.after(environment.image, releases.ready_revisions(cluster, environment), datetime.now(UTC))
    releases.write(cluster, environment, made)
    return {**outcome(environment, made, said), "pruned": [f"{kind}/{name}" for kind, name in gone]}


def try_out(
    cluster: Kubectl,
    environment: Environment,
    manifests: tuple[Manifest, ...],
    *,
    confidential: tuple[Manifest, ...],
    percent: int,
    wait_s: int,
) -> Result:
    """As `deploy`, but the release that serves keeps the other calls, and nothing of it is removed.

    The canary is written down before it is made, so that `rollback` ends one that does not become ready too.
    """
    from dataclasses import replace

    from knative import releases

    history = releases.read(cluster, environment)
    shared = releases.split(manifests, history.served().revisions, percent)
    canary = history.next(environment.image, {}, datetime.now(UTC))
    releases.write(cluster, environment, replace(history, canary=canary, canary_percent=percent))
    first = releases.split(manifests, history.served().revisions, 0)
    start(cluster, environment, first, confidential=confidential, wait_s=wait_s)
    said = put(cluster, environment, shared, ())
    wait(cluster, environment, shared, wait_s)
    ready = replace(canary, revisions=releases.ready_revisions(cluster, environment))
    made = replace(history, canary=ready, canary_percent=percent)
    releases.write(cluster, environment, made)
    return {**outcome(environment, made, said), "pruned": []}


def start(
    cluster: Kubectl,
    environment: Environment,
    manifests: tuple[Manifest, ...],
    *,
    confidential: tuple[Manifest, ...],
    wait_s: int,
) -> None:
    """Apply, and wait until each new revision has started once. Raises `Failed` with why one does not."""
    from knative.readiness import NotReady, states, wait_until_ready
    from knative.starting import explained, last_lines

    place = environment.namespace
    put(cluster, environment, manifests, confidential)
    try:
        wait_until_ready(
            lambda: explained(cluster, place, states(cluster, environment, manifests)),
            timeout_s=wait_s,
            report=say_waiting(),
        )
    except NotReady as late:
        lines = last_lines(cluster, place)
        raise Failed(
            late.detail,
            why="; ".join([*(f"{name} wrote last: {line}" for name, line in lines.items()), UNMOVED]),
            fix=f"apply an image that starts, or look: kubectl describe pods --namespace={place}",
        ) from late


def put(
    cluster: Kubectl, environment: Environment, manifests: tuple[Manifest, ...], confidential: tuple[Manifest, ...]
) -> list[str]:
    """The namespace, the Secrets, and the rest with the hash of what it reads of them."""
    from knative import apply, secrets, stamps, starting

    kept = stamps.stored(cluster, environment, secrets.names(environment)) if not confidential else {}
    marked = starting.once(stamps.stamped(manifests, {**kept, **stamps.values_of(confidential)}, environment))
    return apply.apply(cluster, (marked[0], *confidential, *marked[1:]), dry_run=False)


def outcome(environment: Environment, history: History, said: list[str]) -> dict[str, object]:
    return {
        "ok": True, "dry_run": False, "applied": said, "release": history.current, "namespace": environment.namespace,
        "canary": history.canary.number if history.canary else 0, "canary_percent": history.canary_percent,
    }  # fmt: skip


def settle_or_roll(cluster: Kubectl, environment: Environment, *, keys: Path | None, gateway: str, wait_s: int) -> None:
    """Tenants' own Services as they are wished; where nobody can be asked, those that are there, as rendered."""
    from shared.cli import revisions
    from shared.cli.settling import place_at, roll, settle

    try:
        place = place_at(cluster, environment, gateway=gateway, keys=keys)
        settle(place, wait_s=wait_s)
        revisions.settle_all(place, wait_s=wait_s)
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


@command(lambda result: "\n".join(cast("list[str]", result["deleted"])) or "there was nothing", name="delete")
@environment_argument
@click.option("--yes", is_flag=True, help="Required: it deletes the namespace with its Secrets.")
@context_option
def delete_command(environment: str, yes: bool, context: str) -> Result:
    """Take ENVIRONMENT off the cluster, and the data of its stores where they are pods. Your own stores stay."""
    from knative import apply

    place, _ = rendered(environment)
    if not yes:
        raise Misused(
            f"this deletes namespace {place.namespace!r} with everything in it",
            fix=f"dcoder deploy delete {environment} --yes",
        )
    return {"ok": True, "deleted": apply.delete(cluster_of(context), place)}
