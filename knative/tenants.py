"""What runs for one tenant alone: a namespace, its bounds, its policies, and a Service for each of its functions.

A pure function of the environment and of what is to run. No object of it names a Secret of the platform: the one that
the Services use, `dcoder-tenant`, holds that tenant's database, its data key, a public key and, once a function needs
it, the key of its bucket, and nothing else.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from knative import network, policies, schemas
from knative.environment import Environment
from knative.manifest import PLATFORM_LABEL, Manifest, cluster_host, labels, metadata
from knative.placement import Group, check
from knative.policies import TENANT_SECRET
from knative.routes import llm_origin, platform_origin
from knative.services import (
    KEYS_PATH,
    Part,
    Workload,
    deployed,
    key_files,
    resources,
    scratch,
    secret_variable,
)
from shared.errors import Fault, Invalid
from shared.function import dedication
from shared.function.catalog import Deployable
from shared.function.declaration import Scale
from shared.function.dedication import OBJECT_KEY, Origins
from shared.function.injection import dedicated_grants_of
from shared.ids import TenantId
from shared.tenancy.dedications import Credentials
from shared.tenancy.saga import ROLE_CONNECTIONS_MAX

NAMESPACE_CHARS_MAX = 63
OBJECT_KEY_ENTRIES = ("objects-access-key", "objects-secret-key")
"""Of the tenant's Secret, when the tenant has a key of its bucket."""
ROLE_CONNECTIONS_LEFT = 4
"""Of the tenant's role, for the pooled functions, which read its outbox."""
QUEUE_PROXY: Mapping[str, Mapping[str, str]] = {
    "defaultRequest": {"cpu": "25m", "memory": "64Mi"},
    "default": {"cpu": "1", "memory": "256Mi"},
}
"""For containers that name no bounds of their own, which is Knative's queue-proxy: a quota refuses them else."""
QUEUE_PROXY_MILLICORES, QUEUE_PROXY_MIB = (25, 1000), (64, 256)
"""The same as numbers: request and limit."""


@dataclass(frozen=True)
class Dedicated:
    """A function as one tenant's own Service."""

    name: str
    """Of the function and of its Service."""
    image: str
    scale: Scale
    timeout_s: int
    grants: frozenset[str]
    """`postgres`, `objects`, `issuer-key`, `data-key`, `functions`, `internet`."""
    variables: Mapping[str, str] = field(default_factory=dict)
    """Further environment variables, none of them secret."""
    bundle: str = ""
    """The ConfigMap with its signed sources, when they are the tenant's own."""


def dedicated(deployable: Deployable, environment: Environment) -> Dedicated:
    """A function of the catalog, cut down to one tenant. Raises `Fault` for one that cannot be."""
    check(deployable)
    try:
        grants = dedicated_grants_of(deployable.function)
    except Invalid as beyond:
        raise Fault(f"{deployable.name} cannot be dedicated to a tenant: {beyond.detail}") from beyond
    function = deployable.function
    image = environment.image_of(function.image)
    if image is None:
        raise Fault(f"the environment {environment.name!r} names no image for {deployable.name}")
    return Dedicated(deployable.name, image, function.scale, function.timeout_s, grants)


def namespace_of(tenant: TenantId, environment: Environment) -> str:
    """Two hyphens: no tenant's name has them, so no two tenants of a platform share one. Raises `Fault`."""
    name = f"{environment.namespace}--{tenant}"
    if len(name) > NAMESPACE_CHARS_MAX:
        raise Fault(f"the namespace {name!r} is over {NAMESPACE_CHARS_MAX} characters; give the platform a shorter one")
    return name


def origin_of(tenant: TenantId, function: str, environment: Environment) -> str:
    """Where the platform reaches the function's Service of that tenant."""
    return f"http://{cluster_host(function, placed(tenant, environment))}"


def placed(tenant: TenantId, environment: Environment) -> Environment:
    return environment.model_copy(update={"namespace": namespace_of(tenant, environment)})


def selector(environment: Environment) -> str:
    """Finds every namespace of the platform's tenants, and what is in them."""
    return f"app.kubernetes.io/part-of=dcoder,{PLATFORM_LABEL}={environment.namespace}"


def render(
    tenant: TenantId, functions: Sequence[Dedicated], everyone: tuple[Group, ...], environment: Environment
) -> tuple[Manifest, ...]:
    """The tenant's namespace with everything but its Secret, in the order to apply it. Raises `Fault`."""
    place = placed(tenant, environment)
    made = (
        namespace(tenant, place),
        quota(tenant, place),
        limit_range(tenant, place),
        network.deny_all(place, tenant=tenant),
        *(one for function in functions for one in of_function(tenant, function, everyone, environment)),
    )
    manifests = tuple(labelled(one, environment) for one in made)
    if wrong := [*schemas.faults(manifests), *policies.violations(manifests)]:
        raise Fault(f"tenant {tenant!r} in environment {environment.name!r}: {'; '.join(wrong)}")
    return manifests


