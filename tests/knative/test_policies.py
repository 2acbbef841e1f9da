"""Schemas and policies hold for what is rendered, and each catches a seeded violation."""

from __future__ import annotations

from collections.abc import Callable
from copy import deepcopy
from typing import Any

import pytest

from knative import policies, schemas
from knative.environment import load
from knative.render import render
from shared.function.catalog import find

RENDERED = render(find(), load("local"))
Seed = Callable[[dict[str, Any]], object]  # Any: a manifest to spoil


def one_of(kind: str, api: str) -> dict[str, Any]:  # Any: a manifest to spoil
    return deepcopy(next(dict(one) for one in RENDERED if one["kind"] == kind and one["apiVersion"].startswith(api)))


def template(service: dict[str, Any]) -> dict[str, Any]:  # Any: a manifest to spoil
    found: dict[str, Any] = service["spec"]["template"]  # Any: a manifest to spoil
    return found


def container(service: dict[str, Any]) -> dict[str, Any]:  # Any: a manifest to spoil
    found: dict[str, Any] = template(service)["spec"]["containers"][0]  # Any: a manifest to spoil
    return found


def dedicate(service: dict[str, Any]) -> None:  # Any: a manifest to spoil
    """A tenant's in all but the platform's Secrets, which it still names."""
    template(service)["metadata"]["labels"]["dcoder.dev/tenant"] = "acme"
    container(service)["env"].append({"name": "DCODER_TENANT", "value": "acme"})


SEEDS: dict[str, Seed] = {
    "image is pinned": lambda one: container(one).update(image="registry.example.com:5000/dcoder"),
    "limits are set": lambda one: container(one)["resources"].pop("limits"),
    "runs as non-root": lambda one: container(one)["securityContext"].update(runAsNonRoot=False),
    "root file system is read-only": lambda one: container(one)["securityContext"].pop("readOnlyRootFilesystem"),
    "no privilege escalation": lambda one: container(one)["securityContext"].update(allowPrivilegeEscalation=True),
    "drops all capabilities": lambda one: container(one)["securityContext"].update(capabilities={"drop": []}),
    "seccomp is the runtime's": lambda one: container(one)["securityContext"].pop("seccompProfile"),
    "min-scale has a reason": lambda one: template(one)["metadata"].update(
        annotations={"autoscaling.knative.dev/min-scale": "1"}
    ),
    "tenant is labelled": lambda one: container(one)["env"].append({"name": "DCODER_TENANT", "value": "acme"}),
    "dedicated holds its own": lambda one: dedicate(one),
    "mounts no token": lambda one: template(one)["spec"].pop("automountServiceAccountToken"),
}


@pytest.mark.parametrize("rule", policies.RULES)
def test_each_policy_catches_a_seeded_violation(rule: str) -> None:
    service = one_of("Service", "serving")
    assert policies.violations([service]) == []

    SEEDS[rule](service)

    assert policies.violations([service]) == [f"Service {service['metadata']['name']}: {rule}"]


def test_the_tag_latest_is_not_pinned() -> None:
    service = one_of("Service", "serving")
    container(service)["image"] = "dev.local/dcoder:latest"

    assert "image is pinned" in policies.violations([service])[0]


@pytest.mark.parametrize("kind", sorted({(one["kind"], one["apiVersion"]) for one in RENDERED}))
def test_each_kind_refuses_an_unknown_key_and_a_wrong_type(kind: tuple[str, str]) -> None:
    manifest = one_of(*kind)
    assert schemas.faults([manifest]) == []

    unknown = {**manifest, "replica": 1}
    wrong = {**manifest, "metadata": {**manifest["metadata"], "labels": {"a": 1}}}

    assert [fault.partition(": ")[2] for fault in schemas.faults([unknown])] == [".replica: is unknown"]
    assert "is not of type string" in schemas.faults([wrong])[0]


def test_an_unknown_key_deep_inside_is_found() -> None:
    service = one_of("Service", "serving")
    container(service)["readinessProbe"]["periodMilliseconds"] = 50

    (fault,) = schemas.faults([service])

    assert fault.endswith("readinessProbe.periodMilliseconds: is unknown")


def test_a_kind_without_a_schema_is_refused() -> None:
    assert schemas.faults([{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}}]) == [
        "Pod a: no schema for v1"
    ]
