"""Documents dedicated to a tenant on a real cluster: its own pod ingests, with the key of its bucket and no other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest

from shared.cli.client import Client
from shared.cli.documents import ask, wait_until_final
from shared.cli.keys import create_key
from shared.ids import TenantId
from tests.cluster.conftest import Deployed, wait_for
from tests.cluster.test_dedicated import LOOK, in_the_pod, kubectl, pods

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
DOCUMENTS = "knowledge-documents"
SMOKE = TenantId("smoke")
TEXT = b"# Survey\n\nThe archive of the Halvorsen survey is kept in cabinet forty-two.\n"
SEARCHABLE_S = 180.0
TRY = """
import boto3, botocore.exceptions, json, os, sys
from botocore.config import Config

told = {name: os.environ['DCODER_OBJECTS_' + name] for name in ('URL', 'ACCESS_KEY', 'SECRET_KEY')}
made = {'endpoint_url': told['URL'], 'aws_access_key_id': told['ACCESS_KEY'],
    'aws_secret_access_key': told['SECRET_KEY'], 'region_name': 'us-east-1',
    'config': Config(s3={'addressing_style': 'path'}, retries={'total_max_attempts': 1}, connect_timeout=5)}
s3, iam = boto3.client('s3', **made), boto3.client('iam', **made)


def status(work):
    try:
        return work()['ResponseMetadata']['HTTPStatusCode']
    except botocore.exceptions.ClientError as refused:
        return refused.response['ResponseMetadata']['HTTPStatusCode']


print(json.dumps({
    'mine': status(lambda: s3.list_objects_v2(Bucket='dcoder-' + sys.argv[1])),
    'theirs': status(lambda: s3.list_objects_v2(Bucket='dcoder-' + sys.argv[2])),
    'put': status(lambda: s3.put_object(Bucket='dcoder-' + sys.argv[2], Key='documents/x', Body=b'x')),
    'users': status(lambda: iam.list_users()),
    'listed': [one['Name'] for one in s3.list_buckets()['Buckets']],
}))
"""


@pytest.fixture(scope="module")
def namespace(deployed: Deployed) -> str:
    return f"{deployed.environment.namespace}--{SMOKE}"


@pytest.fixture(scope="module")
def placed(deployed: Deployed) -> tuple[str, ...]:
    return ("--environment", deployed.environment.name, "--gateway", deployed.gateway)


@pytest.fixture(scope="module")
def dedicated(deployed: Deployed, placed: tuple[str, ...]) -> Iterator[dict[str, Any]]:
    made = deployed.run("tenant", "dedicate", SMOKE, DOCUMENTS, *placed)
    yield made
    deployed.run("tenant", "undedicate", SMOKE, DOCUMENTS, *placed)


def ingested(client: Client, name: str, content: bytes) -> list[dict[str, object]]:
    stored = client.call("PUT", f"/v1/documents/{name}", content, headers={"Content-Type": "text/markdown"}).json()
    return wait_until_final(client, {name: str(stored["etag"])}, SEARCHABLE_S)


def test_a_document_is_ingested_in_the_tenants_own_pod_and_answered_from(
    deployed: Deployed, dedicated: dict[str, Any], namespace: str
) -> None:
    assert (dedicated["state"], dedicated["address"]) == (
        "serving",
        f"http://{DOCUMENTS}.{namespace}.svc.cluster.local",
    )

    rows = ingested(deployed.platform(deployed.tenant_key), "survey.md", TEXT)

    assert [row["state"] for row in rows] == ["searchable"]
    (pod,) = pods(namespace)
    logs = kubectl("--namespace", namespace, "logs", pod["metadata"]["name"], "-c", "function")
    assert "event_handled" in logs
    answered = ask(deployed.llm(deployed.tenant_key), "In which cabinet is the archive of the Halvorsen survey kept?")
    assert "forty-two" in str(answered["answer"])


def test_its_pod_opens_its_tenants_bucket_and_is_refused_everywhere_else(
    deployed: Deployed, dedicated: dict[str, Any], namespace: str
) -> None:
    operator = deployed.platform(deployed.operator_key)
    operator.call("POST", "/v1/tenants", {"name": "plain"})
    create_key(operator, "plain", "admin", name="objects")
    deployed.platform(deployed.tenant_key).call("GET", "/v1/documents")  # wakes it
    wait_for(lambda: len(pods(namespace)) == 1, timeout_s=60, what="its one pod")

    found = json.loads(in_the_pod(namespace, TRY, SMOKE, "plain"))

    assert found == {"mine": 200, "theirs": 403, "put": 403, "users": 403, "listed": [f"dcoder-{SMOKE}"]}
    shown = in_the_pod(namespace, LOOK)
    kept = deployed.cli.home.read("secrets/stores.json")
    for name in ("objects_access_key", "objects_secret_key"):
        assert str(kept[name]) not in shown, name


def test_undone_the_pooled_function_has_its_documents_and_takes_more(
    deployed: Deployed, dedicated: dict[str, Any], namespace: str, placed: tuple[str, ...]
) -> None:
    deployed.run("tenant", "undedicate", SMOKE, DOCUMENTS, *placed)

    client = deployed.platform(deployed.tenant_key)
    assert client.call("GET", "/v1/documents/survey.md").json()["state"] == "searchable"
    assert [row["state"] for row in ingested(client, "after.md", b"# After\n\nAll again.\n")] == ["searchable"]
    deployed.run("tenant", "dedicate", SMOKE, DOCUMENTS, *placed)
    assert client.call("GET", "/v1/documents/after.md").json()["state"] == "searchable"
