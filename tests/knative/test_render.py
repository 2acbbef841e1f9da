"""The rendered platform: whole, the same every time, and without a secret."""

from __future__ import annotations

import random
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from knative import network, secrets
from knative.environment import Environment, Placement, load, names, parse, with_image
from knative.manifest import Manifest
from knative.placement import groups
from knative.render import RENDERED, changed, files, render
from knative.routes import paths_of, prefixes
from shared.errors import Fault
from shared.function.admission import wants_control
from shared.function.catalog import Deployable, find
from shared.function.declaration import Function, Route, Scale
from shared.function.injection import GRANTS, PROVIDERS, grants_of, of_no_one_tenant

CATALOG = find()
PLACEMENTS = get_args(Placement)
BARE = load("local")
LOCAL = BARE.model_copy(update={"translate_image": "dev.local/dcoder-translate:0.1.0"})


def placed(placement: str) -> Environment:
    return LOCAL.model_copy(update={"placement": placement})


def of_kind(manifests: tuple[Manifest, ...], api: str, kind: str) -> list[Manifest]:
    return [one for one in manifests if one["apiVersion"].startswith(api) and one["kind"] == kind]


def services(manifests: tuple[Manifest, ...]) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in of_kind(manifests, "serving", "Service")}


def variables(service: Manifest) -> dict[str, Manifest]:
    return {one["name"]: one for one in service["spec"]["template"]["spec"]["containers"][0]["env"]}


@pytest.mark.parametrize("name", names())
def test_the_committed_files_are_what_the_code_says(name: str) -> None:
    assert changed(files(render(CATALOG, load(name))), RENDERED / name) == []


@settings(max_examples=10, deadline=None)
@given(seed=st.integers(), placement=st.sampled_from(PLACEMENTS))
def test_rendering_depends_on_nothing_but_its_arguments(seed: int, placement: str) -> None:
    shuffled = random.Random(seed).sample(CATALOG, len(CATALOG))

    assert files(render(shuffled, placed(placement))) == files(render(CATALOG, placed(placement)))


@settings(max_examples=20, deadline=None)
@given(
    chosen=st.sets(st.sampled_from(CATALOG_NAMES := [one.name for one in CATALOG])),
    placement=st.sampled_from(PLACEMENTS),
)
def test_each_function_is_in_exactly_one_group(chosen: set[str], placement: str) -> None:
    some = [one for one in CATALOG if one.name in chosen]

    found = [member.name for group in groups(some, placed(placement)) for member in group.members]

    assert sorted(found) == sorted(chosen)


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_services_serve_every_function_once(placement: str) -> None:
    rendered = services(render(CATALOG, placed(placement)))

    served = [name for one in rendered.values() for name in variables(one)["DCODER_FUNCTION"]["value"].split(",")]

    assert sorted(served) == CATALOG_NAMES


@pytest.mark.parametrize("placement", ["alone", "capability"])
def test_every_route_of_the_platform_leads_to_the_service_of_its_function(placement: str) -> None:
    everyone = groups(CATALOG, placed(placement))
    routed = prefixes(everyone)

    for group in everyone:
        for path in paths_of(group):
            assert next(owner.name for prefix, owner in routed.items() if path.startswith(prefix)) == group.name


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_every_subscription_has_a_trigger_that_retries_and_ends_in_dead_letters(placement: str) -> None:
    triggers = of_kind(render(CATALOG, placed(placement)), "eventing", "Trigger")

    assert {one["metadata"]["labels"]["dcoder.dev/function"] for one in triggers} == {
        one.name for one in CATALOG if one.subscribes
    }
    for one in triggers:
        assert one["spec"]["delivery"].keys() == {"retry", "backoffPolicy", "backoffDelay", "timeout", "deadLetterSink"}


def test_a_schedules_tick_wakes_its_own_function_only() -> None:
    ticks = [one for one in of_kind(render(CATALOG, LOCAL), "eventing", "Trigger") if "schedule.due" in str(one)]

    for one in ticks:
        function = one["metadata"]["labels"]["dcoder.dev/function"]
        assert {"prefix": {"subject": f"{function}."}} in one["spec"]["filters"]
    assert len(ticks) == sum(1 for one in CATALOG if any(True for _ in one.schedules()))


def test_a_group_has_the_strictest_concurrency_and_the_longest_timeout_of_its_members() -> None:
    members = tuple(
        Deployable(f"a-{name}", f"functions.a.{name}.function", Function(scale=scale, timeout_s=timeout_s))
        for name, scale, timeout_s in (
            ("one", Scale(max=2, concurrency=8, reason="parses"), 60),
            ("two", Scale(min=1, max=1, concurrency=40, reason="must answer at once"), 30),
        )
    )

    (group,) = groups(members, placed("capability"))

    assert group.scale == Scale(1, 3, 8, "a-one: parses; a-two: must answer at once")
    assert group.timeout_s == 60


def test_a_timeout_over_knatives_limit_is_refused_with_file_field_and_rule() -> None:
    slow = Deployable("a-slow", "functions.a.slow.function", Function(timeout_s=601))

    with pytest.raises(Fault, match=r"functions/a/slow/function\.py: timeout_s=601: Knative allows 1 to 600 s"):
        groups([slow], LOCAL)


