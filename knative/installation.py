"""Knative in a cluster that has none, and the Broker on JetStream: releases pinned by version and by checksum.

`terraform/modules/knative` holds both the pins and the program that checks and applies them.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass

from knative.jetstream import BROKER_NAMESPACE, INGRESS
from knative.kubectl import SAID_CHARS_MAX, Kubectl
from shared.errors import Fault
from shared.function.catalog import ROOT

MODULE = ROOT / "terraform" / "modules" / "knative"
SCRIPT, PINNED = MODULE / "knative.sh", MODULE / "pinned.json"
MIRROR = "https://github.com"
READY_S = 600
NAMESPACES = {"knative-serving": "serving", "kourier-system": "kourier", "knative-eventing": "eventing"}
"""Namespace → whose release its label tells."""
VERSION_LABEL = "app.kubernetes.io/version"


class Unpinned(Fault):
    """A release file without a checksum: it is not applied."""


@dataclass(frozen=True)
class Release:
    """Files of one origin: what `knative.sh` is told of them."""

    variables: Mapping[str, str]
    sha256: Mapping[str, str]

    @property
    def sums(self) -> str:
        return "\n".join(f"{sum_}  {name}" for name, sum_ in self.sha256.items())


def knative() -> Release:
    pinned = json.loads(PINNED.read_text())
    return Release({name.upper(): version for name, version in pinned["versions"].items()}, pinned["sha256"])


def jetstream() -> Release:
    """The Broker class `NatsJetStreamBroker`. Raises `Unpinned` where the file's checksum was not written down."""
    pinned = json.loads(PINNED.read_text())["jetstream"]
    release = Release({"JETSTREAM": pinned["version"]}, pinned["sha256"])
    if absent := [name for name, sum_ in release.sha256.items() if not sum_]:
        told = f"JETSTREAM={pinned['version']} {SCRIPT.relative_to(ROOT)} sums"
        raise Unpinned(
            f"no checksum of {', '.join(absent)} (eventing-natss {pinned['version']}) is pinned; look at the release's "
            f"file, compare what `{told}` prints, and write it into {PINNED.name} beside that program"
        )
    return release


def is_installed(cluster: Kubectl) -> bool:
    """Whether the pinned releases are there whole: the settings are what `knative.sh apply` ends with."""
    wanted = knative().variables
    labelled = {
        one["metadata"]["name"]: one["metadata"].get("labels", {}).get(VERSION_LABEL)
        for one in cluster.find("namespaces")
    }
    if any(labelled.get(name) != wanted[part.upper()] for name, part in NAMESPACES.items()):
        return False
    settings = cluster.one("configmap", "config-autoscaler", "knative-serving") or {}
    ended: bool = settings.get("data", {}).get("allow-zero-initial-scale") == "true"
    return ended


def has_jetstream(cluster: Kubectl) -> bool:
    return cluster.one("deployment", INGRESS, BROKER_NAMESPACE) is not None


def run(action: str, cluster: Kubectl, release: Release, mirror: str) -> str:
    """`knative.sh check`, which changes nothing, or `apply`. Raises `Fault` with what it complained about."""
    told = {
        **release.variables,
        "SUMS": release.sums,
        "MIRROR_URL": mirror,
        "CONTEXT": cluster.context,
        "READY_TIMEOUT_S": str(READY_S),
    }
    done = subprocess.run(  # noqa: S603  our own script
        [SCRIPT, action], env={**os.environ, **told}, capture_output=True, text=True, timeout=4 * READY_S, check=False
    )
    if done.returncode != 0:
        raise Fault(f"knative.sh {action}: {done.stderr.strip()[-SAID_CHARS_MAX:]}")
    return done.stdout
