"""What is round a tenant's own pod, tried from inside: genuine tokens elsewhere, shared stores, network policies.

Addresses are tried as if no policy held them up: what is behind them must refuse by itself. Whether this cluster
enforces NetworkPolicies is printed, not assumed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import pytest

from shared.cli.keys import create_key
from shared.clock import Clock
from shared.identity import Caller, Tokens
from shared.ids import TenantId
from tests.cluster.conftest import Deployed, wait_for
from tests.cluster.test_dedicated import SEARCH, in_the_pod, kubectl, pods

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
A, B = TenantId("smoke"), TenantId("plain")
SERVING_PORT = 8080
UNREACHABLE = "unreachable"
TRY = """
import json, ssl, sys, urllib.error, urllib.request
call = json.load(sys.stdin)
given = call['body'].encode() if call['method'] == 'POST' else None
request = urllib.request.Request(call['url'], given, method=call['method'], headers=call['headers'])
unverified = ssl._create_unverified_context()
try:
    print(urllib.request.urlopen(request, timeout=20, context=unverified).status)
except urllib.error.HTTPError as refused:
    print(refused.code)
except OSError:
    print('unreachable')
"""
SAY = """
import json, socket, sys
for host, port, said in json.load(sys.stdin):
    try:
        with socket.create_connection((host, port), timeout=10) as connection:
            connection.settimeout(10)
            connection.sendall(said.encode())
            print(connection.recv(100).decode(errors='replace').split('\\r')[0])
    except OSError:
        print('unreachable')
"""


class Late(Clock):
    """An hour behind."""

    def now(self) -> datetime:
        return datetime.now(UTC) - timedelta(hours=1)


@pytest.fixture(scope="module")
def keys(deployed: Deployed) -> dict[TenantId, str]:
    """A key of each tenant."""
    operator = deployed.platform(deployed.operator_key)
    operator.call("POST", "/v1/tenants", {"name": B})
    made = create_key(operator, B, "admin", name=token_hex(4))
    return {A: deployed.tenant_key, B: str(made["key"])}


@pytest.fixture(scope="module")
def both(deployed: Deployed, keys: dict[TenantId, str]) -> Iterator[None]:
    """The search of both tenants runs in pods of their own."""
    placed = ("--environment", deployed.environment.name, "--gateway", deployed.gateway)
    for tenant in (A, B):
        deployed.run("tenant", "dedicate", tenant, SEARCH, *placed)
    yield
    for tenant in (A, B):
        deployed.run("tenant", "undedicate", tenant, SEARCH, *placed)


@pytest.fixture
def awake(deployed: Deployed, keys: dict[TenantId, str], both: None) -> None:
    for key in keys.values():
        deployed.platform(key).call("POST", "/v1/knowledge/search", {"query": "umbrella"})


def namespace(deployed: Deployed, tenant: TenantId) -> str:
    return f"{deployed.environment.namespace}--{tenant}"


def inside(deployed: Deployed, code: str, given: object = None) -> str:
    """What the code prints in the container of A's function."""
    return in_the_pod(namespace(deployed, A), code, given=json.dumps(given))


def tried(deployed: Deployed, url: str, credential: str = "", body: str = '{"query": "x"}', **headers: str) -> str:
    sent = {"Content-Type": "application/json", **headers}
    if credential:
        sent["Authorization"] = f"Bearer {credential}"
    return inside(deployed, TRY, {"url": url, "method": "POST", "headers": sent, "body": body})


def search_of(deployed: Deployed, tenant: TenantId) -> str:
    return f"http://{SEARCH}.{namespace(deployed, tenant)}.svc.cluster.local/v1/knowledge/search"


def pod_address(deployed: Deployed, tenant: TenantId) -> str:
    (pod,) = pods(namespace(deployed, tenant))
    return str(pod["status"]["podIP"])


def tokens(deployed: Deployed, clock: Clock | None = None) -> Tokens:
    return Tokens((deployed.cli.home.secrets / "tokens.key").read_bytes(), clock)


def credentials(deployed: Deployed, keys: dict[TenantId, str]) -> dict[str, str]:
    """Of B, all genuine, none for this place or this time."""
    of_b = Caller(B, "key:x", "admin", "key")
    return {
        "its key, past the platform": keys[B],
        "its token for a pooled function": tokens(deployed).mint(of_b, audience=SEARCH),
        "its token for another function": tokens(deployed).mint_forwarded(of_b, function="knowledge-answers"),
        "its token, an hour old": tokens(deployed, Late()).mint_forwarded(of_b, function=SEARCH),
    }


def test_the_tenants_own_token_is_taken_where_it_belongs(
    deployed: Deployed, keys: dict[TenantId, str], awake: None
) -> None:
    """So that the refusals below are not those of something else."""
    theirs = tokens(deployed).mint_forwarded(Caller(B, "key:x", "admin", "key"), function=SEARCH)
    assert tried(deployed, search_of(deployed, B), theirs) in ("200", UNREACHABLE)