def test_two_services_cannot_claim_one_path() -> None:
    twins = []
    for name in ("a-one", "b-two"):
        function = Function()
        function._record(Route("GET", "/v1/same/{id}", "things:read"))(nothing)
        twins.append(Deployable(name, f"functions.{name.replace('-', '.')}.function", function))

    with pytest.raises(Fault, match="both serve /v1/same"):
        prefixes(groups(twins, placed("alone")))


async def nothing() -> None:
    """A handler."""


def test_a_function_gets_only_the_stores_it_asks_for() -> None:
    rendered = services(render(CATALOG, placed("alone")))

    assert variables(rendered["integrations-webhooks"])["DCODER_OBJECTS_SECRET_KEY"]["value"] == "not-granted"
    assert "valueFrom" in variables(rendered["knowledge-documents"])["DCODER_OBJECTS_SECRET_KEY"]


def test_the_audit_key_goes_to_the_signers_only_and_the_root_key_to_who_opens_tenants() -> None:
    keys = {
        name: {item["key"] for item in one["spec"]["template"]["spec"]["volumes"][0]["secret"]["items"]}
        for name, one in services(render(CATALOG, placed("alone"))).items()
    }

    assert [name for name, some in keys.items() if "audit.key" in some] == ["governance-audit", "governance-exports"]
    assert "root.key" in keys["governance-audit"]
    assert "root.key" not in keys["integrations-webhooks"]


def test_who_hands_calls_on_to_tenants_own_processes_reaches_the_ingress() -> None:
    policies = of_kind(render(CATALOG, placed("alone")), "networking.k8s.io", "NetworkPolicy")
    out = {one["metadata"]["name"]: str(one["spec"].get("egress", "")) for one in policies}

    for one in CATALOG:
        if not of_no_one_tenant(one.function):
            assert "kourier-system" in out[one.name]
    assert "kourier-system" not in out["governance-keys"]


def test_only_who_calls_providers_reaches_the_internet() -> None:
    policies = of_kind(render(CATALOG, placed("alone")), "networking.k8s.io", "NetworkPolicy")

    assert [one["metadata"]["name"] for one in policies if "0.0.0.0/0" in str(one)] == [
        "gateway-llm",
        "gateway-translate",
        "governance-secrets",
    ]


def test_a_provider_of_the_own_network_is_reached_by_who_calls_providers_and_by_no_tenants_own_process() -> None:
    place = "private_providers: [{cidr: 10.9.0.9/32, port: 8001}]\nplacement: alone\n"
    environment = parse(files_text().replace("placement: capability\n", place), "local.yaml")
    rendered = render(CATALOG, environment)
    reach = {one["metadata"]["name"] for one in of_kind(rendered, "networking.k8s.io", "NetworkPolicy")
             if "10.9.0.9/32" in str(one)}  # fmt: skip
    may = {name for name, one in services(rendered).items() if "DCODER_PRIVATE_PROVIDER_URLS" in variables(one)}

    assert reach == may == {"gateway-llm", "governance-secrets"}
    assert "10.9.0.9/32" not in str(network.egress(frozenset({"internet"}), environment, "dcoder"))


@pytest.mark.parametrize("name", names())
def test_passwords_and_keys_come_from_secrets_only(name: str) -> None:
    for service in services(render(CATALOG, load(name))).values():
        for variable, one in variables(service).items():
            if variable in SECRET_VARIABLES:
                assert "valueFrom" in one or one["value"] == "not-granted"
    assert not any("@" in text.replace("@sha256", "") for text in files(render(CATALOG, load(name))).values())


SECRET_VARIABLES = {
    "DCODER_POSTGRES_URL",
    "DCODER_POSTGRES_SERVERS",
    "DCODER_REDIS_URL",
    "DCODER_OBJECTS_ACCESS_KEY",
    "DCODER_OBJECTS_SECRET_KEY",
}


def test_further_postgres_servers_are_named_by_a_secret_and_can_be_reached() -> None:
    servers = "postgres_servers: {secret: more-postgres, listeners: [{cidr: 10.9.0.7/32, port: 6543}]}\n"
    rendered = render(CATALOG, parse(files_text() + servers, "local.yaml"))
    for service in services(rendered).values():
        assert variables(service)["DCODER_POSTGRES_SERVERS"] == {
            "name": "DCODER_POSTGRES_SERVERS",
            "valueFrom": {"secretKeyRef": {"name": "more-postgres", "key": "servers"}},
        }
    policies = [one for one in rendered if one["kind"] == "NetworkPolicy" and one["metadata"]["name"] != "deny-all"]
    assert policies
    assert all("10.9.0.7/32" in str(one) and "6543" in str(one) for one in policies)


