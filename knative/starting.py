"""That a new revision starts is seen before calls go to it, and why one does not.

Rendered, a revision starts at zero, so Knative calls it ready although its image may be missing or its program may end.
What `deploy apply` sends asks for one instance, once: the revision is ready when that one was.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from knative.kubectl import Kubectl, Object
from knative.manifest import Manifest
from knative.policies import template_of
from shared.errors import Fault

INITIAL_SCALE = "autoscaling.knative.dev/initial-scale"
CONTAINER = "function"
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


def reason(cluster: Kubectl, service: str, namespace: str) -> str:
    """Why the newest pod of a Service does not start: its container's reason and last line. Empty when it says none."""
    selector = f"serving.knative.dev/service={service}"
    pods = cluster.find("pods", "--namespace", namespace, "--selector", selector)
    for pod in sorted(pods, key=lambda one: str(one["metadata"]["creationTimestamp"]), reverse=True):
        if told := reason_of(pod):
            line = last_line(cluster, pod["metadata"]["name"], namespace)
            return f"{told}; its last line: {line}" if line else told
    return ""


def reason_of(pod: Object) -> str:
    """Of the function's container, while it waits or after it ended. Empty for one that runs."""
    for one in pod.get("status", {}).get("containerStatuses", ()):
        state, last = one.get("state", {}), one.get("lastState", {}).get("terminated")
        ended = state.get("terminated") or last
        if one["name"] != CONTAINER or not (ended or state.get("waiting")) or one.get("ready"):
            continue
        waiting = state.get("waiting", {})
        parts = [waiting.get("reason", ""), waiting.get("message", "") if not ended else ""]
        parts += [f"{ended.get('reason', 'ended')} with exit code {ended.get('exitCode')}"] if ended else []
        return ": ".join(part for part in parts if part)
    return ""


def last_line(cluster: Kubectl, pod: str, namespace: str) -> str:
    """What the container wrote last, before it was started again if it was. Empty when nothing can be had."""
    where = ("logs", pod, "--namespace", namespace, f"--container={CONTAINER}", "--tail=1")
    for more in (("--previous",), ()):
        try:
            if line := cluster.run(*where, *more).strip():
                return line[-LINE_CHARS_MAX:]
        except Fault:
            continue
    return ""
