"""Revisions of tenants' own functions on a cluster: each a Service in the tenant's namespace, its sources a ConfigMap.

A Service for each revision, so that each has an address: who lets a call in has to know which revision will get it.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Iterable, Sequence

from knative import tenants
from knative.apply import GONE, SERVICES
from knative.dedications import OF_A_FUNCTION, Cluster, check
from knative.environment import Environment
from knative.kubectl import MANAGER
from knative.manifest import Manifest, metadata
from knative.services import BUNDLE_PATH
from knative.starting import CONTAINER, SERVICE_LABEL
from knative.tenants import Dedicated
from shared.bundles.grants import grants_of
from shared.bundles.loading import ARCHIVE, SIGNATURE, STATEMENT
from shared.bundles.revisions import Kept
from shared.function.declaration import Scale
from shared.ids import TenantId
from shared.tenancy.dedications import Credentials

NAME = re.compile(r"(?P<function>own-[a-z0-9-]+)-[0-9]+")
IMAGE_PATH = "/spec/template/spec/containers/0/image"


def name_of(kept: Kept) -> str:
    return f"{kept.manifest.function}-{kept.revision}"


def address_of(kept: Kept, environment: Environment) -> str:
    return tenants.origin_of(kept.tenant, name_of(kept), environment)


def dedicated(kept: Kept, environment: Environment) -> Dedicated:
    """The revision as a Service of its tenant alone, with what its function's types take."""
    manifest = kept.manifest
    return Dedicated(
        name=name_of(kept),
        image=environment.image,
        scale=Scale(max=manifest.instances_max, concurrency=manifest.concurrency),
        timeout_s=manifest.timeout_s,
        grants=grants_of(manifest),
        variables={
            "DCODER_FUNCTION": manifest.function,
            "DCODER_BUNDLE": BUNDLE_PATH,
            "DCODER_BUNDLE_DIGEST": kept.sealed.digest,
        },
        bundle=name_of(kept),
    )


def there(cluster: Cluster) -> dict[TenantId, set[str]]:
    """Tenant → the names of its Services that are revisions of its own functions."""
    found: dict[TenantId, set[str]] = {}
    for one in cluster.kubectl.find(SERVICES, "--all-namespaces", "--selector", tenants.selector(cluster.environment)):
        if NAME.fullmatch(one["metadata"]["name"]):
            tenant = TenantId(one["metadata"]["labels"]["dcoder.dev/tenant"])
            found.setdefault(tenant, set()).add(one["metadata"]["name"])
    return found


def roll(cluster: Cluster, tenant: TenantId, names: Iterable[str]) -> tuple[Manifest, ...]:
    """Give these the environment's image, and change nothing else; Services as `readiness` looks for them."""
    place = tenants.placed(tenant, cluster.environment)
    patch = [{"op": "replace", "path": IMAGE_PATH, "value": cluster.environment.image}]
    for name in names:
        cluster.kubectl.run(
            "patch", SERVICES, name, "--namespace", place.namespace, "--type=json",
            f"--field-manager={MANAGER}", "--patch", json.dumps(patch),
        )  # fmt: skip
    return tuple(
        {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "metadata": metadata(name, place, tenant=tenant)}
        for name in names
    )


def config_map(kept: Kept, environment: Environment) -> Manifest:
    """The signed sources. They are no secret, and what runs them believes the signature only."""
    files = {ARCHIVE: kept.sealed.archive, STATEMENT: kept.sealed.statement, SIGNATURE: kept.sealed.signature}
    made = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(name_of(kept), tenants.placed(kept.tenant, environment), tenant=kept.tenant),
        "binaryData": {name: base64.b64encode(content).decode() for name, content in files.items()},
    }
    return tenants.labelled(made, environment)


def manifests(cluster: Cluster, tenant: TenantId, kept: Sequence[Kept]) -> tuple[Manifest, ...]:
    """The tenant's namespace with these revisions. Raises `Fault`."""
    wanted = [dedicated(one, cluster.environment) for one in kept]
    return tenants.render(tenant, wanted, cluster.everyone, cluster.environment)


def apply(cluster: Cluster, tenant: TenantId, kept: Sequence[Kept], held: Credentials | None) -> list[str]:
    """What kubectl said. Without credentials the tenant's Secret stays as it is. Raises `Fault`."""
    rendered = manifests(cluster, tenant, kept)
    check(cluster, tenant, held)
    secret = [tenants.secret(tenant, held, cluster.environment)] if held is not None else []
    sources = [config_map(one, cluster.environment) for one in kept]
    said = cluster.kubectl.apply(rendered[:1])
    return [*said, *cluster.kubectl.apply([*secret, *sources, *rendered[1:]])]


def remove(cluster: Cluster, tenant: TenantId, names: Sequence[str]) -> None:
    """Take these Services off, with their ConfigMaps. Calls that have begun end first."""
    place = tenants.namespace_of(tenant, cluster.environment)
    for name in names:
        for resource in (*OF_A_FUNCTION, "configmaps"):
            where = ("--namespace", place, "--ignore-not-found", "--cascade=foreground", *GONE)
            cluster.kubectl.run("delete", resource, name, *where)


def log_of(cluster: Cluster, tenant: TenantId, name: str, *, lines: int) -> tuple[str, ...]:
    """kubectl's arguments for the last lines of this Service's pods; empty when it has no pod. Raises `Fault`."""
    where = ("--namespace", tenants.namespace_of(tenant, cluster.environment), "--selector", f"{SERVICE_LABEL}={name}")
    if not cluster.kubectl.find("pods", *where):
        return ()
    return ("logs", *where, f"--container={CONTAINER}", f"--tail={lines}")