def labelled(manifest: Manifest, environment: Environment) -> Manifest:
    known = manifest["metadata"]
    return {
        **manifest,
        "metadata": {**known, "labels": {**known["labels"], PLATFORM_LABEL: environment.namespace}},
    }


def of_function(
    tenant: TenantId, function: Dedicated, everyone: tuple[Group, ...], environment: Environment
) -> tuple[Manifest, ...]:
    place = placed(tenant, environment)
    most = environment.sizes.tenant_instances_max
    scale = Scale(
        min=min(function.scale.min, most),
        max=min(function.scale.max, most),
        concurrency=function.scale.concurrency,
        reason=function.scale.reason,
    )
    workload = Workload(
        name=function.name,
        image=function.image,
        scale=scale,
        timeout_s=function.timeout_s,
        variables=tuple(variables(tenant, function, everyone, environment)),
        volumes=(key_files(function.grants, TENANT_SECRET), scratch(place)),
        tenant=tenant,
        bundle=function.bundle,
    )
    policy = network.allow(function.name, function.grants, place, tenant=tenant, platform=environment.namespace)
    return policy, *deployed(workload, place)


def variables(
    tenant: TenantId, function: Dedicated, everyone: tuple[Group, ...], environment: Environment
) -> list[Part]:
    """Addresses of the tenant's own database and, for who calls functions, of the platform's ingress."""
    origins = Origins(
        platform_origin(everyone, environment), llm_origin(everyone, environment), environment.objects.url
    )
    told = {
        **dedication.variables(tenant, function.name, function.grants, origins),
        "DCODER_SECRETS_DIR": KEYS_PATH,
        "DCODER_CONNECTIONS_MAX": str(connections_max(environment)),
        **function.variables,
    }
    granted = "postgres" in function.grants
    database = secret_variable("DCODER_POSTGRES_URL", TENANT_SECRET, "database-url", granted=granted)
    key = [
        secret_variable(name, TENANT_SECRET, entry, granted=True)
        for name, entry in zip(OBJECT_KEY, OBJECT_KEY_ENTRIES, strict=True)
    ]
    plain: list[Part] = [{"name": name, "value": value} for name, value in told.items()]
    return [*plain, database, *(key if "objects" in function.grants else [])]


def connections_max(environment: Environment) -> int:
    """An instance's share of what the tenant's role may have."""
    share = (ROLE_CONNECTIONS_MAX - ROLE_CONNECTIONS_LEFT) // environment.sizes.tenant_instances_max
    return max(1, min(environment.sizes.connections_max, share))


def namespace(tenant: TenantId, place: Environment) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": place.namespace, "labels": labels("dcoder", tenant)},
    }


def quota(tenant: TenantId, place: Environment) -> Manifest:
    """Twice the instances: a rollout has the old and the new ones, and a pod that ends counts until it is gone."""
    sizes, pods = place.sizes, 2 * place.sizes.tenant_instances_max
    cpu = (sizes.cpu_request_millicores + QUEUE_PROXY_MILLICORES[0], sizes.cpu_limit_millicores)
    memory = (sizes.memory_request_mib + QUEUE_PROXY_MIB[0], sizes.memory_limit_mib)
    hard = {
        "pods": str(pods),
        "requests.cpu": f"{pods * cpu[0]}m",
        "requests.memory": f"{pods * memory[0]}Mi",
        "limits.cpu": f"{pods * (cpu[1] + QUEUE_PROXY_MILLICORES[1])}m",
        "limits.memory": f"{pods * (memory[1] + QUEUE_PROXY_MIB[1])}Mi",
        # Nothing of these is rendered; a Service of these types would be a way in past the shared ingress.
        "services.loadbalancers": "0",
        "services.nodeports": "0",
        "persistentvolumeclaims": "0",
    }
    return {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": metadata("dcoder", place, tenant=tenant),
        "spec": {"hard": hard},
    }


def limit_range(tenant: TenantId, place: Environment) -> Manifest:
    most = resources(place)["limits"]
    bounds = {"type": "Container", **{name: dict(one) for name, one in QUEUE_PROXY.items()}, "max": most}
    return {
        "apiVersion": "v1",
        "kind": "LimitRange",
        "metadata": metadata("dcoder", place, tenant=tenant),
        "spec": {"limits": [bounds]},
    }


def secret(tenant: TenantId, credentials: Credentials, environment: Environment) -> Manifest:
    """The one Secret of the tenant's namespace."""
    data = {"database-url": credentials.database_url.encode(), **dedication.keys_of(credentials)}
    if (key := credentials.object_key) is not None:
        halves = (key.access_key.encode(), key.secret_key.encode())
        data |= dict(zip(OBJECT_KEY_ENTRIES, halves, strict=True))
    made = {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": metadata(TENANT_SECRET, placed(tenant, environment), tenant=tenant),
        "type": "Opaque",
        "data": {name: base64.b64encode(value).decode() for name, value in data.items()},
    }
    return labelled(made, environment)
