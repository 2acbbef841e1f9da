"""Tenants' own Services on a cluster: which there are, applied, and gone again. Each may be repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from knative import readiness, starting, tenants
from knative.apply import GONE, SERVICES, delete_namespace
from knative.environment import Environment
from knative.kubectl import Kubectl
from knative.manifest import PLATFORM_LABEL, Manifest
from knative.placement import Group, groups
from knative.policies import TENANT_SECRET
from knative.readiness import State
from shared.errors import Fault
from shared.function.catalog import Deployable
from shared.ids import TenantId
from shared.tenancy.dedications import Credentials

Functions = Mapping[TenantId, Sequence[str]]
"""Tenant → the names of its functions."""
OF_A_FUNCTION = (SERVICES, "networkpolicies.networking.k8s.io", "serviceaccounts")
"""In this order: nothing is taken from a pod that still ends its calls."""


@dataclass(frozen=True)
class Cluster:
    """A platform's place on a cluster, and what its functions are."""

    kubectl: Kubectl
    environment: Environment
    catalog: Mapping[str, Deployable]

    @property
    def everyone(self) -> tuple[Group, ...]:
        return groups(self.catalog.values(), self.environment)


def there(cluster: Cluster) -> dict[TenantId, list[str]]:
    """Tenant → its Services of the catalog's functions; a tenant whose namespace is empty too."""
    selector = tenants.selector(cluster.environment)
    found: dict[TenantId, list[str]] = {
        TenantId(one["metadata"]["labels"]["dcoder.dev/tenant"]): []
        for one in cluster.kubectl.find("namespaces", "--selector", selector)
    }
    for one in cluster.kubectl.find(SERVICES, "--all-namespaces", "--selector", selector):
        tenant = TenantId(one["metadata"]["labels"]["dcoder.dev/tenant"])
        if one["metadata"]["name"] in cluster.catalog:
            found.setdefault(tenant, []).append(one["metadata"]["name"])
    return found


def apply(cluster: Cluster, tenant: TenantId, functions: Iterable[str], held: Credentials | None) -> list[str]:
    """The tenant's namespace with a Service for each; what kubectl said. Without credentials the Secret stays as it is.

    Raises `Fault` for a namespace that is not ours, and when there is no Secret yet and no credentials for one.
    """
    rendered = manifests(cluster, tenant, functions)
    check(cluster, tenant, held)
    secret = [tenants.secret(tenant, held, cluster.environment)] if held is not None else []
    said = cluster.kubectl.apply(rendered[:1])
    return [*said, *cluster.kubectl.apply([*secret, *starting.once(rendered[1:])])]


def manifests(cluster: Cluster, tenant: TenantId, functions: Iterable[str]) -> tuple[Manifest, ...]:
    wanted = [tenants.dedicated(cluster.catalog[name], cluster.environment) for name in sorted(functions)]
    return tenants.render(tenant, wanted, cluster.everyone, cluster.environment)


def check(cluster: Cluster, tenant: TenantId, held: Credentials | None) -> None:
    """Raise `Fault` before anything is changed."""
    name = tenants.namespace_of(tenant, cluster.environment)
    found = cluster.kubectl.find("namespaces", "--field-selector", f"metadata.name={name}")
    owner = found[0]["metadata"].get("labels", {}).get(PLATFORM_LABEL) if found else None
    if found and owner != cluster.environment.namespace:
        raise Fault(
            f"namespace {name!r} is not of the platform in {cluster.environment.namespace!r}; nothing was changed"
        )
    if held is None and (not found or cluster.kubectl.one("secret", TENANT_SECRET, name) is None):
        raise Fault(f"namespace {name!r} has no Secret {TENANT_SECRET!r}, and there are no credentials to make it")


def wait(
    cluster: Cluster,
    tenant: TenantId,
    rendered: Sequence[Manifest],
    *,
    timeout_s: float,
    report: Callable[[list[State]], None],
) -> None:
    """Until every Service of these is ready. Raises `Fault` with the condition that fails."""
    place, selector = tenants.placed(tenant, cluster.environment), tenants.selector(cluster.environment)
    readiness.wait_until_ready(
        lambda: readiness.states(cluster.kubectl, place, rendered, selector=selector),
        timeout_s=timeout_s,
        report=report,
    )


def remove(cluster: Cluster, tenant: TenantId, functions: Iterable[str]) -> list[str]:
    """Take these off; with the last of its Services goes the namespace. Calls that have begun end first."""
    name = tenants.namespace_of(tenant, cluster.environment)
    selector = tenants.selector(cluster.environment)
    left = {
        one["metadata"]["name"] for one in cluster.kubectl.find(SERVICES, "--namespace", name, "--selector", selector)
    }
    gone = [f"{name}/{one}" for one in functions]
    if left <= set(functions):
        delete_namespace(cluster.kubectl, name)
        return [*gone, f"namespace/{name}"]
    for function in functions:
        for resource in OF_A_FUNCTION:
            where = ("--namespace", name, "--ignore-not-found", "--cascade=foreground", *GONE)
            cluster.kubectl.run("delete", resource, function, *where)
    return gone
