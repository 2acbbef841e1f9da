"""Kong in front: the same routes as Kourier's, with each group's limits, for the Kong Ingress Controller.

Kong speaks to Kourier, by the group's own name, because only Knative's ingress wakes a group at zero.
https://developer.konghq.com/kubernetes-ingress-controller/reference/annotations/
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from knative.environment import Environment
from knative.manifest import Manifest, at_kourier, cluster_host, metadata
from knative.placement import Group

CLASS = "kong"
PREFIX = "kong-"
"""Of the names of the Services that Kong reads; a group has its own name already."""
Routes = Mapping[str, Sequence[tuple[str, Group]]]
"""Host → path prefix and group."""


def manifests(routes: Routes, environment: Environment) -> tuple[Manifest, ...]:
    groups = {group.name: group for paths in routes.values() for _, group in paths}
    return (
        *(one for group in groups.values() for one in (limit(group, environment), upstream(group, environment))),
        ingress(routes, environment),
    )


def name_of(group: Group) -> str:
    return PREFIX + group.name


def body_bytes_max(group: Group) -> int:
    """The largest body that any of its routes takes."""
    own = [member.function.body_bytes_max for member in group.members]
    routes = [route.body_bytes_max or 0 for member in group.members for _, route in member.routes()]
    return max([*own, *routes])


def limit(group: Group, environment: Environment) -> Manifest:
    """Kong reads no body that the group would refuse; a stream without a length is cut by the function itself."""
    return {
        "apiVersion": "configuration.konghq.com/v1",
        "kind": "KongPlugin",
        "metadata": metadata(name_of(group), environment),
        "plugin": "request-size-limiting",
        "config": {
            "allowed_payload_size": body_bytes_max(group), "size_unit": "bytes", "require_content_length": False,
        },
    }  # fmt: skip


def upstream(group: Group, environment: Environment) -> Manifest:
    """Kourier under the group's name, with the group's timeout. Nothing is tried twice: a call may change things."""
    notes = {
        "konghq.com/host-header": cluster_host(group.name, environment),
        "konghq.com/plugins": name_of(group),
        "konghq.com/read-timeout": str(group.timeout_s * 1000),
        "konghq.com/write-timeout": str(group.timeout_s * 1000),
        "konghq.com/retries": "0",
    }
    return at_kourier(name_of(group), environment, notes=notes)


def ingress(routes: Routes, environment: Environment) -> Manifest:
    secure = environment.tls_secret is not None
    notes = {
        "konghq.com/strip-path": "false",
        "konghq.com/preserve-host": "false",
        "konghq.com/request-buffering": "false",
        "konghq.com/response-buffering": "false",
        "konghq.com/protocols": "https" if secure else "http",
        **({"konghq.com/https-redirect-status-code": "308"} if secure else {}),
    }
    tls = {"tls": [{"hosts": list(routes), "secretName": environment.tls_secret}]} if secure else {}
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": metadata("kong", environment, notes=notes),
        "spec": {
            "ingressClassName": CLASS,
            **tls,
            "rules": [{"host": host, "http": {"paths": backends(paths)}} for host, paths in routes.items()],
        },
    }


def backends(paths: Iterable[tuple[str, Group]]) -> list[dict[str, Any]]:  # Any: see Manifest
    return [
        {
            "path": prefix or "/",
            "pathType": "Prefix",
            "backend": {"service": {"name": name_of(group), "port": {"number": 80}}},
        }
        for prefix, group in paths
    ]
