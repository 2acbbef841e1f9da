"""Stores as pods: `DCODER_TEST_ENVIRONMENT` names an environment that has them. What goes comes back by itself."""

from __future__ import annotations

import time
from secrets import token_hex

import pytest

from shared.cli.documents import ask, list_documents, wait_until_final
from shared.cli.failures import Failed
from tests.cluster.conftest import Deployed, evict, identity, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
BACK_S = 180
PIER = b"# Pier\n\nThe pier closes at 19:20.\n"


@pytest.fixture(autouse=True)
def pods(deployed: Deployed) -> None:
    if not deployed.environment.pods:
        pytest.skip(f"the stores of environment {deployed.environment.name!r} are no pods")


def upload(deployed: Deployed, name: str) -> str:
    """The entity tag that the platform gave the document; empty while it cannot take one."""
    headers = {"Content-Type": "text/markdown"}
    try:
        stored = deployed.platform(deployed.tenant_key).call("PUT", f"/v1/documents/{name}", PIER, headers=headers)
    except Failed:
        return ""
    return str(stored.json().get("etag", ""))


@pytest.mark.parametrize("store", ["postgres", "redis", "objects", "nats"])
def test_after_a_stores_pod_is_evicted_the_platform_comes_back_with_its_data(
    deployed: Deployed, store: str, capsys: pytest.CaptureFixture[str]
) -> None:
    if store not in deployed.environment.pods:
        pytest.skip(f"{store} of environment {deployed.environment.name!r} is no pod")
    before = {str(one["name"]) for one in list_documents(deployed.platform(deployed.tenant_key))}
    old = identity(deployed, f"{store}-0")
    began = time.monotonic()

    evict(deployed, f"{store}-0")
    wait_for(lambda: identity(deployed, f"{store}-0") not in ("", old), timeout_s=BACK_S, what="another pod")
    deployed.kubectl("wait", "--for=condition=Ready", f"pod/{store}-0", f"--timeout={BACK_S}s")
    name = f"evicted-{token_hex(4)}.md"
    wait_for(lambda: upload(deployed, name), timeout_s=BACK_S, what="an upload taken")

    with capsys.disabled():
        print(f"\n{store} evicted: the platform took an upload after {time.monotonic() - began:.1f} s")
    (document,) = wait_until_final(deployed.platform(deployed.tenant_key), {name: upload(deployed, name)}, 120)
    assert document["state"] == "searchable"
    after = {str(one["name"]) for one in list_documents(deployed.platform(deployed.tenant_key))}
    assert after == {*before, name}
    assert ask(deployed.llm(deployed.tenant_key), "When does the pier close?")["citations"]


def test_the_data_of_pods_is_not_deleted_without_being_asked_for(deployed: Deployed) -> None:
    refused = deployed.cli.run("deploy", "down", "existing", deployed.environment.name)

    assert refused.returncode == 2
    assert "would go with namespace" in refused.stderr
    assert identity(deployed, "postgres-0")
