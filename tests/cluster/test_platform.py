"""The platform on a real cluster. Run with `--with cluster`; see docs/how-to/deploy.md."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from secrets import token_hex

import pytest

from shared.cli.documents import ask, list_documents, wait_until_final
from shared.cli.failures import Failed
from shared.events import CloudEvent
from shared.host.stack import ROOT
from shared.identity import Tokens, hook_token
from shared.ids import TenantId
from tests.cluster.conftest import Deployed, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
ZERO_S = 180
HANDBOOK = ROOT / "docs" / "handbook"
TENANT = TenantId("smoke")
SEND = """
import sys, urllib.request
url, headers = sys.argv[1], dict(pair.split('=', 1) for pair in sys.argv[2:])
request = urllib.request.Request(url, sys.stdin.buffer.read(), headers=headers, method='POST')
try:
    print(urllib.request.urlopen(request, timeout=60).status)
except urllib.error.HTTPError as refused:
    print(refused.code)
except OSError as silent:
    print('unreachable', silent)
"""


def from_a_pod(deployed: Deployed, service: str, url: str, headers: dict[str, str], body: str) -> str:
    """What a function's own container gets when it posts there."""
    list_documents(deployed.platform(deployed.tenant_key))  # wakes the group that serves documents
    pod = next(one for one in deployed.pods(service) if one["status"]["phase"] == "Running")
    pairs = [f"{name}={value}" for name, value in headers.items()]
    name = pod["metadata"]["name"]
    return deployed.kubectl(
        "exec", "-i", name, "-c", "function", "--", "python3", "-c", SEND, url, *pairs, given=body
    ).strip()


def signed(deployed: Deployed, type_: str, subject: str = "x") -> CloudEvent:
    tokens = Tokens((deployed.cli.home.secrets / "tokens.key").read_bytes())
    return tokens.sign_event(CloudEvent(token_hex(8), "/tests", type_, subject, TENANT, datetime.now(UTC), {"a": 1}))


def structured(event: CloudEvent) -> tuple[dict[str, str], str]:
    return {"Content-Type": "application/cloudevents+json"}, json.dumps(event.to_json())


def broker(deployed: Deployed) -> str:
    return f"{deployed.environment.broker.ingress}/{deployed.environment.namespace}/events"


def test_a_question_to_a_platform_at_zero_is_answered_with_citations(deployed: Deployed) -> None:
    wait_for(lambda: not deployed.pods(), timeout_s=ZERO_S, what="every pod gone")

    answered = ask(deployed.llm(deployed.tenant_key), "How many days is a lost umbrella kept?")

    assert "41" in str(answered["answer"])
    assert "lost-property" in str(answered["citations"])


def test_an_object_that_the_store_announces_becomes_searchable(deployed: Deployed) -> None:
    import boto3

    name = f"tide-{token_hex(4)}.md"
    told = deployed.cli.home.read("host.json")
    store = boto3.client(
        "s3",
        endpoint_url=str(told["objects_url"]),
        aws_access_key_id=str(told["objects_access_key"]),
        aws_secret_access_key=str(told["objects_secret_key"]),
        region_name="us-east-1",
    )
    bucket, key = f"dcoder-{TENANT}", f"documents/{name}"
    etag = store.put_object(Bucket=bucket, Key=key, Body=b"# Tides\n\nThe spring tide comes on day 9.\n")["ETag"]
    record = {
        "eventVersion": "2.1",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "eventName": "s3:ObjectCreated:Put",
        "responseElements": {"x-amz-request-id": token_hex(8), "x-amz-id-2": token_hex(8)},
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": etag.strip('"'), "size": 40}},
    }
    hook = hook_token((deployed.cli.home.secrets / "hooks.key").read_bytes())

    assert deployed.platform(hook).call("POST", "/v1/hooks/s3", {"Records": [record]}).status == 204

    (document,) = wait_until_final(deployed.platform(deployed.tenant_key), {name: etag.strip('"')}, 120)
    assert document["state"] == "searchable"


def test_files_of_all_kinds_become_searchable(deployed: Deployed) -> None:
    """Each is read by a child process, which has to find the libraries that the image has."""
    files = {path.name: path.read_bytes() for path in HANDBOOK.iterdir() if path.suffix in (".docx", ".pdf")}
    files["page.html"] = b"<html><body><h1>Mooring</h1><p>Moor at berth 9.</p></body></html>"
    client = deployed.platform(deployed.tenant_key)

    stored = {
        name: str(client.call("PUT", f"/v1/documents/{name}", content).json()["etag"])
        for name, content in files.items()
    }

    assert len(stored) == 3
    found = wait_until_final(client, stored, 120)
    assert {str(one["name"]): one["state"] for one in found} == dict.fromkeys(stored, "searchable")


def test_the_minute_wakes_the_schedules(deployed: Deployed) -> None:
    def ticked() -> bool:
        listed = deployed.platform(deployed.operator_key).call("GET", "/v1/schedules").json()["schedules"]
        assert isinstance(listed, list)
        last = next(one["last"] for one in listed if one["name"] == "governance-audit.sweep_platform")
        return bool(last) and datetime.now(UTC) - datetime.fromisoformat(last) < timedelta(minutes=2)

    wait_for(ticked, timeout_s=200, what="a schedule that is due each minute")


