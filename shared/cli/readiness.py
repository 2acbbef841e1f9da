"""Waiting until a deployment is ready, and saying for what."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from shared.cli.output import say

if TYPE_CHECKING:
    from knative.environment import Environment
    from knative.kubectl import Kubectl
    from knative.manifest import Manifest
    from knative.readiness import State


def wait(cluster: Kubectl, environment: Environment, manifests: Sequence[Manifest], wait_s: int) -> None:
    from knative.readiness import states, wait_until_ready

    wait_until_ready(lambda: states(cluster, environment, manifests), timeout_s=wait_s, report=say_waiting())


def say_waiting() -> Callable[[list[State]], None]:
    """Tells, once each, what is waited for."""
    told: set[str] = set()

    def report(waiting: list[State]) -> None:
        for one in waiting:
            if one.text() not in told:
                told.add(one.text())
                say(f"waiting for {one.text()}")

    return report
