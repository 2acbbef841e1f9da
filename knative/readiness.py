"""Whether what was applied works: the Ready condition of each object, and why one is not."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from knative.environment import Environment
from knative.kubectl import Kubectl, Object
from knative.manifest import SELECTOR, Manifest
from knative.preflight import resource_of
from shared.errors import Fault

CONDITIONED = frozenset({"Broker", "Deployment", "DomainMapping", "PingSource", "StatefulSet", "Trigger"})
OF_KNATIVE = frozenset({"Service", "Ingress"})
"""Kinds that Kubernetes has too, where they have no such condition."""
POLL_S = 2.0
FAILING_S = 45.0
"""How long a Service may say that its revision does not start. A database that is away for a moment is no reason."""


class NotReady(Fault):
    """What was applied does not become ready."""

    def __init__(self, detail: str, waiting: list[State]) -> None:
        super().__init__(detail)
        self.waiting = waiting


@dataclass(frozen=True)
class State:
    """One object: ready, or the condition that fails and what it says."""

    kind: str
    name: str
    ready: bool
    why: str = ""
    failed: bool = False
    """Its revision was tried, and did not start."""

    def text(self) -> str:
        return f"{self.kind} {self.name}: {'ready' if self.ready else self.why}"


def has_condition(manifest: Manifest) -> bool:
    ours = "knative.dev/" in str(manifest["apiVersion"])
    return manifest["kind"] in CONDITIONED or (ours and manifest["kind"] in OF_KNATIVE)


def state_of(found: Object) -> State:
    kind, name, status = found["kind"], found["metadata"]["name"], found.get("status", {})
    if status.get("observedGeneration", 0) < found["metadata"].get("generation", 0):
        return State(kind, name, False, "its controller has not looked at it yet")
    if kind == "Deployment":
        wanted = found["spec"].get("replicas", 1)
        up = status.get("updatedReplicas", 0) >= wanted and status.get("availableReplicas", 0) >= wanted
        return State(kind, name, up, "" if up else "its pods are not ready yet; kubectl describe pods says why")
    if kind == "StatefulSet":
        up = status.get("updatedReplicas", 0) == status.get("readyReplicas", 0) == found["spec"]["replicas"]
        return State(kind, name, up, "" if up else "its pod is not ready yet; kubectl describe pod says why")
    conditions = {one["type"]: one for one in status.get("conditions", ())}
    ready = conditions.get("Ready")
    if ready is None:
        return State(kind, name, False, "it has no Ready condition yet")
    if ready["status"] == "True":
        return State(kind, name, True)
    # The condition that fails is more to the point than Ready, which repeats one of them.
    failing = next((one for type_, one in conditions.items() if type_ != "Ready" and one["status"] == "False"), ready)
    failed = failing.get("reason") == "RevisionFailed"
    told = f"{failing['type']} {failing.get('reason', '')}: {failing.get('message', '')}"
    return State(kind, name, False, told, failed)


def states(
    cluster: Kubectl, environment: Environment, manifests: Iterable[Manifest], *, selector: str = SELECTOR
) -> list[State]:
    """The state of every object of these that has one, absent ones included."""
    wanted = [one for one in manifests if has_condition(one)]
    kinds = sorted({".".join(filter(None, reversed(resource_of(one)))) for one in wanted})
    if not kinds:
        return []
    found: Mapping[tuple[str, str], Object] = {
        (one["kind"], one["metadata"]["name"]): one
        for one in cluster.find(",".join(kinds), "--namespace", environment.namespace, "--selector", selector)
    }
    keys = [(one["kind"], one["metadata"]["name"]) for one in wanted]
    return [state_of(found[key]) if key in found else State(*key, ready=False, why="absent") for key in keys]


def wait_until_ready(
    look: Callable[[], list[State]], *, timeout_s: float, report: Callable[[list[State]], None]
) -> None:
    """Look until everything is ready. Raises `Fault` naming each object that is not, with its failing condition.

    A revision that does not start is not waited for longer than `FAILING_S`.
    """
    began = time.monotonic()
    sound = began
    while True:
        waiting = [one for one in look() if not one.ready]
        now = time.monotonic()
        if not waiting:
            return
        sound = sound if any(one.failed for one in waiting) else now
        if now - began > timeout_s or now - sound > FAILING_S:
            raise NotReady(f"not ready after {now - began:.0f} s: {'; '.join(one.text() for one in waiting)}", waiting)
        report(waiting)
        time.sleep(POLL_S)