def test_a_dead_letter_of_a_trigger_is_listed_and_redriven(deployed: Deployed) -> None:
    kind = f"dcoder.test.dead{token_hex(3)}"
    service = {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": "governance"}
    trigger = {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": "test-dead"},
        "spec": {
            "broker": "events",
            "filters": [{"exact": {"type": kind}}],
            "subscriber": {"ref": service, "uri": "/nowhere"},
            "delivery": {"retry": 0, "deadLetterSink": {"ref": service, "uri": "/dead-letters/knowledge-documents"}},
        },
    }
    deployed.kubectl("apply", "-f", "-", given=json.dumps(trigger))
    try:
        deployed.kubectl("wait", "--for=condition=Ready", "trigger/test-dead", "--timeout=60s")
        event = signed(deployed, kind)
        assert from_a_pod(deployed, "knowledge", broker(deployed), *structured(event)) == "202"
        client = deployed.platform(deployed.tenant_key)

        def letters() -> list[dict[str, object]]:
            listed = client.call("GET", "/v1/dead-letters").json()["dead_letters"]
            assert isinstance(listed, list)
            return [one for one in listed if one["event_id"] == event.id]

        wait_for(letters, timeout_s=60, what="the dead letter")
        (letter,) = letters()
        told = None if deployed.environment.broker.jetstream else 404  # that class says no more than that it failed
        assert (letter["function"], letter["last_status"]) == ("knowledge-documents", told)
        assert client.call("POST", f"/v1/dead-letters/{letter['id']}/redrive", {}).status == 202
    finally:
        deployed.kubectl("delete", "trigger", "test-dead")


def test_what_is_forged_is_refused_inside_the_cluster_and_events_cannot_be_sent_from_outside(
    deployed: Deployed,
) -> None:
    forged = CloudEvent(token_hex(8), "/x", "dcoder.audit.pending", "smoke", TENANT, datetime.now(UTC), {})
    headers, body = structured(forged)
    namespace = deployed.environment.namespace
    inside = f"http://governance.{namespace}.svc.cluster.local/events/governance-audit"

    assert from_a_pod(deployed, "knowledge", inside, headers, body) == "401"
    token = {
        "Authorization": "Bearer eyJhbGciOiJub25lIn0.eyJ0ZW5hbnQiOiJzbW9rZSJ9.",
        "Content-Type": "application/json",
    }
    keys = f"http://governance.{namespace}.svc.cluster.local/v1/keys"
    assert from_a_pod(deployed, "knowledge", keys, token, "{}") == "401"
    api = from_a_pod(deployed, "knowledge", "https://kubernetes.default.svc/api/v1/secrets", {}, "{}")
    assert api not in ("200", "201")
    with pytest.raises(Failed) as outside:
        deployed.platform(deployed.tenant_key).call("POST", "/events/governance-audit", {})
    assert "404" in outside.value.why


def test_applying_again_changes_nothing_and_everything_is_ready(deployed: Deployed) -> None:
    before = deployed.run("deploy", "status", deployed.environment.name)

    again = deployed.run("deploy", "apply", deployed.environment.name, "--image", deployed.image)

    assert again["release"] == before["release"]
    assert again["pruned"] == []
    assert all(one["ready"] for one in deployed.run("deploy", "status", deployed.environment.name)["objects"])


def test_what_is_no_longer_rendered_is_removed_and_what_is_not_ours_stays(deployed: Deployed) -> None:
    labelled = "app.kubernetes.io/part-of=dcoder,dcoder.dev/tenant=pooled"
    for name, labels in (("test-stale", labelled), ("test-foreign", "app=other")):
        deployed.kubectl("create", "serviceaccount", name)
        deployed.kubectl("label", "serviceaccount", name, *labels.split(","))
    try:
        assert deployed.run("deploy", "apply", deployed.environment.name, "--image", deployed.image)["pruned"] == [
            "serviceaccounts/test-stale"
        ]
        assert "test-foreign" in deployed.kubectl("get", "serviceaccounts", "-o", "name")
    finally:
        deployed.kubectl("delete", "serviceaccount", "test-foreign", "test-stale", "--ignore-not-found")


def test_a_rollback_moves_traffic_only_and_applying_ends_it(deployed: Deployed) -> None:
    other = deployed.image.rpartition(":")[0] + ":rollback"  # the same content under another tag
    first = deployed.run("deploy", "status", deployed.environment.name)["release"]
    second = deployed.run("deploy", "apply", deployed.environment.name, "--image", other)["release"]
    assert second == first + 1
    revisions = deployed.kubectl("get", "revisions", "-o", "name")

    back = deployed.run("deploy", "rollback", deployed.environment.name)

    assert (back["release"], len(back["moved"])) == (first, 4)
    assert deployed.kubectl("get", "revisions", "-o", "name") == revisions
    assert list_documents(deployed.platform(deployed.tenant_key))
    deployed.run("deploy", "apply", deployed.environment.name, "--image", deployed.image)
