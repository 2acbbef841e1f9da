"""Kong in front: the same routes as Kourier's, with the groups' limits, and Knative's own ingress behind it."""

from __future__ import annotations

from typing import Any, get_args

import pytest
import yaml

from knative import schemas
from knative.environment import Environment, Placement, load
from knative.manifest import KOURIER, Manifest
from knative.preflight import resource_of
from knative.readiness import has_condition
from knative.render import render
from shared.function.catalog import find

CATALOG = find()
KONG = load("kong")
RENDERED = render(CATALOG, KONG)


def of_kind(manifests: tuple[Manifest, ...], api: str, kind: str) -> dict[str, Manifest]:
    some = [one for one in manifests if one["apiVersion"].startswith(api) and one["kind"] == kind]
    return {one["metadata"]["name"]: one for one in some}


def without(environment: Environment, **fields: Any) -> Environment:  # Any: of any field
    return environment.model_copy(update=fields)


def kourier_paths(environment: Environment) -> dict[str, str]:
    (ingress,) = of_kind(render(CATALOG, environment), "networking.internal", "Ingress").values()
    (rule,) = [one for one in ingress["spec"]["rules"] if one["visibility"] == "ExternalIP"]
    return {one["path"]: one["rewriteHost"] for one in rule["http"]["paths"]}


def kong_paths(environment: Environment, host: str) -> dict[str, str]:
    rendered = render(CATALOG, environment)
    ingress = of_kind(rendered, "networking.k8s.io", "Ingress")["kong"]
    (rule,) = [one for one in ingress["spec"]["rules"] if one["host"] == host]
    upstreams = of_kind(rendered, "v1", "Service")
    found = {}
    for one in rule["http"]["paths"]:
        service = upstreams[one["backend"]["service"]["name"]]
        assert service["spec"]["externalName"] == KOURIER
        found[one["path"]] = service["metadata"]["annotations"]["konghq.com/host-header"]
    return found


@pytest.mark.parametrize("placement", ["alone", "capability"])
def test_every_path_leads_to_the_same_group_as_with_kourier(placement: str) -> None:
    kong = without(KONG, placement=placement)

    assert kong_paths(kong, f"platform.{kong.domain}") == kourier_paths(without(kong, routes="kourier"))


@pytest.mark.parametrize("placement", get_args(Placement))
def test_the_gateways_name_leads_to_its_group(placement: str) -> None:
    kong = without(KONG, placement=placement)

    (host,) = kong_paths(kong, f"llm.{kong.domain}").values()

    assert host.partition(".")[0] in {"gateway-llm", "gateway", "platform"}


def test_kourier_answers_inside_only() -> None:
    (origin,) = of_kind(RENDERED, "networking.internal", "Ingress").values()

    assert {one["visibility"] for one in origin["spec"]["rules"]} == {"ClusterLocal"}
    assert origin["spec"]["httpOption"] == "Enabled"
    assert not of_kind(RENDERED, "serving", "DomainMapping")
    assert not of_kind(RENDERED, "networking.internal", "ClusterDomainClaim")


def test_each_group_has_its_largest_body_and_its_timeout_at_kong_and_nothing_is_tried_twice() -> None:
    plugins = of_kind(RENDERED, "configuration.konghq.com", "KongPlugin")
    services = of_kind(RENDERED, "serving", "Service")

    for name, one in of_kind(RENDERED, "v1", "Service").items():
        if name.startswith("kong-"):
            notes = one["metadata"]["annotations"]
            seconds = services[name.removeprefix("kong-")]["spec"]["template"]["spec"]["timeoutSeconds"]
            assert (notes["konghq.com/read-timeout"], notes["konghq.com/retries"]) == (str(seconds * 1000), "0")
            assert notes["konghq.com/plugins"] in plugins
    largest = max(
        route.body_bytes_max or one.function.body_bytes_max
        for one in CATALOG
        if one.capability == "knowledge"
        for _, route in one.routes()
    )
    assert plugins["kong-knowledge"]["config"]["allowed_payload_size"] == largest


def test_a_certificate_covers_both_names_and_plain_http_is_sent_on() -> None:
    ingress = of_kind(RENDERED, "networking.k8s.io", "Ingress")["kong"]

    assert ingress["spec"]["tls"] == [
        {"hosts": ["platform.dcoder.example.com", "llm.dcoder.example.com"], "secretName": "dcoder-tls"}
    ]
    assert ingress["metadata"]["annotations"]["konghq.com/protocols"] == "https"


@pytest.mark.parametrize(
    ("kind", "spoil", "fault"),
    [
        ("Ingress", lambda one: one["spec"].update(ingressClas="kong"), ".spec.ingressClas: is unknown"),
        ("Ingress", lambda one: one["spec"]["rules"][0].update(host=1), ".spec.rules[0].host: 1 is not of type string"),
        ("KongPlugin", lambda one: one["config"].update(allowed_payload=1), ".config.allowed_payload: is unknown"),
        ("KongPlugin", lambda one: one.update(plugin="rate-limit"), ".plugin: 'rate-limit' is none of"),
    ],
)
def test_a_seeded_fault_of_each_kind_is_found(kind: str, spoil: Any, fault: str) -> None:  # Any: it spoils JSON
    found = next(one for one in RENDERED if one["kind"] == kind and "knative" not in one["apiVersion"])
    spoilt = yaml.safe_load(yaml.safe_dump(found))
    assert schemas.faults([spoilt]) == []

    spoil(spoilt)

    (told,) = schemas.faults([spoilt])
    assert fault in told


def test_kubernetes_own_ingress_has_no_condition_to_wait_for() -> None:
    kinds = {(one["apiVersion"], has_condition(one)) for one in RENDERED if one["kind"] == "Ingress"}

    assert kinds == {("networking.internal.knative.dev/v1alpha1", True), ("networking.k8s.io/v1", False)}
    assert ("configuration.konghq.com", "kongplugins") in {resource_of(one) for one in RENDERED}
