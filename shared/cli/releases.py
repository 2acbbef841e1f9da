"""`deploy status|rollback|promote`: which release serves, and which one shall."""

from __future__ import annotations

import click

from shared.cli.cluster import WAIT_S, cluster_of, context_option, environment_argument, rendered
from shared.cli.output import Result, command, rows_of, table
from shared.cli.readiness import wait


def status_text(result: Result) -> str:
    rows = [
        (one["kind"], one["name"], "yes" if one["ready"] else "no", one["why"]) for one in rows_of(result, "objects")
    ]
    tried = f", canary {result['canary']} with {result['canary_percent']} %" if result["canary"] else ""
    return f"release {result['release'] or 'none'}{tried}\n" + table(rows, head=("kind", "name", "ready", "why"))


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
        "canary": history.canary.number if history.canary else 0,
        "canary_percent": history.canary_percent,
        "releases": [asdict(one) for one in history.releases],
        "objects": [asdict(one) for one in found],
    }


@command(lambda result: f"release {result['release']} serves; moved: {result['moved']}", name="rollback")
@environment_argument
@click.option("--to", "number", default=0, help="A release of `deploy status`; default: the one before.")
@context_option
def rollback_command(environment: str, number: int, context: str) -> Result:
    """End a canary, or else let an earlier release serve again. The next `apply` ends it.

    Only traffic moves, so no revision is made, and no pod while the old one is warm.
    """
    from knative import releases

    cluster = cluster_of(context)
    place, manifests = rendered(environment)
    history = releases.read(cluster, place)
    target = history.before(number)
    moved = releases.route(cluster, place, target)
    wait(cluster, place, manifests, WAIT_S)
    releases.write(cluster, place, releases.History(history.releases, target.number))
    return {"ok": True, "release": target.number, "moved": moved}


@command(lambda result: f"release {result['release']} serves; moved: {result['moved']}", name="promote")
@environment_argument
@context_option
def promote_command(environment: str, context: str) -> Result:
    """Let the canary serve every call: only traffic moves. The next `apply` removes what it no longer needs."""
    from knative import releases

    cluster = cluster_of(context)
    place, manifests = rendered(environment)
    history = releases.read(cluster, place)
    target = history.promotable()
    moved = releases.route(cluster, place, target)
    wait(cluster, place, manifests, WAIT_S)
    releases.write(cluster, place, history.with_release(target))
    return {"ok": True, "release": target.number, "moved": moved}
