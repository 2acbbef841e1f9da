"""How calls reach functions: two origins, `platform` by path and `llm`, from outside and from function to function."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from knative import kong
from knative.environment import Environment
from knative.manifest import Manifest, at_kourier, cluster_host, metadata, service_reference
from knative.placement import Group
from shared.errors import Fault
from shared.function.invoke import LLM_FUNCTION

ORIGIN = "origin"
"""Name of the cluster-local origin of the platform; no function can have it, as theirs are `<capability>-<name>`."""
INGRESS_CLASS = {"networking.knative.dev/ingress.class": "kourier.ingress.networking.knative.dev"}


def llm_group(everyone: tuple[Group, ...]) -> Group | None:
    return next((one for one in everyone if any(member.name == LLM_FUNCTION for member in one.members)), None)


def platform_groups(everyone: tuple[Group, ...]) -> tuple[Group, ...]:
    return tuple(one for one in everyone if any(member.name != LLM_FUNCTION for member in one.members))


def group_of(function: str, everyone: Iterable[Group]) -> Group:
    for one in everyone:
        if any(member.name == function for member in one.members):
            return one
    raise Fault(f"no group holds {function!r}")


def platform_origin(everyone: tuple[Group, ...], environment: Environment) -> str:
    served = platform_groups(everyone)
    return f"http://{cluster_host(served[0].name if len(served) == 1 else ORIGIN, environment)}"


def llm_origin(everyone: tuple[Group, ...], environment: Environment) -> str:
    gateway = llm_group(everyone)
    return f"http://{cluster_host(gateway.name, environment)}" if gateway else platform_origin(everyone, environment)


def prefixes(everyone: tuple[Group, ...]) -> dict[str, Group]:
    """Path prefix → group, longest first. Raises `Fault` when two groups claim one prefix."""
    found: dict[str, Group] = {}
    for one in everyone:
        for path in sorted(paths_of(one)):
            if path in found:
                raise Fault(f"{found[path].name} and {one.name} both serve {path}; they cannot be placed apart")
            found[path] = one
    return dict(sorted(found.items(), key=lambda item: (-len(item[0]), item[0])))


def paths_of(group: Group) -> set[str]:
    return {
        route.path.partition("{")[0].rstrip("/")
        for member in group.members
        if member.name != LLM_FUNCTION
        for _, route in member.routes()
    }


def manifests(everyone: tuple[Group, ...], environment: Environment) -> tuple[Manifest, ...]:
    if environment.routes == "kong":
        inside = path_routes(everyone, environment) if len(platform_groups(everyone)) > 1 else ()
        return (*inside, *kong.manifests(outside(everyone, environment), environment))
    return kourier_routes(everyone, environment)


def outside(everyone: tuple[Group, ...], environment: Environment) -> dict[str, list[tuple[str, Group]]]:
    """Host → path prefix and group, longest first: what can be called from outside, whatever answers there."""
    gateway = llm_group(everyone)
    paths = [*prefixes(everyone).items(), ("/", rest(everyone))]
    llm = {f"llm.{environment.domain}": [("/", gateway)]} if gateway else {}
    return {f"platform.{environment.domain}": paths, **llm}


def kourier_routes(everyone: tuple[Group, ...], environment: Environment) -> tuple[Manifest, ...]:
    served, gateway = platform_groups(everyone), llm_group(everyone)
    mapped = [("llm", gateway)] if gateway else []
    if len(served) == 1:
        mapped.append(("platform", served[0]))
    found = [
        one for label, group in mapped for one in domain_mapping(f"{label}.{environment.domain}", group, environment)
    ]
    return (*found, *(path_routes(everyone, environment) if len(served) > 1 else ()))


def domain_mapping(host: str, group: Group, environment: Environment) -> tuple[Manifest, Manifest]:
    tls = {"tls": {"secretName": environment.tls_secret}} if environment.tls_secret else {}
    mapping = {
        "apiVersion": "serving.knative.dev/v1beta1",
        "kind": "DomainMapping",
        "metadata": metadata(host, environment),
        "spec": {"ref": service_reference(group.name, environment), **tls},
    }
    claim = {
        "apiVersion": "networking.internal.knative.dev/v1alpha1",
        "kind": "ClusterDomainClaim",
        "metadata": {"name": host, "labels": metadata(host, environment)["labels"]},
        "spec": {"namespace": environment.namespace},
    }
    return claim, mapping


def path_routes(everyone: tuple[Group, ...], environment: Environment) -> tuple[Manifest, Manifest]:
    """One Kourier ingress for the origin, outside and inside, and the cluster's name for it."""
    paths = [path_route(prefix, group, environment) for prefix, group in prefixes(everyone).items()]
    paths.append(path_route("/", rest(everyone), environment))
    host = f"platform.{environment.domain}"
    inside = [
        cluster_host(ORIGIN, environment),
        f"{ORIGIN}.{environment.namespace}.svc",
        f"{ORIGIN}.{environment.namespace}",
    ]
    rules = [{"hosts": inside, "visibility": "ClusterLocal", "http": {"paths": paths}}]
    if environment.routes == "kourier":
        rules.insert(0, {"hosts": [host], "visibility": "ExternalIP", "http": {"paths": paths}})
    secure = {
        "httpOption": "Redirected",
        "tls": [{"hosts": [host], "secretName": environment.tls_secret, "secretNamespace": environment.namespace}],
    }
    ingress = {
        "apiVersion": "networking.internal.knative.dev/v1alpha1",
        "kind": "Ingress",
        "metadata": metadata(ORIGIN, environment, notes=INGRESS_CLASS),
        "spec": {
            **(secure if environment.tls_secret and environment.routes == "kourier" else {"httpOption": "Enabled"}),
            "rules": rules,
        },
    }
    return at_kourier(ORIGIN, environment), ingress


def rest(everyone: tuple[Group, ...]) -> Group:
    """Who answers that a path is unknown: Kourier calls an ingress ready only when `/` leads somewhere. Preferably a
    group that takes no events, so that none of their paths can be reached from outside, and of those the one that
    holds least."""
    served = platform_groups(everyone)
    return min(served, key=lambda one: (any(member.takes_events for member in one.members), len(one.grants), one.name))


def path_route(prefix: str, group: Group, environment: Environment) -> dict[str, Any]:  # Any: see Manifest
    """As a DomainMapping does it: to the Service's own name at the gateway, under the Service's own host."""
    return {
        "path": prefix,
        "rewriteHost": cluster_host(group.name, environment),
        "splits": [
            {
                "serviceName": group.name,
                "serviceNamespace": environment.namespace,
                "servicePort": 80,
                "percent": 100,
            }
        ],
    }
