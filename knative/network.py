"""Who may talk to whom: nobody, then what each group's grants and Knative itself need."""

from __future__ import annotations

from typing import Any

from knative.environment import Environment
from knative.manifest import POOLED, Manifest, metadata
from knative.placement import Group

QUEUE_PROXY_PORTS = (8012, 8013, 8112, 9090)
"""HTTP/1, HTTP/2 and TLS of queue-proxy, and the metrics that the autoscaler reads. Not 8080: nobody passes it by."""
PRIVATE = ["10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.168.0.0/16"]
STORES = ("postgres", "redis", "objects")
BROKER_PORT = 8080
"""Of the ingress's pods: policies see addresses after the Service's translation."""

Rule = dict[str, Any]  # Any: see Manifest


def manifests(everyone: tuple[Group, ...], environment: Environment) -> tuple[Manifest, ...]:
    return deny_all(environment), *(allow(group.name, group.grants, environment) for group in everyone)


def deny_all(environment: Environment, *, tenant: str = POOLED) -> Manifest:
    return policy("deny-all", environment, {"podSelector": {}, "policyTypes": ["Ingress", "Egress"]}, tenant=tenant)


def allow(
    service: str, grants: frozenset[str], environment: Environment, *, tenant: str = POOLED, platform: str = ""
) -> Manifest:
    """In and out of one Service's pods. A tenant's are not in the namespace of the platform, which is named then."""
    return policy(
        service,
        environment,
        {
            "podSelector": {"matchLabels": {"serving.knative.dev/service": service}},
            "policyTypes": ["Ingress", "Egress"],
            "ingress": [
                {
                    "from": [namespace("kourier-system"), namespace("knative-serving")],
                    "ports": [tcp(port) for port in QUEUE_PROXY_PORTS],
                }
            ],
            "egress": egress(grants, environment, platform),
        },
        tenant=tenant,
    )


def names() -> Rule:
    """To DNS."""
    return {"to": [namespace("kube-system")], "ports": [{"protocol": "UDP", "port": 53}, tcp(53)]}


def store(name: str, environment: Environment, platform: str = "") -> Rule:
    """To one of the stores: to its pod, in the platform's namespace if that is another, or to its address."""
    found = getattr(environment, name)
    elsewhere = namespace(platform) if platform else {}
    place = {**elsewhere, **pods(name)} if found.pod else {"ipBlock": {"cidr": found.cidr}}
    return {"to": [place], "ports": [tcp(found.port)]}


def egress(grants: frozenset[str], environment: Environment, platform: str = "") -> list[Rule]:
    rules: list[Rule] = [names()]
    rules += [store(name, environment, platform) for name in STORES if name in grants]
    if environment.pgbouncer is not None and "postgres" in grants and not platform:
        rules[1 + STORES.index("postgres")] = {"to": [pods("pgbouncer")], "ports": [tcp(environment.pgbouncer.port)]}
    if environment.postgres_servers is not None and "postgres" in grants:
        for one in environment.postgres_servers.listeners:
            rules.append({"to": [{"ipBlock": {"cidr": one.cidr}}], "ports": [tcp(one.port)]})
    keys_at = environment.objects.keys_at
    if keys_at is not None and "objects" in grants and not platform:
        rules.append({"to": [{"ipBlock": {"cidr": keys_at.cidr}}], "ports": [tcp(keys_at.port)]})
    if environment.collector is not None and not platform:
        there = {"ipBlock": {"cidr": environment.collector.cidr}}
        rules.append({"to": [there], "ports": [tcp(environment.collector.port)]})
    if "events" in grants:
        rules.append({"to": [namespace("knative-eventing")], "ports": [tcp(BROKER_PORT)]})
    if "functions" in grants:
        rules.append({"to": [namespace("kourier-system")]})
    if "internet" in grants:
        rules.append({"to": [{"ipBlock": {"cidr": "0.0.0.0/0", "except": PRIVATE}}], "ports": [tcp(443)]})
    return rules


def policy(name: str, environment: Environment, spec: Rule, *, tenant: str = POOLED) -> Manifest:
    return {
        "apiVersion": "networking.k8s.io/v1",
        "kind": "NetworkPolicy",
        "metadata": metadata(name, environment, tenant=tenant),
        "spec": spec,
    }


def pods(name: str) -> Rule:
    """Those of this namespace that are called so."""
    return {"podSelector": {"matchLabels": {"app.kubernetes.io/name": name}}}


def namespace(name: str) -> Rule:
    return {"namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": name}}}


def tcp(port: int) -> Rule:
    return {"protocol": "TCP", "port": port}