def test_a_collector_is_told_where_it_can_be_reached_and_a_tenants_own_process_is_not() -> None:
    place = "collector: {url: 'http://otel:4318', cidr: 10.9.0.8/32, port: 4318, secret: otel}\n"
    environment = parse(files_text() + place, "local.yaml")
    for service in services(render(CATALOG, environment)).values():
        told = variables(service)
        assert told["DCODER_OTLP_URL"]["value"] == "http://otel:4318"
        assert told["DCODER_OTLP_HEADERS"]["valueFrom"] == {"secretKeyRef": {"name": "otel", "key": "headers"}}
    policies = [one for one in render(CATALOG, environment) if one["kind"] == "NetworkPolicy"]
    assert all("10.9.0.8/32" in str(one) for one in policies if one["metadata"]["name"] != "deny-all")
    assert "10.9.0.8/32" not in str(network.egress(frozenset({"postgres"}), environment, "dcoder"))
    assert "otel" in secrets.names(environment)


def test_an_unknown_key_of_an_environment_is_named() -> None:
    with pytest.raises(Fault, match=r"x\.yaml: replicas: Extra inputs are not permitted"):
        parse(files_text() + "replicas: 3\n", "x.yaml")


def files_text() -> str:
    from knative.environment import FOLDER

    return (FOLDER / "local.yaml").read_text()


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_a_dead_letter_tells_by_its_path_whose_it_is(placement: str) -> None:
    for one in of_kind(render(CATALOG, placed(placement)), "eventing", "Trigger"):
        sink = one["spec"]["delivery"]["deadLetterSink"]
        assert sink["uri"] == f"/dead-letters/{one['metadata']['labels']['dcoder.dev/function']}"


def test_the_minute_goes_to_the_scheduler_alone_and_as_an_event_of_the_platform() -> None:
    (source,) = of_kind(render(CATALOG, placed("alone")), "sources", "PingSource")

    assert source["spec"]["ceOverrides"] == {"extensions": {"tenant": "platform"}}
    assert source["spec"]["sink"]["ref"]["name"] == "governance-schedules"
    assert source["spec"]["sink"]["uri"] == "/events/governance-schedules"


def test_only_the_group_that_is_ticked_lets_its_pods_go_within_the_minute() -> None:
    rendered = services(render(CATALOG, placed("alone")))
    windows = {
        name: one["spec"]["template"]["metadata"]["annotations"].get("autoscaling.knative.dev/window")
        for name, one in rendered.items()
    }

    assert {name for name, window in windows.items() if window} == {"governance-schedules"}
    assert int(str(windows["governance-schedules"]).removesuffix("s")) <= 30


def test_an_in_memory_channel_answers_before_it_delivers() -> None:
    (broker,) = of_kind(render(CATALOG, LOCAL), "eventing", "Broker")

    assert broker["metadata"]["annotations"]["messaging.knative.dev/async-handler"] == "true"


def test_every_type_that_a_handler_may_ask_for_says_what_it_takes() -> None:
    assert GRANTS.keys() == PROVIDERS.keys()


def test_a_function_that_changes_a_tenant_gets_what_opening_its_database_takes() -> None:
    for one in CATALOG:
        changes = [operation for operation, route in one.routes() if route.changes]
        if any(not wants_control(operation) for operation in changes):
            assert {"root-key", "objects", "redis", "postgres"} <= grants_of(one.function)


@pytest.mark.parametrize("placement", ["alone", "capability"])
def test_every_other_path_leads_to_the_group_without_events_that_holds_least(placement: str) -> None:
    environment = placed(placement)
    (ingress,) = of_kind(render(CATALOG, environment), "networking.internal", "Ingress")
    silent = {
        one.name: len(one.grants)
        for one in groups(CATALOG, environment)
        if not any(member.takes_events for member in one.members)
    }

    for rule in ingress["spec"]["rules"]:
        last = rule["http"]["paths"][-1]
        assert last["path"] == "/"
        assert silent[last["splits"][0]["serviceName"]] == min(silent.values())


def image_of(service: Manifest) -> str:
    return str(service["spec"]["template"]["spec"]["containers"][0]["image"])


@pytest.mark.parametrize("placement", PLACEMENTS)
def test_the_translator_runs_alone_in_its_own_image(placement: str) -> None:
    rendered = services(render(CATALOG, placed(placement)))

    own = rendered.pop("gateway-translate")
    assert variables(own)["DCODER_FUNCTION"]["value"] == "gateway-translate"
    assert image_of(own) == LOCAL.translate_image
    assert {image_of(one) for one in rendered.values()} == {LOCAL.image}


def test_without_an_image_for_it_there_is_no_translator() -> None:
    manifests = render(CATALOG, BARE)

    assert "gateway-translate" not in services(manifests)
    assert "/v1/translate" not in str(manifests)


def test_another_release_takes_the_translators_image_along() -> None:
    assert with_image(LOCAL, "acme/dcoder:2").translate_image == "acme/dcoder-translate:2"
    elsewhere = LOCAL.model_copy(update={"translate_image": "acme/own:1"})
    assert with_image(elsewhere, "acme/dcoder:2").translate_image == "acme/own:1"
    assert with_image(BARE, "acme/dcoder:2").translate_image is None
    with pytest.raises(Fault, match="has no tag"):
        with_image(LOCAL, f"acme/dcoder@sha256:{'0' * 64}")
