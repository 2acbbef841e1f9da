"""A tenant's own namespace: bounded, apart, and without anything of the platform or of another tenant."""

from __future__ import annotations

import base64
from dataclasses import replace
from typing import Any

import pytest

from knative.environment import Listener, load, parse
from knative.manifest import PLATFORM_LABEL, POOLED, SELECTOR, Manifest
from knative.network import manifests
from knative.placement import groups
from knative.policies import TENANT_SECRET, secrets_of
from knative.render import text
from knative.tenants import (
    Dedicated,
    connections_max,
    dedicated,
    namespace_of,
    origin_of,
    render,
    secret,
)
from shared.errors import Fault
from shared.function.catalog import find
from shared.function.dedication import NEVER_GRANTED
from shared.function.injection import GRANTS, TENANT_GRANTS, of_no_one_tenant
from shared.ids import TenantId
from shared.objects import ObjectKey
from shared.tenancy.dedications import Credentials
from shared.tenancy.saga import ROLE_CONNECTIONS_MAX

LOCAL = load("local").model_copy(update={"translate_image": "dev.local/dcoder-translate:0.1.0"})
CATALOG = {one.name: one for one in find()}
EVERYONE = groups(CATALOG.values(), LOCAL)
ACME = TenantId("acme")
DEDICABLE = [name for name, one in CATALOG.items() if not of_no_one_tenant(one.function)]
SEARCH, ANSWERS, DOCUMENTS = (
    dedicated(CATALOG[name], LOCAL) for name in ("knowledge-search", "knowledge-answers", "knowledge-documents")
)


def rendered(*functions: Dedicated, tenant: TenantId = ACME) -> tuple[Manifest, ...]:
    return render(tenant, functions, EVERYONE, LOCAL)


def one_of(manifests: tuple[Manifest, ...], kind: str, name: str) -> Manifest:
    found = [one for one in manifests if one["kind"] == kind and one["metadata"]["name"] == name]
    assert len(found) == 1
    return found[0]


def variables(service: Manifest) -> dict[str, Any]:
    return {one["name"]: one for one in service["spec"]["template"]["spec"]["containers"][0]["env"]}


def test_where_the_database_is_a_pod_its_functions_reach_it_in_the_platforms_namespace() -> None:
    pods = load("pods")
    policies = {
        one["metadata"]["name"]: one["spec"]
        for one in render(ACME, [SEARCH], groups(CATALOG.values(), pods), pods)
        if one["kind"] == "NetworkPolicy"
    }

    assert {
        "to": [
            {
                "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": pods.namespace}},
                "podSelector": {"matchLabels": {"app.kubernetes.io/name": "postgres"}},
            }
        ],
        "ports": [{"protocol": "TCP", "port": pods.postgres.port}],
    } in policies["knowledge-search"]["egress"]


def test_a_tenant_has_a_bounded_namespace_and_a_service_for_each_of_its_functions() -> None:
    made = rendered(SEARCH, ANSWERS)

    assert [one["kind"] for one in made] == [
        "Namespace", "ResourceQuota", "LimitRange", "NetworkPolicy",
        *("NetworkPolicy", "ServiceAccount", "Service") * 2,
    ]  # fmt: skip
    assert made[0]["metadata"]["name"] == "dcoder--acme"
    assert {one["metadata"]["namespace"] for one in made[1:]} == {"dcoder--acme"}


def test_every_object_says_whose_it_is_so_that_the_platforms_pruning_never_finds_it() -> None:
    for one in rendered(SEARCH):
        labels = one["metadata"]["labels"]
        assert (labels["dcoder.dev/tenant"], labels[PLATFORM_LABEL]) == ("acme", "dcoder")
        assert f"dcoder.dev/tenant={POOLED}" in SELECTOR


@pytest.mark.parametrize("name", DEDICABLE)
def test_a_dedicated_function_names_its_tenants_secret_and_no_address_of_the_platforms_stores(name: str) -> None:
    service = one_of(rendered(dedicated(CATALOG[name], LOCAL)), "Service", name)

    assert secrets_of(service["spec"]["template"]["spec"]) == {TENANT_SECRET}
    told = variables(service)
    assert told["DCODER_TENANT"]["value"] == "acme"
    assert {told[one]["value"] for one in NEVER_GRANTED} == {"not-granted"}
    assert told["DCODER_POSTGRES_URL"]["valueFrom"]["secretKeyRef"]["key"] == "database-url"
    for platforms in (LOCAL.postgres.secret, LOCAL.redis.secret, LOCAL.objects.secret, LOCAL.keys_secret):
        assert platforms not in text(service)


