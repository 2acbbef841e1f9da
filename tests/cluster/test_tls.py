"""A certificate of one's own at the ingress: `DCODER_TEST_ENVIRONMENT` names an environment with `tls_secret`."""

from __future__ import annotations

import json
import os

import pytest

from shared.cli.documents import ask, list_documents
from shared.cli.failures import Missing
from tests.cluster.conftest import Deployed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
PLAIN = """
import http.client, sys
connection = http.client.HTTPConnection('kourier.kourier-system.svc.cluster.local', timeout=30)
connection.request('GET', '/v1/documents', headers={'Host': sys.argv[1]})
answer = connection.getresponse()
print(answer.status, answer.getheader('Location'))
"""


@pytest.fixture(autouse=True)
def secured(deployed: Deployed) -> None:
    if deployed.environment.tls_secret is None:
        pytest.skip(f"environment {deployed.environment.name!r} has no tls_secret")


def test_a_question_is_answered_over_tls_that_was_verified_by_name(deployed: Deployed) -> None:
    assert deployed.gateway.startswith("https://")

    answered = ask(deployed.llm(deployed.tenant_key), "How many days is a lost umbrella kept?")

    assert "lost-property" in str(answered["citations"])


def test_without_the_authority_nothing_is_sent(deployed: Deployed, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SSL_CERT_FILE")

    with pytest.raises(Missing) as refused:
        list_documents(deployed.platform(deployed.tenant_key))

    assert "CERTIFICATE_VERIFY_FAILED" in refused.value.why
    assert "SSL_CERT_FILE" not in os.environ


def test_plain_http_is_sent_on_to_tls_from_outside_and_works_inside(deployed: Deployed) -> None:
    list_documents(deployed.platform(deployed.tenant_key))
    pod = next(one for one in deployed.pods("knowledge") if one["status"]["phase"] == "Running")
    host = f"platform.{deployed.environment.domain}"

    said = deployed.kubectl("exec", pod["metadata"]["name"], "-c", "function", "--", "python3", "-c", PLAIN, host)

    assert said.split()[0] in ("301", "308")
    assert said.split()[1].startswith(f"https://{host}")
    ingress = json.loads(deployed.kubectl("get", "ingresses.networking.internal.knative.dev", "origin", "-o", "json"))
    assert {one["type"] for one in ingress["status"]["conditions"] if one["status"] == "True"} >= {"Ready"}
