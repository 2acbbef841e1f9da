"""What was deployed and when: revisions of each Service, kept in a ConfigMap, so that a release can be taken back."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from datetime import datetime

from knative.environment import Environment
from knative.kubectl import MANAGER, Kubectl, Object
from knative.manifest import SELECTOR, Manifest, metadata
from knative.policies import template_of
from shared.errors import Fault

RECORD = "dcoder-releases"
KEPT_MAX = 10
CANARY = "canary"
"""The tag of its revisions, which gives each an address of its own: `canary-<service>`."""
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
    """The last releases, oldest first, the one that serves, and the one that is tried out beside it."""

    releases: tuple[Release, ...] = ()
    current: int = 0
    canary: Release | None = None
    canary_percent: int = 0

    def after(self, image: str, revisions: Mapping[str, str], at: datetime) -> History:
        """With one more release, unless nothing differs from the current one. A canary ends by it."""
        if self.current and dict(self.served().revisions) == dict(revisions):
            return History(self.releases, self.current)
        return self.with_release(self.next(image, revisions, at))

    def next(self, image: str, revisions: Mapping[str, str], at: datetime) -> Release:
        number = max((one.number for one in self.releases), default=0) + 1
        return Release(number, at.isoformat(timespec="seconds"), image, revisions)

    def with_release(self, release: Release) -> History:
        return History((*self.releases, release)[-KEPT_MAX:], release.number)

    def served(self) -> Release:
        """The current release. Raises `Fault` when there is none."""
        found = next((one for one in self.releases if one.number == self.current), None)
        if found is None:
            raise Fault("nothing serves yet, so a canary would have nothing beside it; apply without --canary first")
        return found

    def promotable(self) -> Release:
        """The canary. Raises `Fault` when there is none that became ready."""
        if self.canary is None:
            raise Fault("there is no canary; `deploy apply --canary PERCENT` makes one")
        if not self.canary.revisions:
            raise Fault("the canary did not become ready; apply it again, or `deploy rollback`")
        return self.canary

    def before(self, number: int = 0) -> Release:
        """The named release; else the current one while a canary is out, and the one before it otherwise.

        Raises `Fault` when it is not kept.
        """
        if not number and self.canary is not None:
            number = self.current
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
    canary = document.get("canary")
    kept = tuple(Release(**one) for one in document["releases"])
    return History(kept, document["current"], Release(**canary) if canary else None, document.get("canary_percent", 0))


def write(cluster: Kubectl, environment: Environment, history: History) -> None:
    document = asdict(history)
    record = {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": metadata(RECORD, environment),
        "data": {"history": json.dumps(document)},
    }
    cluster.apply([record])


def split(manifests: Iterable[Manifest], serving: Mapping[str, str], percent: int) -> tuple[Manifest, ...]:
    """The manifests with `percent` of each Service's calls for its newest revision, the rest for the one that serves.

    A Service that does not serve yet has nothing to share.
    """
    return tuple(
        {**one, "spec": {**one["spec"], "traffic": shares(serving[one["metadata"]["name"]], percent)}}
        if template_of(one) is not None and one["metadata"]["name"] in serving
        else one
        for one in manifests
    )


def shares(revision: str, percent: int) -> list[Manifest]:
    return [
        {"revisionName": revision, "latestRevision": False, "percent": 100 - percent},
        {"latestRevision": True, "percent": percent, "tag": CANARY},
    ]


def ready_revisions(cluster: Kubectl, environment: Environment) -> dict[str, str]:
    found = cluster.find(SERVICES, "--namespace", environment.namespace, "--selector", SELECTOR)
    return {one["metadata"]["name"]: one["status"]["latestReadyRevisionName"] for one in found}


def serving(cluster: Kubectl, environment: Environment, history: History) -> dict[str, str]:
    """Service → the revision that has its calls; while a canary shares them, the one that the release says."""
    found = cluster.find(SERVICES, "--namespace", environment.namespace, "--selector", SELECTOR)
    released = history.served().revisions if history.current else {}
    names = {one["metadata"]["name"]: routed(one) for one in found}
    return {
        name: revision or released.get(name, "") for name, revision in names.items() if revision or name in released
    }


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
