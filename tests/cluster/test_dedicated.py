"""A function dedicated to a tenant on a real cluster: its own namespace, its own Service, its own Secret."""

from __future__ import annotations

import json
import subprocess
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from knative.policies import TENANT_SECRET
from shared.cli.client import Client
from shared.cli.failures import Failed
from shared.cli.keys import create_key
from shared.ids import TenantId
from tests.cluster.conftest import Deployed, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
SEARCH = "knowledge-search"
SMOKE = TenantId("smoke")
ZERO_S = 180
LOOK = """
import json, os, pathlib
keys = pathlib.Path('/etc/dcoder/keys')
told = {name: value for name, value in os.environ.items() if name.startswith('DCODER_')}
print(json.dumps({'files': sorted(path.name for path in keys.glob('*.key')), 'environment': told}))
"""
CALL = """
import sys, urllib.request, urllib.error
request = urllib.request.Request(sys.argv[1], b'{"query": "x"}', method='POST', headers={
    'Authorization': 'Bearer ' + sys.stdin.read().strip(), 'Content-Type': 'application/json'})
try:
    print(urllib.request.urlopen(request, timeout=60).status)
except urllib.error.HTTPError as refused:
    print(refused.code)
except OSError as silent:
    print('unreachable')
"""


@pytest.fixture(scope="module")
def namespace(deployed: Deployed) -> str:
    return f"{deployed.environment.namespace}--{SMOKE}"


@pytest.fixture(scope="module")
def placed(deployed: Deployed) -> tuple[str, ...]:
    return ("--environment", deployed.environment.name, "--gateway", deployed.gateway)


@pytest.fixture(scope="module")
def other_key(deployed: Deployed) -> str:
    """Of a tenant to which nothing is dedicated."""
    operator = deployed.platform(deployed.operator_key)
    operator.call("POST", "/v1/tenants", {"name": "plain"})
    return str(create_key(operator, "plain", "admin", name="t")["key"])


@pytest.fixture(scope="module")
def dedicated(deployed: Deployed, placed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    made = deployed.run("tenant", "dedicate", SMOKE, SEARCH, *placed)
    yield made
    deployed.run("tenant", "undedicate", SMOKE, SEARCH, *placed)


def kubectl(*arguments: str, given: str = "") -> str:
    argv = ["kubectl", *arguments]
    return subprocess.run(argv, input=given, capture_output=True, text=True, timeout=120, check=True).stdout


def pods(namespace: str) -> list[dict[str, Any]]:
    items: list[dict[str, Any]] = json.loads(kubectl("--namespace", namespace, "get", "pods", "-o", "json"))["items"]
    return [one for one in items if "deletionTimestamp" not in one["metadata"]]


def in_the_pod(namespace: str, code: str, *arguments: str, given: str = "") -> str:
    """What the code prints in the one pod of the tenant."""
    (pod,) = pods(namespace)
    name = pod["metadata"]["name"]
    command = ("exec", "-i", name, "-c", "function", "--", "python3", "-c", code, *arguments)
    return kubectl("--namespace", namespace, *command, given=given).strip()


def search(client: Client) -> list[str]:
    found = client.call("POST", "/v1/knowledge/search", {"query": "lost umbrella"}).json()["results"]
    assert isinstance(found, list)
    return [str(one["document"]) for one in found]


def test_the_tenants_calls_wake_its_own_service_and_nobody_elses_do(
    deployed: Deployed, dedicated: dict[str, Any], namespace: str, other_key: str
) -> None:
    assert (dedicated["state"], dedicated["address"]) == ("serving", f"http://{SEARCH}.{namespace}.svc.cluster.local")
    wait_for(lambda: not pods(namespace), timeout_s=ZERO_S, what="the pod that started once gone")
    search(deployed.platform(other_key))
    assert pods(namespace) == []

    found = search(deployed.platform(deployed.tenant_key))

    assert any("lost-property" in document for document in found)
    assert len(pods(namespace)) == 1


def test_its_pod_holds_the_tenants_database_and_a_public_key_and_nothing_of_the_platforms(
    deployed: Deployed, dedicated: dict[str, Any], namespace: str
) -> None:
    search(deployed.platform(deployed.tenant_key))
    held = json.loads(in_the_pod(namespace, LOOK))

    assert held["files"] == ["issuer.key"]
    assert "//t_smoke:" in held["environment"]["DCODER_POSTGRES_URL"]
    told = deployed.cli.home.read("host.json")["environment"]
    assert isinstance(told, dict)
    shown = json.dumps(held)
    for name in ("DCODER_POSTGRES_URL", "DCODER_REDIS_URL", "DCODER_OBJECTS_SECRET_KEY", "DCODER_OBJECTS_ACCESS_KEY"):
        assert told[name] not in shown, name
    names = json.loads(kubectl("--namespace", namespace, "get", "secrets", "-o", "json"))["items"]
    assert [one["metadata"]["name"] for one in names] == [TENANT_SECRET]
    quota = json.loads(kubectl("--namespace", namespace, "get", "resourcequota", "dcoder", "-o", "json"))
    assert int(quota["status"]["used"]["pods"]) >= 1


def test_neither_its_service_nor_the_pooled_one_takes_what_can_be_had_in_its_pod(
    deployed: Deployed, dedicated: dict[str, Any], namespace: str
) -> None:
    search(deployed.platform(deployed.tenant_key))
    forged = "eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJzbW9rZSJ9."
    own, pooled = f"{SEARCH}.{namespace}", f"knowledge.{deployed.environment.namespace}"

    for service, credential in ((own, forged), (own, deployed.tenant_key), (pooled, forged), (pooled, "")):
        url = f"http://{service}.svc.cluster.local/v1/knowledge/search"
        assert in_the_pod(namespace, CALL, url, given=credential) in ("401", "unreachable")


def test_applying_the_platform_again_keeps_it_and_brings_it_up_to_date(
    deployed: Deployed, dedicated: dict[str, Any], namespace: str, placed: tuple[str, ...]
) -> None:
    name = deployed.environment.name
    kubectl("--namespace", namespace, "delete", "networkpolicy", SEARCH)

    deployed.run("deploy", "apply", name, "--image", deployed.image, "--gateway", deployed.gateway)

    assert SEARCH in kubectl("--namespace", namespace, "get", "networkpolicy", "-o", "name")
    (row,) = deployed.run("tenant", "dedications", *placed)["dedications"]
    assert (row["state"], row["address"]) == ("serving", dedicated["address"])


def test_undone_no_call_is_lost_and_the_namespace_is_gone(
    deployed: Deployed, dedicated: dict[str, Any], namespace: str, placed: tuple[str, ...]
) -> None:
    failures: list[str] = []
    answered, over = [], threading.Event()

    def ask() -> None:
        while not over.is_set():
            try:
                answered.append(search(deployed.platform(deployed.tenant_key)))
            except Failed as failure:
                failures.append(f"{failure.what}: {failure.why}")

    asking = threading.Thread(target=ask)
    asking.start()
    try:
        deployed.run("tenant", "undedicate", SMOKE, SEARCH, *placed)
    finally:
        over.set()
        asking.join()

    assert failures == []
    assert len(answered) > 10
    wait_for(lambda: namespace not in kubectl("get", "namespaces", "-o", "name"), timeout_s=60, what="namespace gone")
    assert deployed.run("tenant", "dedications", *placed)["dedications"] == []
    assert any("lost-property" in document for document in search(deployed.platform(deployed.tenant_key)))
