"""What the stores' pods have in common: one instance on a volume, a name, who may reach it, and a budget."""

from __future__ import annotations

from typing import Any

from knative.base.servers import Server
from knative.environment import Environment
from knative.jetstream import BROKER_NAMESPACE, FILTER_LABELS
from knative.manifest import PLATFORM_LABEL, Manifest, labels, metadata
from knative.network import namespace, tcp
from knative.network import policy as network_policy
from knative.placement import Group
from knative.services import SECURITY_CONTEXT, USER

START_S = 300
"""Recovery after a crash, before the kubelet takes a store for hung."""
PROBE_S = 2
OF_TENANTS = ("postgres", "objects")
"""Where a tenant has a database and a bucket, which its own functions open with what is that tenant's."""


def stateful_set(server: Server, environment: Environment) -> Manifest:
    return {
        "apiVersion": "apps/v1",
        "kind": "StatefulSet",
        "metadata": metadata(server.name, environment),
        "spec": {
            "replicas": 1,
            "serviceName": server.name,
            "selector": {"matchLabels": labels(server.name)},
            "template": {
                "metadata": {"labels": labels(server.name)},
                "spec": {
                    "automountServiceAccountToken": False,
                    "enableServiceLinks": False,
                    "terminationGracePeriodSeconds": server.stop_s,
                    "securityContext": {"fsGroup": USER, "fsGroupChangePolicy": "OnRootMismatch"},
                    # The volume is on the node of the pod that went, or moves: an hour's wait helps nobody.
                    "tolerations": [gone_node("not-ready"), gone_node("unreachable")],
                    "containers": [container(server)],
                    "volumes": [
                        {"name": "files", "secret": {"secretName": f"{server.name}-pod", "defaultMode": 0o440}},
                        *({"name": f"scratch-{number}", "emptyDir": {}} for number in range(len(server.scratch))),
                    ],
                },
            },
            "volumeClaimTemplates": [claim(server)],
        },
    }


def gone_node(why: str) -> Manifest:
    return {"key": f"node.kubernetes.io/{why}", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 30}


def container(server: Server) -> dict[str, Any]:  # Any: see Manifest
    pod = server.pod
    amounts = {"cpu": f"{pod.cpu_millicores}m", "memory": f"{pod.memory_mib}Mi"}
    probe = {**server.probe, "periodSeconds": PROBE_S, "timeoutSeconds": 5}
    mounts = [{"name": f"scratch-{number}", "mountPath": path} for number, path in enumerate(server.scratch)]
    return {
        "name": server.name,
        "image": pod.image,
        "command": list(server.command),
        "workingDir": server.data,
        "env": [{"name": name, "value": value} for name, value in server.environment.items()],
        "ports": [{"name": "store", "containerPort": server.port}],
        "resources": {"requests": {**amounts, "cpu": f"{max(10, pod.cpu_millicores // 10)}m"}, "limits": amounts},
        "startupProbe": {**probe, "failureThreshold": START_S // PROBE_S},
        "readinessProbe": probe,
        "livenessProbe": {**server.probe, "periodSeconds": 10, "timeoutSeconds": 5, "failureThreshold": 6},
        "securityContext": SECURITY_CONTEXT,
        "volumeMounts": [
            {"name": "data", "mountPath": server.data},
            {"name": "files", "mountPath": server.files, "readOnly": True},
            *mounts,
        ],
    }


def claim(server: Server) -> Manifest:
    pod = server.pod
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {"name": "data", "labels": labels(server.name)},
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            **({"storageClassName": pod.storage_class} if pod.storage_class else {}),
            "resources": {"requests": {"storage": f"{pod.storage_gib}Gi"}},
        },
    }


def name_in_cluster(server: Server, environment: Environment) -> Manifest:
    """The Service that leads to the pod."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(server.name, environment),
        "spec": {"selector": labels(server.name), "ports": [{"name": "store", "port": server.port}]},
    }


def policy(server: Server, everyone: tuple[Group, ...], environment: Environment) -> Manifest:
    """Only groups that were granted the store reach it, tenants' own functions PostgreSQL and the object store, the
    Broker's parts NATS. It reaches nothing."""
    return network_policy(
        server.name,
        environment,
        {
            "podSelector": {"matchLabels": {"app.kubernetes.io/name": server.name}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [{"from": callers(server, everyone, environment), "ports": [tcp(server.port)]}],
            "egress": [],
        },
    )


def callers(server: Server, everyone: tuple[Group, ...], environment: Environment) -> list[Manifest]:
    if server.name == "nats":
        return [namespace(BROKER_NAMESPACE), {"podSelector": {"matchLabels": FILTER_LABELS}}]
    tenants = {"namespaceSelector": {"matchLabels": {PLATFORM_LABEL: environment.namespace}}}
    theirs = [tenants] if server.name in OF_TENANTS else []
    if server.name == "postgres" and environment.pgbouncer is not None:
        return [{"podSelector": {"matchLabels": labels("pgbouncer")}}, tenants]
    granted = [one.name for one in everyone if server.name in one.grants]
    expression = {"key": "serving.knative.dev/service", "operator": "In", "values": granted}
    return [{"podSelector": {"matchExpressions": [expression]}}, *theirs]


def budget(server: Server, environment: Environment) -> Manifest:
    """One instance may be evicted: a budget that forbade it would keep a node from ever being drained."""
    return {
        "apiVersion": "policy/v1",
        "kind": "PodDisruptionBudget",
        "metadata": metadata(server.name, environment),
        "spec": {"maxUnavailable": 1, "selector": {"matchLabels": labels(server.name)}},
    }