def egress(made: tuple[Manifest, ...], name: str) -> list[Any]:  # Any: see Manifest
    rules: list[Any] = one_of(made, "NetworkPolicy", name)["spec"]["egress"]
    return rules


def test_who_asks_for_objects_gets_its_tenants_key_from_its_tenants_secret_and_a_way_to_the_store() -> None:
    made = rendered(DOCUMENTS, SEARCH)

    told = variables(one_of(made, "Service", "knowledge-documents"))
    assert told["DCODER_OBJECTS_URL"]["value"] == LOCAL.objects.url
    for name, key in (("ACCESS", "objects-access-key"), ("SECRET", "objects-secret-key")):
        wanted = {"name": TENANT_SECRET, "key": key}
        assert told[f"DCODER_OBJECTS_{name}_KEY"]["valueFrom"] == {"secretKeyRef": wanted}
    assert "DCODER_OBJECTS_KEYS" not in told, "it makes no keys"
    there = {"to": [{"ipBlock": {"cidr": LOCAL.objects.cidr}}], "ports": [{"protocol": "TCP", "port": 8333}]}
    assert there in egress(made, "knowledge-documents")
    plain = variables(one_of(made, "Service", "knowledge-search"))
    for name in ("URL", "ACCESS_KEY", "SECRET_KEY"):
        assert plain[f"DCODER_OBJECTS_{name}"] == {"name": f"DCODER_OBJECTS_{name}", "value": "not-granted"}
    assert there not in egress(made, "knowledge-search")


def test_where_the_store_is_a_pod_its_functions_reach_it_in_the_platforms_namespace() -> None:
    pods = load("pods")
    made = render(ACME, [DOCUMENTS], groups(CATALOG.values(), pods), pods)

    platform = {"matchLabels": {"kubernetes.io/metadata.name": pods.namespace}}
    store = {"matchLabels": {"app.kubernetes.io/name": "objects"}}
    there = [{"namespaceSelector": platform, "podSelector": store}]
    ports = [{"protocol": "TCP", "port": pods.objects.port}]
    assert {"to": there, "ports": ports} in egress(made, "knowledge-documents")


def test_where_keys_are_made_elsewhere_the_platform_reaches_that_and_no_tenants_function_does() -> None:
    there = Listener(cidr="192.0.2.7/32", port=443)
    objects = LOCAL.objects.model_copy(update={"keys": "https://iam.amazonaws.com", "keys_at": there})
    place = LOCAL.model_copy(update={"objects": objects})
    everyone = groups(CATALOG.values(), place)

    rule = {"to": [{"ipBlock": {"cidr": there.cidr}}], "ports": [{"protocol": "TCP", "port": 443}]}
    reached = {one["metadata"]["name"] for one in manifests(everyone, place) if rule in one["spec"].get("egress", ())}
    assert "governance" in reached
    assert rule not in egress(render(ACME, [DOCUMENTS], everyone, place), "knowledge-documents")


def keys(service: Manifest) -> list[str]:
    return [one["path"] for one in service["spec"]["template"]["spec"]["volumes"][0]["secret"]["items"]]


def test_a_function_gets_the_keys_that_its_types_take_and_no_other() -> None:
    secrets = dedicated(CATALOG["governance-secrets"], LOCAL)
    made = rendered(SEARCH, secrets)

    assert keys(one_of(made, "Service", "knowledge-search")) == ["issuer.key"]
    assert keys(one_of(made, "Service", "governance-secrets")) == ["data.key", "issuer.key"]


def test_only_who_calls_functions_is_let_out_to_the_ingress_and_told_where_they_are() -> None:
    made = rendered(SEARCH, ANSWERS)
    policies = [str(one_of(made, "NetworkPolicy", name)["spec"]["egress"]) for name in (SEARCH.name, ANSWERS.name)]
    told = [variables(one_of(made, "Service", name))["DCODER_LLM_URL"] for name in (SEARCH.name, ANSWERS.name)]

    assert ["kourier-system" in one for one in policies] == [False, True]
    assert [one["value"] for one in told] == ["not-granted", "http://gateway.dcoder.svc.cluster.local"]
    for one in policies:
        assert f"{LOCAL.redis.port}" not in one
        assert f"{LOCAL.objects.port}" not in one
        assert "0.0.0.0/0" not in one


