"""What is decided before and after kubectl is called. The calls themselves are tested on a cluster."""

from __future__ import annotations

import base64
import os
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from knative.environment import load, with_image
from knative.kubectl import documents
from knative.manifest import labels
from knative.policies import template_of
from knative.preflight import (
    KNATIVE,
    MIB,
    has_room,
    incomplete,
    old,
    resource_of,
    served_as,
    thousandths,
    unnamed_image,
)
from knative.readiness import state_of, wait_until_ready
from knative.releases import History, routed, split
from knative.render import render
from knative.schemas import faults
from knative.secrets import TLS_FILES
from knative.secrets import manifests as secret_manifests
from shared.errors import Fault
from shared.function.catalog import find
from tests.fixtures.certificates import certificate
from tests.fixtures.servers import write_key_files
from tests.fixtures.stack import Cli

LOCAL = load("local")
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)
STORES = {
    "DCODER_POSTGRES_URL": "postgresql://dcoder:pw@10.0.0.1/dcoder",
    "DCODER_REDIS_URL": "redis://:pw@10.0.0.1",
    "DCODER_OBJECTS_ACCESS_KEY": "access",
    "DCODER_OBJECTS_SECRET_KEY": "secret",
}


def found(ready: str, *more: dict[str, str], generation: int = 1, observed: int = 1) -> dict[str, Any]:
    conditions = [{"type": "Ready", "status": ready, "reason": "R", "message": "said"}, *more]
    return {
        "kind": "Service",
        "metadata": {"name": "knowledge", "generation": generation},
        "status": {"observedGeneration": observed, "conditions": conditions},
    }


def test_an_object_is_ready_only_when_its_controller_saw_its_newest_form() -> None:
    assert state_of(found("True")).ready
    assert not state_of(found("True", generation=2)).ready
    assert not state_of({"kind": "Trigger", "metadata": {"name": "x", "generation": 1}}).ready


def test_what_is_not_ready_names_the_condition_that_fails() -> None:
    failing = {"type": "ConfigurationsReady", "status": "False", "reason": "RevisionFailed", "message": "no such image"}

    assert state_of(found("False", failing)).why == "ConfigurationsReady RevisionFailed: no such image"
    assert state_of(found("Unknown")).why == "Ready R: said"


def test_waiting_ends_with_everything_that_is_not_ready() -> None:
    states = [state_of(found("True")), state_of(found("Unknown"))]

    with pytest.raises(Fault, match="not ready after 0 s: Service knowledge: Ready R: said"):
        wait_until_ready(lambda: states, timeout_s=0, report=lambda waiting: None)


def test_a_release_is_counted_only_when_a_revision_changed() -> None:
    first = History().after("a:1", {"one": "one-1", "two": "two-1"}, NOON)
    again = first.after("a:1", {"two": "two-1", "one": "one-1"}, NOON)
    second = first.after("a:2", {"one": "one-2", "two": "two-1"}, NOON)

    assert (first.current, again, second.current) == (1, first, 2)
    assert second.before().revisions == {"one": "one-1", "two": "two-1"}
    assert second.before(2).image == "a:2"


def test_only_the_last_releases_are_kept_and_an_unkept_one_is_refused() -> None:
    history = History()
    for number in range(15):
        history = history.after("a:1", {"one": f"one-{number}"}, NOON)

    assert [one.number for one in history.releases] == list(range(6, 16))
    with pytest.raises(Fault, match=r"there is no release 3\. Kept: 6, 7"):
        history.before(3)
    with pytest.raises(Fault, match=r"before the current one\. Kept: none"):
        History().before()


def test_a_canary_shares_the_traffic_with_the_release_that_serves_and_new_services_have_all_of_theirs() -> None:
    rendered = render(find(), LOCAL)

    shared = split(rendered, {"knowledge": "knowledge-00001"}, 10)

    traffic = {one["metadata"]["name"]: one["spec"]["traffic"] for one in shared if template_of(one) is not None}
    assert traffic["knowledge"] == [
        {"revisionName": "knowledge-00001", "latestRevision": False, "percent": 90},
        {"latestRevision": True, "percent": 10, "tag": "canary"},
    ]
    assert traffic["governance"] == [{"latestRevision": True, "percent": 100}]
    assert faults(shared) == []


def test_a_rollback_ends_a_canary_first_and_a_promotion_makes_it_the_release() -> None:
    first = History().after("a:1", {"one": "one-1"}, NOON).after("a:2", {"one": "one-2"}, NOON)
    canary = first.next("a:3", {"one": "one-3"}, NOON)
    out = replace(first, canary=canary, canary_percent=10)

    assert out.before().number == 2
    assert out.before(1).number == 1
    assert out.with_release(out.promotable()) == first.after("a:3", {"one": "one-3"}, NOON)
    assert out.after("a:2", {"one": "one-2"}, NOON) == first


