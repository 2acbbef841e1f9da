"""A rendered platform onto a cluster: applied, pruned, ready; and gone again. Each step may be repeated."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from knative.environment import Environment
from knative.kubectl import Kubectl
from knative.manifest import SELECTOR, Manifest
from knative.preflight import resource_of
from knative.tenants import selector
from shared.errors import Fault

CLUSTER_WIDE = frozenset({"Namespace", "ClusterDomainClaim"})
SERVICES = "services.serving.knative.dev"
GONE = ("--wait=true", "--timeout=110s")
GONE_TRIES = 4
"""Waits of 100 s: the stores' pods and a Broker's parts end in their own time."""
EVENTING = "triggers.eventing.knative.dev,brokers.eventing.knative.dev"
CLAIMS = "clusterdomainclaims.networking.internal.knative.dev"


def apply(cluster: Kubectl, manifests: Sequence[Manifest], *, dry_run: bool) -> list[str]:
    """What kubectl did with each object. A dry run in a namespace that is not there yet checks the namespace alone."""
    spaces = [one for one in manifests if one["kind"] == "Namespace"]
    said = cluster.apply(spaces, dry_run=dry_run)
    if dry_run and not all(exists(cluster, one) for one in spaces):
        return said
    return [*said, *cluster.apply([one for one in manifests if one["kind"] != "Namespace"], dry_run=dry_run)]


def exists(cluster: Kubectl, namespace: Manifest) -> bool:
    return bool(cluster.run("get", "namespace", namespace["metadata"]["name"], "--ignore-not-found", "--output=name"))


def superfluous(cluster: Kubectl, environment: Environment, manifests: Iterable[Manifest]) -> list[tuple[str, str]]:
    """Resource and name of the pooled platform's objects that are no longer rendered."""
    wanted = [one for one in manifests if one["kind"] != "Namespace"]
    kept = {(".".join(filter(None, reversed(resource_of(one)))), one["metadata"]["name"]) for one in wanted}
    found = []
    for resource in sorted({resource for resource, _ in kept}):
        listed = cluster.find(resource, "--namespace", environment.namespace, "--selector", SELECTOR)
        for one in listed:
            ours = resource != CLAIMS or one["spec"]["namespace"] == environment.namespace
            if ours and (resource, one["metadata"]["name"]) not in kept and not made_by_knative(one["metadata"]):
                found.append((resource, one["metadata"]["name"]))
    return found


def made_by_knative(metadata: Manifest) -> bool:
    """Knative copies labels onto what it makes for a Service, for example its own `v1` Services."""
    return bool(metadata.get("ownerReferences"))


def prune(cluster: Kubectl, environment: Environment, gone: Iterable[tuple[str, str]]) -> None:
    for resource, name in gone:
        scope = () if resource == CLAIMS else ("--namespace", environment.namespace)
        cluster.run("delete", resource, name, *scope, "--ignore-not-found", "--wait=false")


def delete(cluster: Kubectl, environment: Environment) -> list[str]:
    """Take the namespace with everything in it, its tenants' own and its claims. Raises `Fault` when it is not ours."""
    found = cluster.run("get", "namespace", environment.namespace, "--ignore-not-found", "--output=name")
    if not found:
        return []
    ours = ("--field-selector", f"metadata.name={environment.namespace}", "--selector", SELECTOR)
    if not cluster.find("namespace", *ours):
        raise Fault(f"namespace {environment.namespace!r} was not made by `dcoder deploy`; nothing was deleted")
    claims = [
        one["metadata"]["name"]
        for one in cluster.find(CLAIMS, "--selector", SELECTOR)
        if one["spec"]["namespace"] == environment.namespace
    ]
    others = [one["metadata"]["name"] for one in cluster.find("namespaces", "--selector", selector(environment))]
    for name in (*others, environment.namespace):
        delete_namespace(cluster, name)
    prune(cluster, environment, [(CLAIMS, name) for name in claims])
    return [f"namespace/{name}" for name in (*others, environment.namespace)] + [f"{CLAIMS}/{name}" for name in claims]


def delete_namespace(cluster: Kubectl, name: str) -> None:
    """Pods first: while one ends, Kubernetes looks at a namespace again only after half its grace period of minutes.

    And before them what a Broker's controller has to take out of a store that may be a pod here: without it, never.
    """
    where = ("--namespace", name, "--ignore-not-found", *GONE)
    cluster.run("delete", EVENTING, "--all", *where)
    cluster.run("delete", SERVICES, "--all", "--cascade=foreground", *where)
    cluster.run("delete", "namespace", name, "--ignore-not-found", "--wait=false")
    for attempt in range(GONE_TRIES):
        try:
            cluster.run("wait", f"namespace/{name}", "--for=delete", "--timeout=100s")
            return
        except Fault:
            if attempt == GONE_TRIES - 1:
                raise