def test_the_secret_holds_three_things_and_the_same_for_each_function() -> None:
    made = secret(ACME, Credentials("postgresql://t_acme:pw@10.250.0.1/t_acme", b"d" * 32, b"p" * 32), LOCAL)

    assert (made["metadata"]["namespace"], made["metadata"]["name"]) == ("dcoder--acme", TENANT_SECRET)
    assert made["data"].keys() == {"database-url", "data.key", "issuer.key"}
    assert base64.b64decode(made["data"]["database-url"]) == b"postgresql://t_acme:pw@10.250.0.1/t_acme"


def test_a_tenant_with_a_key_of_its_bucket_has_it_in_the_secret() -> None:
    held = Credentials("postgresql://t_acme:pw@h/t_acme", b"d" * 32, b"p" * 32, ObjectKey("name", "hunter2"))
    data = secret(ACME, held, LOCAL)["data"]

    assert base64.b64decode(data["objects-access-key"]) == b"name"
    assert base64.b64decode(data["objects-secret-key"]) == b"hunter2"
    assert "hunter2" not in repr(held)


def test_credentials_do_not_show_themselves() -> None:
    shown = repr(Credentials("postgresql://t_acme:hunter2@h/t_acme", b"hunter2", b"public"))
    assert "hunter2" not in shown


def test_what_reaches_further_than_one_tenant_cannot_be_dedicated() -> None:
    with pytest.raises(Fault, match=r"governance-keys cannot be dedicated .* ControlDatabase, ControlTransaction"):
        dedicated(CATALOG["governance-keys"], LOCAL)


def test_a_tenants_form_of_a_type_takes_no_store_or_key_that_serves_all_tenants() -> None:
    assert TENANT_GRANTS.keys() < GRANTS.keys()
    shared = {"root-key", "tokens-key", "audit-key", "pepper-key", "hooks-key", "redis", "events"}
    assert not shared & frozenset().union(*TENANT_GRANTS.values())


def test_the_quota_has_room_for_a_rollout_with_queue_proxys_share_and_is_the_tenants() -> None:
    wide = LOCAL.model_copy(update={"sizes": LOCAL.sizes.model_copy(update={"tenant_instances_max": 3})})
    hard = one_of(render(ACME, [SEARCH], EVERYONE, wide), "ResourceQuota", "dcoder")["spec"]["hard"]

    assert (hard["pods"], hard["requests.cpu"], hard["limits.memory"]) == ("6", "450m", f"{6 * (1024 + 256)}Mi")
    assert hard["services.loadbalancers"] == "0"


def test_all_instances_together_stay_below_what_the_tenants_role_may_connect() -> None:
    for most in (1, 2, 4, 8, 16):
        sizes = LOCAL.sizes.model_copy(update={"tenant_instances_max": most, "connections_max": 16})
        assert most * connections_max(LOCAL.model_copy(update={"sizes": sizes})) < ROLE_CONNECTIONS_MAX


def test_a_dedicated_function_scales_no_further_than_its_tenant_may() -> None:
    service = one_of(rendered(SEARCH), "Service", SEARCH.name)
    annotations = service["spec"]["template"]["metadata"]["annotations"]

    assert annotations["autoscaling.knative.dev/max-scale"] == str(LOCAL.sizes.tenant_instances_max)


def test_two_tenants_never_share_a_namespace_and_a_name_that_is_too_long_is_refused() -> None:
    assert namespace_of(TenantId("a-b"), LOCAL) != namespace_of(TenantId("b"), LOCAL)
    assert origin_of(ACME, "knowledge-search", LOCAL) == "http://knowledge-search.dcoder--acme.svc.cluster.local"
    with pytest.raises(Fault, match="over 63 characters"):
        namespace_of(TenantId("t" * 32), LOCAL.model_copy(update={"namespace": "n" * 40}))


def test_a_secret_that_is_not_the_tenants_is_a_violation() -> None:
    spoiled = replace(SEARCH, variables={"DCODER_TENANT": "other"})
    with pytest.raises(Fault, match="Service knowledge-search: tenant is labelled"):
        rendered(spoiled)


def test_the_most_instances_of_a_tenant_are_set_in_the_environment() -> None:
    from knative.environment import FOLDER

    more = (FOLDER / "local.yaml").read_text().rstrip() + "\n  tenant_instances_max: 9\n"
    assert parse(more, "local.yaml").sizes.tenant_instances_max == 9
