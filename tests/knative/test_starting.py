"""A new revision has to start once before calls go to it, and what keeps it from starting is said."""

from __future__ import annotations

from typing import Any

import pytest

from knative.environment import load
from knative.policies import template_of
from knative.readiness import FAILING_S, NotReady, State, state_of, wait_until_ready
from knative.render import render
from knative.schemas import faults
from knative.starting import INITIAL_SCALE, once, pinned, reason_of
from shared.function.catalog import find

RENDERED = render(find(), load("local"))


def test_what_is_sent_asks_for_one_instance_and_what_is_rendered_for_none() -> None:
    scales = [
        {one["spec"]["template"]["metadata"]["annotations"][INITIAL_SCALE] for one in some if template_of(one)}
        for some in (RENDERED, once(RENDERED))
    ]

    assert scales == [{"0"}, {"1"}]
    assert faults(once(RENDERED)) == []


def test_calls_stay_where_they_are_while_new_revisions_start_and_a_new_service_has_its_own() -> None:
    held = pinned(RENDERED, {"knowledge": "knowledge-00001"})

    traffic = {one["metadata"]["name"]: one["spec"]["traffic"] for one in held if template_of(one) is not None}
    assert traffic["knowledge"] == [{"revisionName": "knowledge-00001", "latestRevision": False, "percent": 100}]
    assert traffic["governance"] == [{"latestRevision": True, "percent": 100}]
    assert faults(held) == []


def pod(state: dict[str, Any], last: dict[str, Any] | None = None) -> dict[str, Any]:  # Any: JSON of the cluster
    proxy = {"name": "queue-proxy", "state": {"waiting": {"reason": "ContainerCreating"}}}
    own = {"name": "function", "state": state, "lastState": {"terminated": last} if last else {}}
    return {"status": {"containerStatuses": [proxy, own]}}


@pytest.mark.parametrize(
    ("found", "told"),
    [
        (pod({"waiting": {"reason": "ErrImagePull", "message": "not found"}}), "ErrImagePull: not found"),
        (
            pod(
                {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 10s"}},
                {"reason": "Error", "exitCode": 3},
            ),
            "CrashLoopBackOff: Error with exit code 3",
        ),
        (pod({"terminated": {"reason": "OOMKilled", "exitCode": 137}}), "OOMKilled with exit code 137"),
        (pod({"running": {}}), ""),
        (pod({"waiting": {"reason": "ContainerCreating"}}), ""),
        ({"status": {}}, ""),
    ],
)
def test_the_functions_container_says_why_it_does_not_run(found: dict[str, Any], told: str) -> None:
    assert reason_of(found) == told


def test_a_revision_that_does_not_start_is_not_waited_for_until_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    condition = {"type": "ConfigurationsReady", "status": "False", "reason": "RevisionFailed", "message": "gone"}
    found = {"kind": "Service", "metadata": {"name": "knowledge"}, "status": {"conditions": [condition]}}
    ready = {"type": "Ready", "status": "False"}
    failed = state_of({**found, "status": {"conditions": [condition, ready]}})
    passed = iter(range(0, 1000, 5))
    monkeypatch.setattr("knative.readiness.time.monotonic", lambda: float(next(passed)))
    monkeypatch.setattr("knative.readiness.time.sleep", lambda seconds: None)

    with pytest.raises(NotReady) as late:
        wait_until_ready(lambda: [failed], timeout_s=600, report=lambda waiting: None)

    assert late.value.waiting == [State("Service", "knowledge", False, failed.why, failed=True)]
    assert next(passed) < FAILING_S + 30
