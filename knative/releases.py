"""What was deployed and when: revisions of each Service, kept in a ConfigMap, so that a release can be taken back."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from knative.environment import Environment
from knative.kubectl import MANAGER, Kubectl, Object
from knative.manifest import SELECTOR, metadata
from shared.errors import Fault

RECORD = "dcoder-releases"
KEPT_MAX = 10
SERVICES = "services.serving.knative.dev"


@dataclass(frozen=True)
class Release:
    """One deployment that became ready."""

    number: int
    at: str
    image: str
    revisions: Mapping[str, str]
    """Service → the revision that serves it."""


@dataclass(frozen=True)
class History:
    """The last releases, oldest first, and the one that serves."""

    releases: tuple[Release, ...] = ()
    current: int = 0

    def after(self, image: str, revisions: Mapping[str, str], at: datetime) -> History:
        """With one more release, unless nothing differs from the current one."""
        serving = next((one for one in self.releases if one.number == self.current), None)
        if serving is not None and dict(serving.revisions) == dict(revisions):
            return self
        number = max((one.number for one in self.releases), default=0) + 1
        release = Release(number, at.isoformat(timespec="seconds"), image, revisions)
        return History((*self.releases, release)[-KEPT_MAX:], number)

    def before(self, number: int = 0) -> Release:
        """The named release, or the one before the current. Raises `Fault` when it is not kept."""
        if number:
            found = next((one for one in self.releases if one.number == number), None)
        else:
            found = next((one for one in reversed(self.releases) if one.number < self.current), None)
        if found is None:
            kept = ", ".join(str(one.number) for one in self.releases) or "none"
            raise Fault(f"there is no release {number or 'before the current one'}. Kept: {kept}")
        return found


def read(cluster: Kubectl, environment: Environment) -> History:
    found = cluster.one("configmap", RECORD, environment.namespace)
    if found is None:
        return History()
    document = json.loads(found["data"]["history"])
    return History(tuple(Release(**one) for one in document["releases"]), document["current"])


def write(cluster: Kubectl, environment: Environment, history: History) -> None:
    document = {"releases": [asdict(one) for one in history.releases], "current": history.current}
    record = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(RECORD, environment),
        "data": {"history": json.dumps(document)},
    }
    cluster.apply([record])


def ready_revisions(cluster: Kubectl, environment: Environment) -> dict[str, str]:
    found = cluster.find(SERVICES, "--namespace", environment.namespace, "--selector", SELECTOR)
    return {one["metadata"]["name"]: one["status"]["latestReadyRevisionName"] for one in found}


def route(cluster: Kubectl, environment: Environment, release: Release) -> list[str]:
    """Send the traffic of each Service to the release's revision; the Services that changed. No revision is made."""
    found = cluster.find(SERVICES, "--namespace", environment.namespace, "--selector", SELECTOR)
    serving = {one["metadata"]["name"]: routed(one) for one in found}
    moved = {name: revision for name, revision in release.revisions.items() if serving.get(name, revision) != revision}
    for name, revision in moved.items():
        patch = {"spec": {"traffic": [{"revisionName": revision, "latestRevision": False, "percent": 100}]}}
        cluster.run(
            "patch", SERVICES, name, "--namespace", environment.namespace, "--type=merge",
            f"--field-manager={MANAGER}", "--patch", json.dumps(patch),
        )  # fmt: skip
    return sorted(moved)


def routed(service: Object) -> str:
    """The one revision that has all the traffic; empty when none has."""
    whole = [one for one in service.get("status", {}).get("traffic", ()) if one.get("percent") == 100]
    return str(whole[0].get("revisionName", "")) if whole else ""
