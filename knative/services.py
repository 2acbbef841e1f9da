"""A Knative Service and its service account: of a group of functions, or of one that is a tenant's alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from knative.environment import Collector, Environment
from knative.manifest import BROKER, POOLED, Manifest, labels, metadata
from knative.placement import Group
from knative.routes import llm_origin, platform_origin
from shared.function.declaration import Minute, Scale
from shared.function.dedication import key_names
from shared.settings import NOT_GRANTED

KEYS_PATH = "/etc/dcoder/keys"
BUNDLE_PATH = "/etc/dcoder/bundle"
USER = 65532
SECURITY_CONTEXT = {
    "runAsNonRoot": True,
    "runAsUser": USER,
    "runAsGroup": USER,
    "readOnlyRootFilesystem": True,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "seccompProfile": {"type": "RuntimeDefault"},
}
STORES = ("postgres", "redis")
WINDOW_OF_TICKED = "20s"
"""Pods go after a window without a call. At the usual 60 s, a tick a minute would keep them for ever."""


Part = dict[str, Any]  # Any: see Manifest


@dataclass(frozen=True)
class Workload:
    """What one Service runs, and for whom."""

    name: str
    image: str
    scale: Scale
    timeout_s: int
    variables: tuple[Part, ...]
    volumes: tuple[Part, ...]
    """One of them is named `keys`, one `scratch`."""
    window: str = ""
    """How long a pod stays without a call; empty is Knative's default."""
    tenant: str = POOLED
    bundle: str = ""
    """The ConfigMap that holds the function's signed sources, when they are a tenant's own."""


def manifests(group: Group, everyone: tuple[Group, ...], environment: Environment) -> tuple[Manifest, ...]:
    ticked = any(isinstance(one.trigger, Minute) for member in group.members for one in member.function.operations)
    return deployed(
        Workload(
            name=group.name,
            image=environment.image_of(group.image) or environment.image,
            scale=group.scale,
            timeout_s=group.timeout_s,
            variables=tuple(variables(group, everyone, environment)),
            volumes=(
                key_files(group.grants, environment.keys_secret),
                scratch(environment),
            ),
            window=WINDOW_OF_TICKED if ticked else "",
        ),
        environment,
    )


def deployed(workload: Workload, environment: Environment) -> tuple[Manifest, Manifest]:
    """In the environment's namespace."""
    return service_account(workload, environment), service(workload, environment)


def service_account(workload: Workload, environment: Environment) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(workload.name, environment, tenant=workload.tenant),
        "automountServiceAccountToken": False,
    }


def service(workload: Workload, environment: Environment) -> Manifest:
    local = {"networking.knative.dev/visibility": "cluster-local"}
    return {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": metadata(workload.name, environment, tenant=workload.tenant, extra=local),
        "spec": {
            # Said, so that applying again ends a rollback.
            "traffic": [{"latestRevision": True, "percent": 100}],
            "template": {
                "metadata": {
                    "labels": labels(workload.name, workload.tenant),
                    "annotations": scale_annotations(workload),
                },
                "spec": {
                    "serviceAccountName": workload.name,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "containerConcurrency": workload.scale.concurrency,
                    "timeoutSeconds": workload.timeout_s,
                    "responseStartTimeoutSeconds": workload.timeout_s,
                    "containers": [container(workload, environment)],
                    "volumes": [*workload.volumes, *bundle_volume(workload)],
                },
            },
        },
    }


def scale_annotations(workload: Workload) -> dict[str, str]:
    scale = workload.scale
    return {
        # A tenant's own revision must have started once: calls go to it then, and not to one that cannot.
        "autoscaling.knative.dev/initial-scale": "1" if workload.bundle else "0",
        "autoscaling.knative.dev/min-scale": str(scale.min),
        "autoscaling.knative.dev/max-scale": str(scale.max),
        **({"autoscaling.knative.dev/window": workload.window} if workload.window else {}),
        **({"dcoder.dev/scale-reason": scale.reason} if scale.reason else {}),
    }


