"""From inside a tenant's own pod: everything of another tenant's and of the platform's is tried, and refused.

What is tried does not rest on NetworkPolicies, which a cluster enforces or not: each part refuses by itself.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from secrets import token_bytes, token_hex
from typing import Any

import pytest

from knative.policies import TENANT_SECRET
from shared.cli.keys import create_key
from shared.events import CloudEvent
from shared.identity import Caller, Tokens
from shared.ids import TenantId
from tests.cluster.conftest import Deployed, wait_for
from tests.cluster.test_dedicated import SEARCH, in_the_pod, kubectl, pods, search

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
ATTACKER, VICTIM = TenantId("smoke"), TenantId("victim")
SECRET_WORD = "basilisk"
NOWHERE = "unreachable"
HTTP = """
import json, ssl, sys, urllib.request, urllib.error
trusting = ssl.create_default_context()
trusting.check_hostname, trusting.verify_mode = False, ssl.CERT_NONE
for url, headers, body in json.load(sys.stdin):
    request = urllib.request.Request(url, None if body is None else body.encode(), headers=headers)
    try:
        answer = urllib.request.urlopen(request, timeout=60, context=trusting)
        print(json.dumps([answer.status, answer.read().decode(errors='replace')]))
    except urllib.error.HTTPError as refused:
        print(json.dumps([refused.code, refused.read().decode(errors='replace')]))
    except OSError as silent:
        print(json.dumps(['unreachable', str(silent)]))
"""
SQL = """
import asyncio, asyncpg, json, os, sys
async def attempt(database, statement):
    server, _, own = os.environ['DCODER_POSTGRES_URL'].rpartition('/')
    try:
        connection = await asyncpg.connect(server + '/' + (database or own), timeout=20)
        try:
            return 'did: ' + str(await connection.fetch(statement))[:200]
        finally:
            await connection.close()
    except Exception as refused:
        return type(refused).__name__
for database, statement in json.load(sys.stdin):
    print(json.dumps(asyncio.run(attempt(database, statement))))
"""
HELD = """
import json, os, pathlib
roots = [pathlib.Path(one) for one in ('/etc/dcoder', '/var/run/secrets', '/run/secrets')]
files = [str(path) for root in roots for path in root.rglob('*') if path.is_file()]
print(json.dumps({'files': files, 'environment': dict(os.environ), 'user': os.getuid()}))
"""


@dataclass(frozen=True)
class Inside:
    """A shell in the attacker's pod, and what it is after."""

    deployed: Deployed
    namespace: str
    victims_pod: str
    """Address of a pod that serves the victim alone."""

    def http(self, *calls: tuple[str, dict[str, str], str | None]) -> list[tuple[object, str]]:
        said = in_the_pod(self.namespace, HTTP, given=json.dumps(calls)).splitlines()
        return [(status, body) for status, body in map(json.loads, said)]

    def sql(self, *statements: tuple[str, str]) -> list[str]:
        return [
            str(json.loads(one)) for one in in_the_pod(self.namespace, SQL, given=json.dumps(statements)).splitlines()
        ]

    @property
    def tokens(self) -> Tokens:
        """The platform's own, with which the test makes what a process of the attacker's is really handed."""
        return Tokens((self.deployed.cli.home.secrets / "tokens.key").read_bytes())


def caller(tenant: TenantId) -> Caller:
    return Caller(tenant, "key:abc", "admin", "key")


@pytest.fixture(scope="module")
def victim_key(deployed: Deployed) -> str:
    operator = deployed.platform(deployed.operator_key)
    operator.call("POST", "/v1/tenants", {"name": VICTIM})
    key = str(create_key(operator, VICTIM, "admin", name="t")["key"])
    body = f"The {SECRET_WORD} sleeps below the lighthouse.".encode()
    deployed.platform(key).call("PUT", "/v1/documents/secret.md", body, headers={"Content-Type": "text/markdown"})
    wait_for(lambda: search_finds(deployed, key), timeout_s=120, what="the victim's document searchable")
    return key


def search_finds(deployed: Deployed, key: str) -> bool:
    found = deployed.platform(key).call("POST", "/v1/knowledge/search", {"query": SECRET_WORD}).json()["results"]
    return SECRET_WORD in str(found)


@pytest.fixture(scope="module")
def inside(deployed: Deployed, victim_key: str) -> Iterator[Inside]:
    placed = ("--environment", deployed.environment.name, "--gateway", deployed.gateway)
    for tenant in (ATTACKER, VICTIM):
        deployed.run("tenant", "dedicate", tenant, SEARCH, *placed)
    home = {tenant: f"{deployed.environment.namespace}--{tenant}" for tenant in (ATTACKER, VICTIM)}
    search(deployed.platform(deployed.tenant_key))
    assert search_finds(deployed, victim_key), "the victim's own process serves it"
    (pod,) = pods(home[VICTIM])
    yield Inside(deployed, home[ATTACKER], str(pod["status"]["podIP"]))
    for tenant in (ATTACKER, VICTIM):
        deployed.run("tenant", "undedicate", tenant, SEARCH, *placed)


