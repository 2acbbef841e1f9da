"""What must hold of a cluster before anything is changed there."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

from knative import jetstream
from knative.environment import Environment
from knative.kubectl import Kubectl, Object
from knative.manifest import Manifest
from shared.errors import Fault

T = TypeVar("T")
KUBERNETES_MIN = (1, 34)
"""What Knative 1.23 asks for."""
EXAMPLE_REGISTRY = "registry.example.com/"
KNATIVE = {
    "services.serving.knative.dev": "v1",
    "domainmappings.serving.knative.dev": "v1beta1",
    "ingresses.networking.internal.knative.dev": "v1alpha1",
    "clusterdomainclaims.networking.internal.knative.dev": "v1alpha1",
    "brokers.eventing.knative.dev": "v1",
    "triggers.eventing.knative.dev": "v1",
    "pingsources.sources.knative.dev": "v1",
}
KONG = "kongplugins.configuration.konghq.com"
MIB = 1024 * 1024
UNITS = {
    "m": 0.001, "": 1, "k": 10**3, "M": 10**6, "G": 10**9, "T": 10**12,
    "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40,
}  # fmt: skip
PLURALS = {"Ingress": "ingresses", "NetworkPolicy": "networkpolicies"}


@dataclass(frozen=True)
class Finding:
    """Something that keeps the platform from being deployed, and what to do about it."""

    what: str
    fix: str


def findings(cluster: Kubectl, environment: Environment, manifests: Iterable[Manifest]) -> list[Finding]:
    """Everything that is wrong; nothing is changed. A cluster that does not answer is the only finding then."""
    try:
        version = cluster.json("version")["serverVersion"]
    except (Fault, KeyError) as silent:
        return [Finding(f"the cluster does not answer: {silent}", "check KUBECONFIG and `kubectl cluster-info`")]
    return [
        *old(version),
        *unnamed_image(environment),
        *incomplete(cluster.run("api-resources", "--output=name"), cluster.run("api-versions")),
        *no_kong(cluster, environment),
        *no_scale_to_zero(cluster),
        *no_jetstream(cluster, environment),
        *being_deleted(cluster, environment),
        *forbidden(cluster, environment, manifests),
        *full(cluster, environment),
    ]


def seen(look: Callable[[], T]) -> T | None:
    """What is there; None for who may not look. What is really needed to deploy, `forbidden` asks for."""
    try:
        return look()
    except Fault as refused:
        if "(Forbidden)" in refused.detail:
            return None
        raise


def old(version: Object) -> Iterable[Finding]:
    found = (int(version["major"]), int(re.sub(r"\D.*", "", str(version["minor"]))))
    if found < KUBERNETES_MIN:
        wanted = ".".join(map(str, KUBERNETES_MIN))
        yield Finding(f"Kubernetes {version['gitVersion']} is older than {wanted}", "upgrade the cluster")


def unnamed_image(environment: Environment) -> Iterable[Finding]:
    for image in filter(None, (environment.image, environment.translate_image)):
        if image.startswith(EXAMPLE_REGISTRY):
            yield Finding(
                f"the image {image!r} is the example's",
                f"name yours with --image, or in knative/environments/{environment.name}.yaml",
            )


def incomplete(resources: str, versions: str) -> Iterable[Finding]:
    """By discovery, which everybody may ask."""
    known, served = set(resources.split()), set(versions.split())
    if absent := [
        name for name, version in KNATIVE.items() if name not in known or served_as(name, version) not in served
    ]:
        yield Finding(
            f"Knative is not complete: no {', '.join(absent)}",
            "install Knative Serving, net-kourier and Knative Eventing 1.21 or later",
        )


def no_kong(cluster: Kubectl, environment: Environment) -> Iterable[Finding]:
    if environment.routes == "kong" and KONG not in cluster.run("api-resources", "--output=name").split():
        yield Finding(
            f"Kong is not there: no {KONG}",
            "install the Kong Ingress Controller with ingress class kong, or take routes: kourier",
        )


def served_as(resource: str, version: str) -> str:
    return f"{resource.partition('.')[2]}/{version}"


def no_scale_to_zero(cluster: Kubectl) -> Iterable[Finding]:
    """Without it the webhook refuses Services whose first revision starts no pod."""
    settings = seen(lambda: cluster.one("configmap", "config-autoscaler", "knative-serving"))
    if settings is not None and settings.get("data", {}).get("allow-zero-initial-scale") != "true":
        yield Finding(
            "Knative does not let a new revision start at zero",
            "kubectl -n knative-serving patch configmap config-autoscaler --type merge "
            """-p '{"data":{"allow-zero-initial-scale":"true"}}'""",
        )


def no_jetstream(cluster: Kubectl, environment: Environment) -> Iterable[Finding]:
    """A Broker of a class that nobody serves is never ready."""
    if environment.broker.jetstream is None:
        return
    found = seen(lambda: cluster.find("deployments", "--namespace", jetstream.BROKER_NAMESPACE))
    if found is not None and jetstream.INGRESS not in {one["metadata"]["name"] for one in found}:
        yield Finding(
            f"no Deployment {jetstream.INGRESS} in {jetstream.BROKER_NAMESPACE}: nobody serves NatsJetStreamBroker",
            "install eventing-natss 1.22 or later (docs/how-to/deploy.md), or take broker.kind MTChannelBasedBroker",
        )


def being_deleted(cluster: Kubectl, environment: Environment) -> Iterable[Finding]:
    """Such a namespace takes nothing new, and what was applied to it would go with it."""
    found = seen(lambda: cluster.find("namespace", "--field-selector", f"metadata.name={environment.namespace}")) or ()
    if any(one.get("status", {}).get("phase") == "Terminating" for one in found):
        yield Finding(
            f"namespace {environment.namespace!r} is being deleted",
            f"kubectl wait --for=delete --timeout=10m namespace/{environment.namespace}",
        )


def full(cluster: Kubectl, environment: Environment) -> Iterable[Finding]:
    """Whether a node has room for one instance."""
    nodes, pods = seen(lambda: cluster.find("nodes")), seen(lambda: cluster.find("pods", "--all-namespaces"))
    if nodes is None or pods is None:
        return
    sizes = environment.sizes
    wanted = {"cpu": sizes.cpu_request_millicores, "memory": sizes.memory_request_mib * MIB * 1000}
    if not any(has_room(node, pods, wanted) for node in nodes):
        yield Finding(
            f"no node has room for one instance: {sizes.cpu_request_millicores}m CPU, {sizes.memory_request_mib} MiB",
            f"add a node, end something, or lower `sizes` in knative/environments/{environment.name}.yaml",
        )


def has_room(node: Object, pods: Iterable[Object], wanted: Mapping[str, int]) -> bool:
    """`wanted`: thousandths of a core, thousandths of a byte."""
    spec, allocatable = node.get("spec", {}), node["status"]["allocatable"]
    closed = [one for one in spec.get("taints", ()) if one["effect"] in ("NoSchedule", "NoExecute")]
    if spec.get("unschedulable") or closed or condition(node, "Ready") != "True":
        return False
    there = [
        one
        for one in pods
        if one["spec"].get("nodeName") == node["metadata"]["name"]
        and one.get("status", {}).get("phase") not in ("Succeeded", "Failed")
    ]
    if len(there) >= int(allocatable["pods"]):
        return False
    asked = [
        container.get("resources", {}).get("requests", {}) for pod in there for container in pod["spec"]["containers"]
    ]
    return all(
        thousandths(allocatable[name]) - sum(thousandths(one.get(name, "0")) for one in asked) >= amount
        for name, amount in wanted.items()
    )


def condition(found: Object, kind: str) -> str:
    conditions = found.get("status", {}).get("conditions", ())
    return next((str(one["status"]) for one in conditions if one["type"] == kind), "")


def thousandths(quantity: str) -> int:
    """A Kubernetes quantity: https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/quantity/."""
    number = re.match(r"[0-9.]+", quantity)
    assert number is not None
    return int(float(number.group()) * UNITS[quantity[number.end() :]] * 1000)


def forbidden(cluster: Kubectl, environment: Environment, manifests: Iterable[Manifest]) -> Iterable[Finding]:
    """One access review per kind and verb, all in one call: what `kubectl auth can-i` asks one by one."""
    asked = [
        (group, resource, verb)
        for group, resource in sorted({resource_of(one) for one in manifests} | {("", "secrets"), ("", "configmaps")})
        for verb in ("create", "patch", "delete")
    ]
    reviews = [
        {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SelfSubjectAccessReview",
            "spec": {
                "resourceAttributes": {
                    "namespace": environment.namespace, "group": group, "resource": resource, "verb": verb,
                }
            },
        }
        for group, resource, verb in asked
    ]  # fmt: skip
    answers = review(cluster, reviews)
    denied = [f"{verb} {resource}" for (_, resource, verb), allowed in zip(asked, answers, strict=True) if not allowed]
    if denied:
        yield Finding(
            f"you may not {', '.join(denied)} in namespace {environment.namespace!r}",
            "use a context with these rights, or ask for them",
        )


def review(cluster: Kubectl, reviews: Sequence[Manifest]) -> list[bool]:
    return [bool(one["status"].get("allowed")) for one in cluster.create(reviews)]


def resource_of(manifest: Manifest) -> tuple[str, str]:
    """API group and plural name."""
    group, slash, _ = str(manifest["apiVersion"]).partition("/")
    kind = str(manifest["kind"])
    return (group if slash else "", PLURALS.get(kind, kind.lower() + "s"))
