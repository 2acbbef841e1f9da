"""That a new revision starts is seen before calls go to it, and why one does not.

Rendered, a revision starts at zero, so Knative calls it ready although its image may be missing or its program may end.
What `deploy apply` sends asks for one instance, once: the revision is ready when that one was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

from knative.kubectl import Kubectl, Object
from knative.manifest import Manifest
from knative.policies import template_of
from knative.readiness import State
from shared.errors import Fault

INITIAL_SCALE = "autoscaling.knative.dev/initial-scale"
CONTAINER = "function"
SERVICES = "services.serving.knative.dev"
SERVICE_LABEL, REVISION_LABEL = "serving.knative.dev/service", "serving.knative.dev/revision"
NO_LOG = "unable to retrieve container logs"
"""How the kubelet answers for a container that is gone already."""
USUAL = frozenset({"ContainerCreating", "PodInitializing"})
"""Why a container waits that is being made."""
LINE_CHARS_MAX = 300


def once(manifests: Iterable[Manifest]) -> tuple[Manifest, ...]:
    """The manifests, each revision of which has to start once."""
    return tuple(starting(one) for one in manifests)


def starting(manifest: Manifest) -> Manifest:
    template = template_of(manifest)
    if template is None:
        return manifest
    annotations = {**template["metadata"].get("annotations", {}), INITIAL_SCALE: "1"}
    marked = {**template, "metadata": {**template["metadata"], "annotations": annotations}}
    return {**manifest, "spec": {**manifest["spec"], "template": marked}}


def pinned(manifests: Iterable[Manifest], serving: Mapping[str, str]) -> tuple[Manifest, ...]:
    """The manifests with all calls for the revisions that serve. A Service that does not serve yet has none."""
    return tuple(
        {**one, "spec": {**one["spec"], "traffic": only(serving[one["metadata"]["name"]])}}
        if template_of(one) is not None and one["metadata"]["name"] in serving
        else one
        for one in manifests
    )


def only(revision: str) -> list[Manifest]:
    return [{"revisionName": revision, "latestRevision": False, "percent": 100}]


def reasons(cluster: Kubectl, namespace: str) -> dict[str, tuple[str, str]]:
    """Service → a pod of its newest revision, and why that does not start. Services without such a pod are left out."""
    services = cluster.find(SERVICES, "--namespace", namespace)
    newest = {one.get("status", {}).get("latestCreatedRevisionName") for one in services}
    found: dict[str, tuple[str, str]] = {}
    for pod in cluster.find("pods", "--namespace", namespace, "--selector", SERVICE_LABEL):
        labels = pod["metadata"]["labels"]
        if labels[REVISION_LABEL] in newest and (told := reason_of(pod)):
            found[labels[SERVICE_LABEL]] = (str(pod["metadata"]["name"]), told)
    return found


def explained(cluster: Kubectl, namespace: str, states: Iterable[State]) -> list[State]:
    """The states, those of Services that do not start with the reason of their container."""
    found = list(states)
    if all(one.ready or one.kind != "Service" for one in found):
        return found
    why = {service: reason for service, (_, reason) in reasons(cluster, namespace).items()}
    return [
        replace(one, why=why[one.name], failed=True)
        if one.kind == "Service" and not one.ready and one.name in why
        else one
        for one in found
    ]


def last_lines(cluster: Kubectl, namespace: str) -> dict[str, str]:
    """Service → what the container that does not start wrote last. Those that wrote nothing are left out."""
    told = {service: last_line(cluster, pod, namespace) for service, (pod, _) in reasons(cluster, namespace).items()}
    return {service: line for service, line in told.items() if line}


def reason_of(pod: Object) -> str:
    """Of the function's container, while it waits or after it ended. Empty for one that runs."""
    for one in pod.get("status", {}).get("containerStatuses", ()):
        state, last = one.get("state", {}), one.get("lastState", {}).get("terminated")
        ended = state.get("terminated") or last
        if one["name"] != CONTAINER or not (ended or state.get("waiting")) or one.get("ready"):
            continue
        waiting = state.get("waiting", {})
        if not ended and waiting.get("reason") in USUAL:
            continue
        parts = [waiting.get("reason", ""), waiting.get("message", "") if not ended else ""]
        parts += [f"{ended.get('reason', 'ended')} with exit code {ended.get('exitCode')}"] if ended else []
        return ": ".join(part for part in parts if part)
    return ""


def last_line(cluster: Kubectl, pod: str, namespace: str) -> str:
    """What the container wrote last, before it was started again if it was. Empty when nothing can be had."""
    where = ("logs", pod, "--namespace", namespace, f"--container={CONTAINER}", "--tail=1")
    for more in (("--previous",), ()):
        try:
            line = cluster.run(*where, *more).strip()
            if line and not line.startswith(NO_LOG):
                return line[:LINE_CHARS_MAX]
        except Fault:
            continue
    return ""
