"""Releases on a real cluster: tried out beside the one that serves, promoted, taken back; and new values of Secrets."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from secrets import token_hex

import pytest

from knative.kubectl import Kubectl
from knative.starting import INITIAL_SCALE, last_lines, reasons
from shared.cli.documents import list_documents
from tests.cluster.conftest import Deployed, wait_for
from tests.cluster.test_platform import from_a_pod

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
CALLS = 60
PERCENT = 20
"""A canary that gets none of the calls although it should: once in 650 000 runs."""
GROUP = "knowledge"


@pytest.fixture
def other(deployed: Deployed) -> Iterator[str]:
    """The same content under another tag; afterwards the usual image serves again."""
    yield deployed.image.rpartition(":")[0] + ":rollback"
    deployed.run("deploy", "apply", deployed.environment.name, "--image", deployed.image)


def call(deployed: Deployed, times: int) -> None:
    for _ in range(times):
        list_documents(deployed.platform(deployed.tenant_key))


def pods_by_revision(deployed: Deployed) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for pod in deployed.pods(GROUP):
        labels = pod["metadata"]["labels"]
        found.setdefault(labels["serving.knative.dev/revision"], set()).add(pod["metadata"]["name"])
    return found


def revisions(deployed: Deployed) -> set[str]:
    return set(deployed.kubectl("get", "revisions", "-o", "name").split())


def traffic(deployed: Deployed) -> list[dict[str, object]]:
    service = json.loads(deployed.kubectl("get", "services.serving.knative.dev", GROUP, "-o", "json"))
    found: list[dict[str, object]] = service["status"]["traffic"]
    return found


def test_a_canary_gets_its_share_and_a_rollback_finds_the_old_pods_warm(deployed: Deployed, other: str) -> None:
    name = deployed.environment.name
    call(deployed, 1)
    serving = deployed.run("deploy", "status", name)["release"]
    (old,) = [str(one["revisionName"]) for one in traffic(deployed)]

    out = deployed.run("deploy", "apply", name, "--image", other, "--canary", str(PERCENT))
    warm = pods_by_revision(deployed)[old]
    call(deployed, CALLS)

    assert (out["release"], out["canary"], out["canary_percent"]) == (serving, serving + 1, PERCENT)
    assert [one["percent"] for one in traffic(deployed)] == [100 - PERCENT, PERCENT]
    shared = {str(one["revisionName"]) for one in traffic(deployed)}
    assert len(shared) == 2
    assert shared <= pods_by_revision(deployed).keys(), "both revisions answered"
    made = revisions(deployed)

    back = deployed.run("deploy", "rollback", name)

    assert back["release"] == serving
    call(deployed, CALLS)
    assert [(one["revisionName"], one["percent"]) for one in traffic(deployed)] == [(old, 100)]
    assert pods_by_revision(deployed)[old] >= warm, "the warm pods serve on"
    assert revisions(deployed) == made
    assert deployed.run("deploy", "status", name)["canary"] == 0


def test_a_canary_without_a_share_is_reached_by_its_address_and_serves_all_when_promoted(
    deployed: Deployed, other: str
) -> None:
    name = deployed.environment.name
    out = deployed.run("deploy", "apply", name, "--image", other, "--canary", "0")
    address = f"http://canary-governance.{deployed.environment.namespace}.svc.cluster.local/v1/keys"
    forged = {"Authorization": "Bearer forged", "Content-Type": "application/json"}
    assert from_a_pod(deployed, GROUP, address, forged, "{}") == "401", "the function itself answers"
    made = revisions(deployed)

    promoted = deployed.run("deploy", "promote", name)

    assert promoted["release"] == out["canary"]
    assert deployed.run("deploy", "status", name)["release"] == out["canary"]
    assert revisions(deployed) == made
    call(deployed, 1)
    assert [one["percent"] for one in traffic(deployed)] == [100]


def test_a_release_whose_image_cannot_be_had_is_refused_and_all_calls_stay_where_they_are(deployed: Deployed) -> None:
    name, absent = deployed.environment.name, deployed.image.rpartition(":")[0] + ":absent"
    serving = deployed.run("deploy", "status", name)["release"]
    before = traffic_of_all(deployed)

    refused = deployed.cli.run("deploy", "apply", name, "--image", absent)

    try:
        assert refused.returncode == 1
        assert "ImagePull" in refused.stderr
        assert "calls go where they went before" in refused.stderr
        assert traffic_of_all(deployed) == before
        call(deployed, 1)
        status = json.loads(deployed.cli.run("deploy", "status", name, "--json").stdout)
        assert (status["ok"], status["release"]) == (False, serving)
    finally:
        deployed.run("deploy", "apply", name, "--image", deployed.image)
    call(deployed, 1)


def test_a_program_that_ends_is_told_with_its_exit_code_and_its_last_line(deployed: Deployed) -> None:
    namespace = deployed.environment.namespace
    found = json.loads(deployed.kubectl("get", "services.serving.knative.dev", GROUP, "-o", "json"))
    template = found["spec"]["template"]
    variables = template["spec"]["containers"][0]["env"]
    next(one for one in variables if one["name"] == "DCODER_FUNCTION")["value"] = "no-such"
    template["metadata"] = {"annotations": {INITIAL_SCALE: "1"}}
    service = {
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": "test-ends", "namespace": namespace},
        "spec": {"template": template},
    }
    kubectl = Kubectl("kubectl")
    deployed.kubectl("apply", "-f", "-", given=json.dumps(service))
    try:
        wait_for(lambda: "test-ends" in last_lines(kubectl, namespace), timeout_s=60, what="a last line")
        assert "exit code 1" in reasons(kubectl, namespace)["test-ends"][1]
        assert "no-such" in last_lines(kubectl, namespace)["test-ends"]
    finally:
        deployed.kubectl("delete", "services.serving.knative.dev", "test-ends")


def traffic_of_all(deployed: Deployed) -> dict[str, list[tuple[str, int]]]:
    found = json.loads(deployed.kubectl("get", "services.serving.knative.dev", "-o", "json"))["items"]
    return {
        one["metadata"]["name"]: [(part["revisionName"], part["percent"]) for part in one["status"]["traffic"]]
        for one in found
    }


def test_changed_values_of_a_secret_reach_every_group_that_reads_them(deployed: Deployed) -> None:
    name = deployed.environment.name
    told = deployed.cli.home.read("host.json")["environment"]
    assert isinstance(told, dict)
    changed = {"DCODER_REDIS_URL": f"{told['DCODER_REDIS_URL']}?client_name=c{token_hex(4)}"}
    place = replace(deployed, cli=replace(deployed.cli, environment=changed))
    arguments = ("deploy", "apply", name, "--image", deployed.image)
    assert not {one for one in os.environ if one.startswith("DCODER_REDIS")}
    before = revisions(deployed)

    place.run(*arguments, "--secrets")
    after = revisions(deployed)

    assert len(after - before) == len(services(deployed))
    deployed.run(*arguments)
    assert revisions(deployed) == after, "the same values make no revision"
    assert list_documents(deployed.platform(deployed.tenant_key))


def services(deployed: Deployed) -> list[dict[str, object]]:
    """Those that read the address of Redis."""
    found = json.loads(deployed.kubectl("get", "services.serving.knative.dev", "-o", "json"))["items"]
    return [one for one in found if deployed.environment.redis.secret in json.dumps(one["spec"])]
