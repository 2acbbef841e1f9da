"""One Knative Service and one service account per group."""

from __future__ import annotations

from typing import Any

from knative.environment import Environment
from knative.manifest import BROKER, Manifest, labels, metadata, service_reference
from knative.placement import Group
from knative.routes import llm_origin, platform_origin
from shared.function.declaration import Minute

KEYS_PATH = "/etc/dcoder/keys"
NOT_GRANTED = "not-granted"
"""`Settings` wants every variable. A function that did not ask for a store gets no address of it."""
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


def manifests(group: Group, everyone: tuple[Group, ...], environment: Environment) -> tuple[Manifest, ...]:
    return service_account(group, environment), service(group, everyone, environment)


def service_account(group: Group, environment: Environment) -> Manifest:
    return {
        "apiVersion": "v1",
        "kind": "ServiceAccount",
        "metadata": metadata(group.name, environment),
        "automountServiceAccountToken": False,
    }


def service(group: Group, everyone: tuple[Group, ...], environment: Environment) -> Manifest:
    return {
        **{
            key: value
            for key, value in service_reference(group.name, environment).items()
            if key in ("apiVersion", "kind")
        },
        "metadata": metadata(group.name, environment, extra={"networking.knative.dev/visibility": "cluster-local"}),
        "spec": {
            # Said, so that applying again ends a rollback.
            "traffic": [{"latestRevision": True, "percent": 100}],
            "template": {
                "metadata": {"labels": labels(group.name), "annotations": scale_annotations(group)},
                "spec": {
                    "serviceAccountName": group.name,
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "containerConcurrency": group.scale.concurrency,
                    "timeoutSeconds": group.timeout_s,
                    "responseStartTimeoutSeconds": group.timeout_s,
                    "containers": [container(group, everyone, environment)],
                    "volumes": volumes(group, environment),
                },
            },
        },
    }


def scale_annotations(group: Group) -> dict[str, str]:
    scale = group.scale
    reason = {"dcoder.dev/scale-reason": scale.reason} if scale.reason else {}
    ticked = any(isinstance(one.trigger, Minute) for member in group.members for one in member.function.operations)
    window = {"autoscaling.knative.dev/window": WINDOW_OF_TICKED} if ticked else {}
    return {
        "autoscaling.knative.dev/initial-scale": "0",
        "autoscaling.knative.dev/min-scale": str(scale.min),
        "autoscaling.knative.dev/max-scale": str(scale.max),
        **window,
        **reason,
    }


def container(
    group: Group, everyone: tuple[Group, ...], environment: Environment
) -> dict[str, Any]:  # Any: see Manifest
    sizes = environment.sizes
    return {
        "name": "function",
        "image": environment.image,
        "ports": [{"name": "http1", "containerPort": 8080}],
        "env": variables(group, everyone, environment),
        "resources": {
            "requests": {"cpu": f"{sizes.cpu_request_millicores}m", "memory": f"{sizes.memory_request_mib}Mi"},
            "limits": {"cpu": f"{sizes.cpu_limit_millicores}m", "memory": f"{sizes.memory_limit_mib}Mi"},
        },
        # A period of 0 lets queue-proxy probe every 50 ms until ready; any other falls back to the kubelet's seconds.
        "readinessProbe": {"httpGet": {"path": "/health/ready", "port": 8080}, "periodSeconds": 0},
        "livenessProbe": {"httpGet": {"path": "/health/live", "port": 8080}, "periodSeconds": 10, "timeoutSeconds": 5},
        "securityContext": SECURITY_CONTEXT,
        "volumeMounts": [
            {"name": "keys", "mountPath": KEYS_PATH, "readOnly": True},
            {"name": "scratch", "mountPath": "/tmp"},  # noqa: S108  the pod's own volume
        ],
    }


def variables(
    group: Group, everyone: tuple[Group, ...], environment: Environment
) -> list[dict[str, Any]]:  # Any: see Manifest
    settings: list[dict[str, Any]] = [  # Any: see Manifest
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
    granted = "objects" in group.grants
    secret = environment.objects.secret
    return [
        *settings,
        {"name": "DCODER_OBJECTS_URL", "value": environment.objects.url if granted else NOT_GRANTED},
        secret_variable("DCODER_OBJECTS_ACCESS_KEY", secret, "access-key", granted=granted),
        secret_variable("DCODER_OBJECTS_SECRET_KEY", secret, "secret-key", granted=granted),
    ]


def secret_variable(name: str, secret: str, key: str, *, granted: bool) -> dict[str, Any]:  # Any: see Manifest
    if not granted:
        return {"name": name, "value": NOT_GRANTED}
    return {"name": name, "valueFrom": {"secretKeyRef": {"name": secret, "key": key}}}


def volumes(group: Group, environment: Environment) -> list[dict[str, Any]]:  # Any: see Manifest
    files = sorted(f"{grant.removesuffix('-key')}.key" for grant in group.grants if grant.endswith("-key"))
    items = [{"key": name, "path": name} for name in files]
    return [
        # A Secret's files belong to root, and Knative refuses fsGroup by default: only 0444 lets our user read them.
        {"name": "keys", "secret": {"secretName": environment.keys_secret, "defaultMode": 0o444, "items": items}},
        {"name": "scratch", "emptyDir": {"sizeLimit": f"{environment.sizes.scratch_mib}Mi"}},
    ]
