"""Stores as pods: each instead of an address, reached by who was granted it, and locked down like the functions."""

from __future__ import annotations

import base64
import re
from dataclasses import asdict, replace

import pytest
import yaml

from knative import policies
from knative.base import confidential
from knative.environment import FOLDER, Environment, load, parse
from knative.manifest import Manifest
from knative.placement import groups
from knative.render import files, render
from knative.stamps import ANNOTATION, stamped, values_of
from shared.errors import Fault
from shared.function.catalog import find
from shared.host.home import StoreSecrets
from tests.knative.test_policies import SEEDS

CATALOG = find()
PODS = load("pods")
STORES = ("postgres", "redis", "objects")
KEPT = StoreSecrets("pg-secret", "control-secret", "nats-secret", "redis-secret", "access", "objects-secret")
TENANTS = {"namespaceSelector": {"matchLabels": {"dcoder.dev/platform": "dcoder"}}}
OWN = {"secret": "mine", "cidr": "10.0.0.7/32", "port": 9}


def changed(**fields: object) -> Environment:
    return parse(yaml.safe_dump({**yaml.safe_load((FOLDER / "pods.yaml").read_text()), **fields}), "pods.yaml")


def named(manifests: tuple[Manifest, ...], kind: str) -> dict[str, Manifest]:
    return {one["metadata"]["name"]: one for one in manifests if one["kind"] == kind}


@pytest.mark.parametrize("store", ["postgres", "redis"])
def test_a_store_of_ones_own_takes_the_place_of_its_pod(store: str) -> None:
    rendered = render(CATALOG, changed(**{store: OWN}))

    assert named(rendered, "StatefulSet").keys() == set(STORES) - {store}
    assert named(rendered, "PodDisruptionBudget").keys() == set(STORES) - {store}
    assert "10.0.0.7/32" in str(named(rendered, "NetworkPolicy")["governance"])


@pytest.mark.parametrize("store", [{"secret": "mine", "port": 9}, {**OWN, "pod": PODS.redis.model_dump()["pod"]}])
def test_a_store_is_an_address_or_a_pod_and_not_both(store: dict[str, object]) -> None:
    with pytest.raises(Fault, match=r"pods\.yaml: redis: .*give cidr, where your own store listens, or pod"):
        changed(redis=store)


@pytest.mark.parametrize("store", STORES)
def test_only_the_groups_that_were_granted_a_store_reach_its_pod(store: str) -> None:
    environment = PODS.model_copy(update={"placement": "alone"})
    granted = {one.name for one in groups(CATALOG, environment) if store in one.grants}
    rules = named(render(CATALOG, environment), "NetworkPolicy")

    (ingress,) = rules[store]["spec"]["ingress"]
    tenants = [one for one in ingress["from"] if "namespaceSelector" in one]
    assert tenants == ([TENANTS] if store in ("postgres", "objects") else [])
    (expression,) = ingress["from"][0]["podSelector"]["matchExpressions"]
    label = f"'app.kubernetes.io/name': '{store}'"
    leading = {name for name, one in rules.items() if label in str(one["spec"].get("egress"))}

    assert granted
    assert set(expression["values"]) == granted == leading


def test_the_images_are_pinned_by_version_and_digest() -> None:
    for pod in PODS.pods.values():
        assert re.fullmatch(r"docker\.io/[a-z/]+:[0-9][\w.-]+@sha256:[0-9a-f]{64}", pod.image)


OF_OTHER_KINDS = {"min-scale has a reason", "tenant is labelled", "dedicated holds its own"}


@pytest.mark.parametrize("rule", sorted(policies.RULES.keys() - OF_OTHER_KINDS))
def test_each_policy_holds_for_the_pods_too(rule: str) -> None:
    made = named(render(CATALOG, PODS), "StatefulSet")["postgres"]
    spoilt = yaml.safe_load(yaml.safe_dump(made))

    SEEDS[rule](spoilt)

    assert policies.violations([made]) == []
    assert policies.violations([spoilt]) == [f"StatefulSet postgres: {rule}"]


def test_passwords_are_in_secrets_only_and_lead_to_the_pods_by_name() -> None:
    settings = confidential.settings(PODS, KEPT)
    texts = "".join(files(render(CATALOG, PODS)).values())

    assert settings["DCODER_POSTGRES_URL"].endswith("@postgres.dcoder.svc.cluster.local:5432/dcoder")
    assert settings["DCODER_REDIS_URL"] == "redis://:redis-secret@redis.dcoder.svc.cluster.local:6379/0"
    assert not [value for value in asdict(KEPT).values() if value in texts and value != "access"]


def test_a_changed_configuration_restarts_its_own_store_only() -> None:
    rendered, keys = render(CATALOG, PODS), {"dcoder-keys": {"root.key": base64.b64encode(b"r" * 32).decode()}}
    stamps = []
    for kept in (KEPT, replace(KEPT, objects_secret_key="another-secret")):
        values = {**keys, **values_of(confidential.manifests(PODS, kept))}
        made = named(stamped(rendered, values, PODS), "StatefulSet")
        templates = {name: one["spec"]["template"] for name, one in made.items()}
        stamps.append({name: one["metadata"]["annotations"][ANNOTATION] for name, one in templates.items()})

    assert {name for name in STORES if stamps[0][name] != stamps[1][name]} == {"objects"}
