"""A manifest as a value, and what all of ours have in common."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from knative.environment import Environment

POOLED = "pooled"
"""Stands where a tenant's name would: what all tenants share."""
PLATFORM_LABEL = "dcoder.dev/platform"
"""On every object of a tenant's namespace: the namespace of the platform that it belongs to."""
SELECTOR = f"app.kubernetes.io/part-of=dcoder,dcoder.dev/tenant={POOLED}"
"""Finds what `labels` marks: the platform that all tenants share."""
BROKER = "events"
"""Name of the one Broker."""
KOURIER = "kourier-internal.kourier-system.svc.cluster.local"

Manifest = Mapping[str, Any]  # Any: JSON of many kinds, checked against their schemas


def labels(part: str, tenant: str = POOLED) -> dict[str, str]:
    return {"app.kubernetes.io/name": part, "app.kubernetes.io/part-of": "dcoder", "dcoder.dev/tenant": tenant}


def metadata(
    name: str,
    environment: Environment,
    *,
    tenant: str = POOLED,
    extra: Mapping[str, str] | None = None,
    notes: Mapping[str, str] | None = None,
) -> dict[str, Any]:  # Any: see Manifest
    annotations = {"annotations": dict(notes)} if notes else {}
    return {
        "name": name,
        "namespace": environment.namespace,
        "labels": {**labels(name, tenant), **(extra or {})},
        **annotations,
    }


def cluster_host(name: str, environment: Environment) -> str:
    return f"{name}.{environment.namespace}.svc.cluster.local"


def at_kourier(name: str, environment: Environment, *, notes: Mapping[str, str] | None = None) -> Manifest:
    """A name in the namespace for Kourier's way in from inside the cluster."""
    return {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata(name, environment, notes=notes),
        "spec": {"type": "ExternalName", "externalName": KOURIER, "ports": [{"name": "http", "port": 80}]},
    }


def service_reference(name: str, environment: Environment) -> dict[str, str]:
    return {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": name, "namespace": environment.namespace}