def test_a_canary_that_is_not_ready_is_not_promoted_and_none_is_made_beside_nothing() -> None:
    serving = History().after("a:1", {"one": "one-1"}, NOON)

    with pytest.raises(Fault, match="the canary did not become ready"):
        replace(serving, canary=serving.next("a:2", {}, NOON)).promotable()
    with pytest.raises(Fault, match="there is no canary"):
        serving.promotable()
    with pytest.raises(Fault, match="nothing serves yet"):
        History().served()


def test_a_revision_serves_when_it_has_all_the_traffic() -> None:
    assert routed({"status": {"traffic": [{"revisionName": "a-1", "percent": 100}]}}) == "a-1"
    assert routed({"status": {"traffic": [{"revisionName": "a-1", "percent": 50}]}}) == ""
    assert routed({}) == ""


def test_an_old_cluster_and_the_examples_image_are_found() -> None:
    assert list(old({"major": "1", "minor": "33+", "gitVersion": "v1.33.1-gke"}))
    assert not list(old({"major": "1", "minor": "34", "gitVersion": "v1.34.4"}))
    assert list(unnamed_image(load("production")))
    assert not list(unnamed_image(with_image(load("production"), "registry.internal/dcoder:1")))


def test_a_cluster_without_knative_or_with_an_older_version_of_a_kind_is_found() -> None:
    resources, versions = "\n".join(KNATIVE), "\n".join({served_as(*one) for one in KNATIVE.items()})
    (none,) = incomplete("pods\nservices", "v1\napps/v1")
    assert all(name in none.what for name in KNATIVE)
    (some,) = incomplete(resources.replace("pingsources.sources.knative.dev", ""), versions)
    assert some.what == "Knative is not complete: no pingsources.sources.knative.dev"
    (older,) = incomplete(resources, versions.replace("serving.knative.dev/v1beta1", "serving.knative.dev/v1alpha1"))
    assert older.what == "Knative is not complete: no domainmappings.serving.knative.dev"
    assert not list(incomplete(resources, versions))


def node(**spec: Any) -> dict[str, Any]:  # Any: JSON of the cluster
    allocatable = {"cpu": "1500m", "memory": "2Gi", "pods": "3"}
    conditions = [{"type": "Ready", "status": spec.pop("ready", "True")}]
    return {
        "metadata": {"name": "n"}, "spec": spec, "status": {"allocatable": allocatable, "conditions": conditions}
    }  # fmt: skip


def pod(cpu: str = "0", memory: str = "0", *, on: str = "n", phase: str = "Running") -> dict[str, Any]:
    requests = {"cpu": cpu, "memory": memory}
    return {"spec": {"nodeName": on, "containers": [{"resources": {"requests": requests}}]}, "status": {"phase": phase}}


WANTED = {"cpu": 500, "memory": 512 * MIB * 1000}


def test_a_node_has_room_for_what_its_pods_leave() -> None:
    assert has_room(node(), [], WANTED)
    assert has_room(node(), [pod("1", "1536Mi")], WANTED)
    assert has_room(node(), [pod("1"), pod("1", on="other"), pod("1", phase="Succeeded")], WANTED)
    assert not has_room(node(), [pod("1001m")], WANTED)
    assert not has_room(node(), [pod(memory="1.6Gi")], WANTED)
    assert not has_room(node(), [pod(), pod(), pod()], WANTED)


@pytest.mark.parametrize(
    "spec",
    [{"unschedulable": True}, {"taints": [{"effect": "NoSchedule"}]}, {"ready": "False"}, {"ready": "Unknown"}],
    ids=str,
)
def test_a_node_that_takes_no_pod_has_no_room(spec: dict[str, Any]) -> None:
    assert not has_room(node(**spec), [], WANTED)


def test_quantities_are_read_as_kubernetes_writes_them() -> None:
    assert [thousandths(one) for one in ("2", "250m", "0.5", "1Ki", "1.5Gi", "3k")] == [
        2000, 250, 500, 1_024_000, 1_610_612_736_000, 3_000_000,
    ]  # fmt: skip


@pytest.mark.parametrize("image", ["", "latest", "x y:1", "a:1\nplacement: all", "UPPER:1"])
def test_what_is_no_image_is_refused(image: str) -> None:
    with pytest.raises(Fault, match="--image: image"):
        with_image(LOCAL, image)


def test_each_kind_that_is_rendered_has_a_resource_name_of_its_own() -> None:
    resources = {resource_of(one) for one in render(find(), LOCAL)}

    assert ("networking.internal.knative.dev", "ingresses") in resources
    assert ("networking.k8s.io", "networkpolicies") in resources
    assert ("", "services") in resources
    assert ("serving.knative.dev", "services") in resources