@pytest.fixture(autouse=True)
def awake(inside: Inside, victim_key: str) -> None:
    """Both tenants' pods run."""
    search(inside.deployed.platform(inside.deployed.tenant_key))
    assert search_finds(inside.deployed, victim_key)


def credentials(inside: Inside) -> dict[str, str]:
    """What can be had or made in the attacker's pod."""
    forger = Tokens(token_bytes(32))
    real = inside.tokens.mint_forwarded(caller(ATTACKER), function=SEARCH, onward=["gateway-llm"])
    return {
        "nothing": "",
        "its own key": inside.deployed.tenant_key,
        "a token handed to it": real,
        "that token, cut": real.rpartition(".")[0] + ".",
        "a forged token for the victim's process": forger.mint_forwarded(caller(VICTIM), function=SEARCH),
        "a forged token for a pooled function": forger.mint(caller(VICTIM), audience=SEARCH),
        "a forged token of the platform's": forger.mint(caller(TenantId("platform")), audience="governance-tenants"),
        "an unsigned token": "eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJ2aWN0aW0ifQ.",
    }


def test_no_credential_that_can_be_had_or_made_there_opens_the_victims_process(inside: Inside) -> None:
    """Through the ingress, and past queue-proxy to the container's own port."""
    through = f"http://{SEARCH}.{inside.deployed.environment.namespace}--{VICTIM}.svc.cluster.local"
    tried = [
        (how, where)
        for how in credentials(inside)
        for where in (through, f"http://{inside.victims_pod}:8080", f"http://{inside.victims_pod}:8012")
    ]
    known = credentials(inside)
    body = json.dumps({"query": SECRET_WORD})
    answers = inside.http(*((f"{where}/v1/knowledge/search", bearing(known[how]), body) for how, where in tried))
    for (how, where), (status, said) in zip(tried, answers, strict=True):
        assert status in (401, NOWHERE), f"{how} at {where}: {status} {said[:200]}"
        assert SECRET_WORD not in said


def bearing(credential: str) -> dict[str, str]:
    return {"Content-Type": "application/json", **({"Authorization": f"Bearer {credential}"} if credential else {})}


def test_what_can_be_had_or_made_there_opens_no_pooled_function_for_anybody_else(
    inside: Inside, victim_key: str
) -> None:
    platform = f"http://platform.{inside.deployed.environment.domain}"
    pooled = f"http://knowledge.{inside.deployed.environment.namespace}.svc.cluster.local"
    known = {how: one for how, one in credentials(inside).items() if how != "its own key"}
    paths = (f"{pooled}/v1/knowledge/search", f"{pooled}/v1/documents", f"{platform}/v1/tenants")
    tried = [(how, path) for how in known for path in paths]
    answers = inside.http(
        *(
            (path, bearing(known[how]), json.dumps({"query": SECRET_WORD}) if path.endswith("search") else None)
            for how, path in tried
        )
    )
    for (how, path), (status, said) in zip(tried, answers, strict=True):
        assert status in (401, 403, 404, NOWHERE), f"{how} at {path}: {status} {said[:200]}"
        assert SECRET_WORD not in said
    own = bearing(inside.deployed.tenant_key)
    ((status, said),) = inside.http((f"{pooled}/v1/knowledge/search", own, json.dumps({"query": SECRET_WORD})))
    assert status == 200, "its own key is its own tenant's, wherever it is used"
    assert SECRET_WORD not in said


def test_a_refusal_of_the_platforms_is_audited(inside: Inside) -> None:
    pooled = f"http://knowledge.{inside.deployed.environment.namespace}.svc.cluster.local"
    forged = Tokens(token_bytes(32)).mint(caller(VICTIM), audience="knowledge-documents")
    operator = inside.deployed.platform(inside.deployed.operator_key)
    since: Any = operator.call("GET", "/v1/audit/checkpoint").json()
    ((status, _),) = inside.http((f"{pooled}/v1/documents", bearing(forged), None))
    assert status == 401

    def told() -> bool:
        query = {"after": str(max(-1, int(since["size"]) - 1)), "limit": "1000"}
        records: Any = operator.call("GET", "/v1/audit/records", query=query).json()["records"]
        return any(one["outcome"] == "denied" and "/v1/documents" in one["resource"] for one in records)

    wait_for(told, timeout_s=90, what="the refusal in the audit log")