def test_what_is_genuine_but_for_another_place_or_time_opens_neither_service_nor_pod(
    deployed: Deployed, keys: dict[TenantId, str], awake: None
) -> None:
    pod = f"http://{pod_address(deployed, B)}:{SERVING_PORT}/v1/knowledge/search"
    answers = {
        (where, name): tried(deployed, url, credential)
        for where, url in (("service", search_of(deployed, B)), ("pod", pod))
        for name, credential in credentials(deployed, keys).items()
    }
    print(answers)
    assert {key: answer for key, answer in answers.items() if answer not in ("401", "404", UNREACHABLE)} == {}


def test_the_platforms_functions_take_nothing_of_what_is_in_the_pod(
    deployed: Deployed, keys: dict[TenantId, str], awake: None
) -> None:
    place = deployed.environment.namespace
    origin = f"http://governance.{place}.svc.cluster.local"
    (pooled,) = [one["status"]["podIP"] for one in deployed.pods("knowledge")][:1]
    forwarded = tokens(deployed).mint_forwarded(Caller(A, "key:x", "admin", "key"), function=SEARCH)

    answers = {
        "tenants with A's key": tried(deployed, f"{origin}/v1/tenants", keys[A], '{"name": "mine"}'),
        "a key of B with A's": tried(
            deployed, f"{origin}/v1/keys?tenant={B}", keys[A], '{"name": "x", "role": "viewer"}'
        ),
        "pooled search with a forwarded token": tried(
            deployed, f"http://knowledge.{place}.svc.cluster.local/v1/knowledge/search", forwarded
        ),
        "pooled pod with a forwarded token": tried(
            deployed, f"http://{pooled}:{SERVING_PORT}/v1/knowledge/search", forwarded
        ),
        "tick with nothing": tried(deployed, f"{origin}/v1/schedules/tick"),
    }
    print(answers)
    assert {key: answer for key, answer in answers.items() if answer not in ("401", "403", "404", UNREACHABLE)} == {}


def test_refusals_by_a_part_of_the_platform_are_in_the_audit_log(
    deployed: Deployed, keys: dict[TenantId, str], awake: None
) -> None:
    place = deployed.environment.namespace
    platform, smoke = deployed.platform(deployed.operator_key), deployed.platform(keys[A])
    forged = f"http://governance.{place}.svc.cluster.local/v1/tenants"
    answer = tried(deployed, forged, keys[A], '{"name": "mine"}')
    if answer == UNREACHABLE:
        pytest.skip("this cluster holds the call up before it reaches a part of the platform")
    assert answer == "403"
    tried(deployed, search_of(deployed, B), "forged")

    wait_for(lambda: denied(smoke, "governance-tenants.create_tenant"), timeout_s=90, what="A's refusal in its log")
    plain = deployed.platform(keys[B])
    wait_for(lambda: denied(plain, f"{SEARCH}.search_documents"), timeout_s=90, what="the refusal in B's log")
    assert platform.call("GET", "/v1/audit/checkpoint").status == 200


def denied(client: Any, action: str) -> bool:  # Any: see Client
    records = client.call("GET", "/v1/audit/records", query={"action": action, "limit": "1000"}).json()["records"]
    return any(one["outcome"] == "denied" for one in records)


def test_the_stores_that_serve_all_tenants_want_a_password_that_it_does_not_have(
    deployed: Deployed, awake: None
) -> None:
    environment = deployed.environment
    redis = (environment.redis.cidr or f"redis.{environment.namespace}").partition("/")[0]
    assert inside(deployed, SAY, [[redis, environment.redis.port, "KEYS *\r\n"]]) in (
        "-NOAUTH Authentication required.", UNREACHABLE,
    )  # fmt: skip
    url = f"{environment.objects.url}/dcoder-{B}?list-type=2"
    answer = inside(deployed, TRY, {"url": url, "method": "GET", "headers": {}, "body": ""})
    assert answer in ("403", UNREACHABLE)


def test_the_policies_select_its_pod_and_name_nothing_of_another_tenant(deployed: Deployed, awake: None) -> None:
    home = namespace(deployed, A)
    (pod,) = pods(home)
    found = json.loads(kubectl("--namespace", home, "get", "networkpolicies", "-o", "json"))["items"]
    selecting = {one["metadata"]["name"]: one["spec"] for one in found if selects(one["spec"], pod)}

    assert set(selecting) == {"deny-all", SEARCH}
    assert all(set(one["policyTypes"]) == {"Ingress", "Egress"} for one in selecting.values())
    assert not {"ingress", "egress"} & set(selecting["deny-all"])
    near = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]
        for direction, side in (("ingress", "from"), ("egress", "to"))
        for rule in selecting[SEARCH].get(direction, ())
        for peer in rule[side]
        if "namespaceSelector" in peer
    }
    assert near <= {"kourier-system", "knative-serving", "kube-system"}
    ports = {port["port"] for rule in selecting[SEARCH]["ingress"] for port in rule["ports"]}
    assert SERVING_PORT not in ports
    reached = tried(deployed, f"http://{pod_address(deployed, B)}:{SERVING_PORT}/v1/knowledge/search")
    print(f"\nNetworkPolicies are {'enforced' if reached == UNREACHABLE else 'not enforced'} by this cluster")


def selects(spec: dict[str, Any], pod: dict[str, Any]) -> bool:  # Any: JSON of the cluster
    wanted = spec["podSelector"].get("matchLabels", {})
    return all(pod["metadata"]["labels"].get(name) == value for name, value in wanted.items())