def test_secrets_hold_keys_and_addresses_and_bear_our_labels(tmp_path: Path) -> None:
    keys = write_key_files(tmp_path / "keys")

    made = {one["metadata"]["name"]: one for one in secret_manifests(LOCAL, keys, STORES)}

    assert base64.b64decode(made["dcoder-keys"]["data"]["root.key"]) == (keys / "root.key").read_bytes()
    assert base64.b64decode(made["dcoder-postgres"]["data"]["url"]).decode() == STORES["DCODER_POSTGRES_URL"]
    assert made["dcoder-objects"]["data"].keys() == {"access-key", "secret-key"}
    assert all(one["metadata"]["labels"] == labels(name) for name, one in made.items())


def test_a_certificate_is_a_secret_of_kubernetes_own_type_and_must_fit_its_key(tmp_path: Path) -> None:
    keys, secure = write_key_files(tmp_path / "keys"), LOCAL.model_copy(update={"tls_secret": "dcoder-tls"})
    files, others = certificate(tmp_path, ["platform.x"]), certificate(write_key_files(tmp_path / "more"), ["llm.x"])
    given = dict(zip(TLS_FILES, (str(files.chain), str(files.key)), strict=True))

    (made,) = [one for one in secret_manifests(secure, keys, {**STORES, **given}) if "tls" in one["metadata"]["name"]]

    assert (made["type"], made["data"].keys()) == ("kubernetes.io/tls", {"tls.crt", "tls.key"})
    assert not [one for one in secret_manifests(secure, keys, STORES) if "tls" in one["metadata"]["name"]]
    with pytest.raises(Fault, match="are no certificate and its key"):
        secret_manifests(secure, keys, {**STORES, **given, TLS_FILES[1]: str(others.key)})


@pytest.mark.parametrize("missing", STORES)
def test_a_missing_address_is_named(tmp_path: Path, missing: str) -> None:
    keys = write_key_files(tmp_path / "keys")

    with pytest.raises(Fault, match=f"{missing} is not set"):
        secret_manifests(LOCAL, keys, {**STORES, missing: ""})


def test_a_key_that_is_missing_or_short_is_named_without_its_content(tmp_path: Path) -> None:
    keys = write_key_files(tmp_path / "keys")
    (keys / "audit.key").write_bytes(b"hunter2")
    with pytest.raises(Fault, match=r"audit\.key holds 7 bytes") as told:
        secret_manifests(LOCAL, keys, STORES)
    assert "hunter2" not in str(told.value)
    (keys / "root.key").unlink()
    with pytest.raises(Fault, match=r"root\.key: No such file"):
        secret_manifests(LOCAL, keys, STORES)


def test_services_say_that_the_latest_revision_serves_so_that_applying_ends_a_rollback() -> None:
    for one in render(find(), LOCAL):
        if one["kind"] == "Service" and one["apiVersion"].startswith("serving"):
            assert one["spec"]["traffic"] == [{"latestRevision": True, "percent": 100}]
            assert faults([one]) == []


def test_kubectls_output_is_read_as_one_object_or_several() -> None:
    assert documents('{"a": 1}\n{"a": 2}\n') == [{"a": 1}, {"a": 2}]
    assert documents('{"kind": "List", "items": [{"a": 1}]}') == [{"a": 1}]
    assert documents(" \n") == []


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path / "home", {"KUBECONFIG": str(tmp_path / "absent")})


def test_without_kubectl_the_command_says_so_and_ends_with_3(cli: Cli, tmp_path: Path) -> None:
    without = Cli(cli.path, {**cli.environment, "PATH": str(tmp_path)})

    for arguments in (
        ("apply", "local"),
        ("status", "local"),
        ("promote", "local"),
        ("rollback", "local"),
        ("delete", "local", "--yes"),
    ):
        done = without.run("deploy", *arguments)
        assert (done.returncode, "kubectl is needed" in done.stderr) == (3, True), done.stderr


def test_nothing_is_deleted_without_yes(cli: Cli) -> None:
    done = cli.run("deploy", "delete", "local")

    assert done.returncode == 2
    assert "deletes namespace 'dcoder'" in done.stderr


@pytest.mark.skipif(shutil.which("kubectl") is None, reason="kubectl is not on the PATH")
def test_a_cluster_that_does_not_answer_is_found_before_anything_is_changed(cli: Cli, tmp_path: Path) -> None:
    config = tmp_path / "config"
    config.write_text(
        "apiVersion: v1\nkind: Config\ncurrent-context: x\n"
        "clusters: [{name: x, cluster: {server: 'https://127.0.0.1:9'}}]\n"
        "contexts: [{name: x, context: {cluster: x, user: x}}]\nusers: [{name: x, user: {}}]\n"
    )
    silent = Cli(cli.path, {**os.environ, "KUBECONFIG": str(config)})

    done = silent.run("deploy", "apply", "local")

    assert done.returncode == 3
    assert "the cluster does not answer" in done.stderr
    assert "nothing was changed" in done.stderr