def container(workload: Workload, environment: Environment) -> Part:
    return {
        "name": "function",
        "image": workload.image,
        "ports": [{"name": "http1", "containerPort": 8080}],
        "env": list(workload.variables),
        "resources": resources(environment),
        # A period of 0 lets queue-proxy probe every 50 ms until ready; any other falls back to the kubelet's seconds.
        "readinessProbe": {"httpGet": {"path": "/health/ready", "port": 8080}, "periodSeconds": 0},
        "livenessProbe": {"httpGet": {"path": "/health/live", "port": 8080}, "periodSeconds": 10, "timeoutSeconds": 5},
        "securityContext": SECURITY_CONTEXT,
        "volumeMounts": [
            {"name": "keys", "mountPath": KEYS_PATH, "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  the pod's own volume
            *([{"name": "bundle", "mountPath": BUNDLE_PATH, "readOnly": True}] if workload.bundle else []),
        ],
    }


def bundle_volume(workload: Workload) -> list[Part]:
    if not workload.bundle:
        return []
    return [{"name": "bundle", "configMap": {"name": workload.bundle, "defaultMode": 0o444}}]


def resources(environment: Environment) -> Part:
    """One instance's share."""
    sizes = environment.sizes
    return {
        "requests": {"cpu": f"{sizes.cpu_request_millicores}m", "memory": f"{sizes.memory_request_mib}Mi"},
        "limits": {"cpu": f"{sizes.cpu_limit_millicores}m", "memory": f"{sizes.memory_limit_mib}Mi"},
    }


def variables(group: Group, everyone: tuple[Group, ...], environment: Environment) -> list[Part]:
    settings: list[Part] = [
        {"name": "DCODER_FUNCTION", "value": ",".join(member.name for member in group.members)},
        {"name": "DCODER_PLATFORM_URL", "value": platform_origin(everyone, environment)},
        {"name": "DCODER_LLM_URL", "value": llm_origin(everyone, environment)},
        {"name": "DCODER_SECRETS_DIR", "value": KEYS_PATH},
        {"name": "DCODER_BROKER_URL", "value": f"{environment.broker.ingress}/{environment.namespace}/{BROKER}"},
        {"name": "DCODER_NATS_URL", "value": NOT_GRANTED},
        {"name": "DCODER_CHECKPOINT_FILES", "value": "false"},
        {"name": "DCODER_CONNECTIONS_MAX", "value": str(environment.sizes.connections_max)},
    ]
    for store in STORES:
        secret = getattr(environment, store).secret
        settings.append(secret_variable(f"DCODER_{store.upper()}_URL", secret, "url", granted=store in group.grants))
    if environment.postgres_servers is not None and "postgres" in group.grants:
        secret = environment.postgres_servers.secret
        settings.append(secret_variable("DCODER_POSTGRES_SERVERS", secret, "servers", granted=True))
    if environment.collector is not None:
        settings += collector(environment.collector)
    granted = "objects" in group.grants
    keys = granted and environment.objects.keys
    secret = environment.objects.secret
    return [
        *settings,
        {"name": "DCODER_OBJECTS_URL", "value": environment.objects.url if granted else NOT_GRANTED},
        secret_variable("DCODER_OBJECTS_ACCESS_KEY", secret, "access-key", granted=granted),
        secret_variable("DCODER_OBJECTS_SECRET_KEY", secret, "secret-key", granted=granted),
        *([{"name": "DCODER_OBJECTS_KEYS", "value": environment.objects.keys}] if keys else []),
    ]


def collector(place: Collector) -> list[Part]:
    url: Part = {"name": "DCODER_OTLP_URL", "value": place.url}
    headers = [secret_variable("DCODER_OTLP_HEADERS", place.secret, "headers", granted=True)] if place.secret else []
    return [url, *headers]


def secret_variable(name: str, secret: str, key: str, *, granted: bool) -> Part:
    if not granted:
        return {"name": name, "value": NOT_GRANTED}
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def key_files(grants: frozenset[str], secret: str) -> Part:
    """The key files among the grants: `root-key` is the file `root.key` of the Secret."""
    # A Secret's files belong to root, and Knative refuses fsGroup by default: only 0444 lets our user read them.
    items = [{"key": name, "path": name} for name in key_names(grants)]
    return {"name": "keys", "secret": {"secretName": secret, "defaultMode": 0o444, "items": items}}


def scratch(environment: Environment) -> Part:
    return {"name": "scratch", "emptyDir": {"sizeLimit": f"{environment.sizes.scratch_mib}Mi"}}