def test_events_that_are_forged_or_replayed_have_no_effect(inside: Inside, victim_key: str) -> None:
    pooled = f"http://knowledge.{inside.deployed.environment.namespace}.svc.cluster.local/events/knowledge-documents"
    direct = f"http://{inside.victims_pod}:8080/events/{SEARCH}"
    name = "com.amazonaws.s3.ObjectRemoved:Delete"
    data = {"s3": {"bucket": {"name": f"dcoder-{VICTIM}"}, "object": {"key": "documents/secret.md"}}}
    event = CloudEvent(token_hex(8), "/x", name, "documents/secret.md", VICTIM, datetime.now(UTC), data)
    forged = Tokens(token_bytes(32)).sign_event(event)
    genuine = inside.tokens.sign_event(replace(event, tenant=ATTACKER))
    turned = replace(genuine, tenant=VICTIM)
    tried = [(where, one) for where in (pooled, direct) for one in (event, forged, turned)]
    headers = {"Content-Type": "application/cloudevents+json"}
    answers = inside.http(*((where, headers, json.dumps(one.to_json())) for where, one in tried))
    for (where, _), (status, said) in zip(tried, answers, strict=True):
        assert status in (401, 403, 404, NOWHERE), f"{where}: {status} {said[:200]}"
    time.sleep(2)
    assert search_finds(inside.deployed, victim_key)


def test_its_database_role_reaches_its_own_database_and_nothing_else(inside: Inside) -> None:
    assert inside.sql(("", "SELECT 1 AS one"))[0].startswith("did:")
    refused = {
        ("t_victim", "SELECT 1"): "InsufficientPrivilegeError",
        ("dcoder", "SELECT 1"): "InsufficientPrivilegeError",
        ("postgres", "SELECT 1"): "InsufficientPrivilegeError",
        ("template1", "SELECT 1"): "InsufficientPrivilegeError",
        ("", "SET ROLE dcoder"): "InsufficientPrivilegeError",
        ("", "SET ROLE t_victim"): "InsufficientPrivilegeError",
        ("", "SELECT rolpassword FROM pg_authid"): "InsufficientPrivilegeError",
        ("", "CREATE ROLE friend"): "InsufficientPrivilegeError",
        ("", "COPY (SELECT 1) TO PROGRAM 'id'"): "InsufficientPrivilegeError",
        ("", "SELECT pg_read_file('/etc/passwd')"): "InsufficientPrivilegeError",
        ("", "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE usename = 't_victim'"): "",
    }
    for (database, statement), said in zip(refused, inside.sql(*refused), strict=True):
        wanted = refused[database, statement]
        assert said == wanted or (not wanted and (said == "did: []" or "Privilege" in said)), f"{statement}: {said}"


def test_its_pod_holds_nothing_of_the_platforms_and_no_way_to_the_api_server(inside: Inside) -> None:
    held = json.loads(in_the_pod(inside.namespace, HELD))
    names = {path.rpartition("/")[2] for path in held["files"]}
    assert names <= {"issuer.key", "database-url"}
    assert held["user"] != 0
    told = inside.deployed.cli.home.read("host.json")["environment"]
    assert isinstance(told, dict)
    shown = json.dumps(held)
    for name in ("DCODER_POSTGRES_URL", "DCODER_REDIS_URL", "DCODER_OBJECTS_SECRET_KEY", "DCODER_OBJECTS_ACCESS_KEY"):
        assert told[name] not in shown, name
    server = f"https://{held['environment']['KUBERNETES_SERVICE_HOST']}"
    places = ("/api/v1/secrets", f"/api/v1/namespaces/{inside.deployed.environment.namespace}/secrets", "/api/v1/pods")
    for status, said in inside.http(*((server + place, {}, None) for place in places)):
        assert status in (401, 403, NOWHERE), said[:200]


def test_its_service_account_may_do_nothing(inside: Inside) -> None:
    account = f"system:serviceaccount:{inside.namespace}:{SEARCH}"
    for verb, what in (("get", f"secrets/{TENANT_SECRET}"), ("list", "secrets"), ("create", "pods"), ("get", "pods")):
        review = {
            "apiVersion": "authorization.k8s.io/v1",
            "kind": "SubjectAccessReview",
            "spec": {
                "user": account,
                "resourceAttributes": {
                    "namespace": inside.namespace, "verb": verb, "resource": what.partition("/")[0],
                    "name": what.partition("/")[2],
                },
            },
        }  # fmt: skip
        answer = json.loads(kubectl("create", "--filename=-", "--output=json", given=json.dumps(review)))
        assert not answer["status"]["allowed"], f"{verb} {what}"
