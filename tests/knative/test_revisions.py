"""Revisions of tenants' own functions as Services: what each is given, by what its function's types ask for."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any

import pytest

from knative import revisions, tenants
from knative.dedications import Cluster
from knative.environment import load
from knative.kubectl import Kubectl
from knative.placement import groups
from knative.policies import TENANT_SECRET
from shared.bundles.archive import packed
from shared.bundles.revisions import Kept
from shared.bundles.signing import Sealed, opened, sealed
from shared.cli.client import Client
from shared.cli.failures import Failed
from shared.cli.revisions import log_lines
from shared.cli.settling import Place
from shared.function import catalog
from shared.identity import Tokens
from shared.ids import TenantId
from tests.shared.bundles.rates import files, manifest

ACME = TenantId("acme")
SEED = os.urandom(32)
LOCAL = load("local")


def kept(*asks: str, revision: int = 3) -> Kept:
    made = sealed(packed(files()), manifest(asks=asks), tenant=ACME, revision=revision, seed=SEED)
    return Kept(ACME, "rates", revision, made, None)


def rendered(one: Kept) -> dict[str, Any]:  # Any: JSON
    everyone = groups(catalog.find(), LOCAL)
    made = tenants.render(ACME, [revisions.dedicated(one, LOCAL)], everyone, LOCAL)
    return {one["kind"]: one for one in made if one["metadata"]["name"] == "own-rates-3"}


def told(service: dict[str, Any]) -> dict[str, Any]:  # Any: JSON
    (container,) = service["spec"]["template"]["spec"]["containers"]
    return {one["name"]: one.get("value", one.get("valueFrom")) for one in container["env"]}


def ports_out(policy: dict[str, Any]) -> set[int]:  # Any: JSON
    return {port["port"] for rule in policy["spec"]["egress"] for port in rule.get("ports", ())}


def test_a_revision_is_a_service_that_knows_exactly_its_bundle() -> None:
    one = kept("Caller")
    service = rendered(one)["Service"]
    variables = told(service)
    assert variables["DCODER_BUNDLE_DIGEST"] == one.sealed.digest
    assert (variables["DCODER_FUNCTION"], variables["DCODER_TENANT"]) == ("own-rates", "acme")
    volumes = {one["name"]: one for one in service["spec"]["template"]["spec"]["volumes"]}
    assert volumes["bundle"]["configMap"]["name"] == "own-rates-3"
    assert [item["key"] for item in volumes["keys"]["secret"]["items"]] == ["issuer.key"]
    assert revisions.address_of(one, LOCAL) == "http://own-rates-3.dcoder--acme.svc.cluster.local"


def test_the_config_map_holds_what_the_process_verifies() -> None:
    one = kept("Caller")
    data = {name: base64.b64decode(text) for name, text in revisions.config_map(one, LOCAL)["binaryData"].items()}
    found = Sealed(data["bundle.zip"], data["statement.json"], data["signature"])
    assert opened(found, public=Tokens(SEED).public, tenant=ACME, digest=one.sealed.digest).files == files()


@pytest.mark.parametrize(
    ("asks", "database", "functions"),
    [
        ((), False, False),
        (("Caller", "Clock", "Cache", "Embeddings"), False, False),
        (("TenantDatabase",), True, False),
        (("TenantTransaction",), True, False),
        (("LanguageModel",), False, True),
    ],
    ids=lambda value: "-".join(value) if isinstance(value, tuple) else str(value),
)
def test_a_revision_is_given_what_it_asks_for_and_nothing_more(
    asks: tuple[str, ...], database: bool, functions: bool
) -> None:
    made = rendered(kept(*asks))
    variables = told(made["Service"])
    assert (variables["DCODER_POSTGRES_URL"] != "not-granted") == database
    assert (LOCAL.postgres.port in ports_out(made["NetworkPolicy"])) == database
    assert (variables["DCODER_LLM_URL"] != "not-granted") == functions
    never = ("DCODER_REDIS_URL", "DCODER_NATS_URL", "DCODER_OBJECTS_URL", "DCODER_OBJECTS_SECRET_KEY")
    assert {variables[name] for name in never} == {"not-granted"}


def test_a_revision_that_asks_for_objects_has_its_tenants_key_and_a_way_to_the_store() -> None:
    made = rendered(kept("TenantObjects"))
    variables = told(made["Service"])

    assert variables["DCODER_OBJECTS_URL"] == LOCAL.objects.url
    for name in ("access-key", "secret-key"):
        variable = f"DCODER_OBJECTS_{name.replace('-', '_').upper()}"
        assert variables[variable] == {"secretKeyRef": {"name": TENANT_SECRET, "key": f"objects-{name}"}}
    assert LOCAL.objects.port in ports_out(made["NetworkPolicy"])
    assert variables["DCODER_POSTGRES_URL"] == "not-granted"


def test_calls_go_to_a_revision_that_started_once() -> None:
    annotations = rendered(kept("Caller"))["Service"]["spec"]["template"]["metadata"]["annotations"]
    assert annotations["autoscaling.knative.dev/initial-scale"] == "1"
    assert annotations["autoscaling.knative.dev/min-scale"] == "0"


def cluster_with(tmp_path: Path, pods: str) -> Place:
    program = tmp_path / "kubectl"
    program.write_text(f"""#!/bin/sh
case "$*" in *" get pods "*) echo '{{"items": [{pods}]}}';; *) echo "$@"; echo last;; esac
""")
    program.chmod(0o755)
    return Place(Cluster(Kubectl(str(program)), LOCAL, {}), Client("http://127.0.0.1:1", ""), None)


def test_a_log_is_that_of_the_revisions_own_pods(tmp_path: Path) -> None:
    asked, last = log_lines(cluster_with(tmp_path, "{}"), "acme", "own-rates-3", lines=7, follow=False)
    of = "--namespace dcoder--acme --selector serving.knative.dev/service=own-rates-3 --container=function --tail=7"
    assert asked.endswith(f"logs {of}")
    assert last == "last"


def test_what_is_written_is_passed_on_as_it_comes(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert log_lines(cluster_with(tmp_path, "{}"), "acme", "own-rates-3", lines=7, follow=True) == []
    assert capfd.readouterr().out.endswith("--tail=7 --follow\nlast\n")


def test_a_revision_without_a_pod_has_no_log(tmp_path: Path) -> None:
    with pytest.raises(Failed, match="own-rates-3 has no pod"):
        log_lines(cluster_with(tmp_path, ""), "acme", "own-rates-3", lines=7, follow=False)
