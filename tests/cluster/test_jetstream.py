"""A Broker on JetStream whose parts go while events are on their way: each event has its effect, once.

It wants an environment with `broker.jetstream` whose NATS is a pod.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from secrets import token_hex
from typing import Any

import pytest

from knative.jetstream import FILTER, FILTER_LABELS
from shared.cli.documents import wait_until_final
from shared.cli.failures import Failed, Missing
from tests.cluster.conftest import Deployed, evict, identity, wait_for

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(1500)]
DOCUMENTS = 30
FAULT_AT = 10
BACK_S = 180
HANDLED_S = 480
"""An event that was being handed on when its Broker's part went is handed on again after its function's time, 300 s."""


def evict_nats(deployed: Deployed) -> None:
    old = identity(deployed, "nats-0")
    evict(deployed, "nats-0")
    wait_for(lambda: identity(deployed, "nats-0") not in ("", old), timeout_s=BACK_S, what="another pod of NATS")


def kill_filter(deployed: Deployed) -> None:
    selector = ",".join(f"{name}={value}" for name, value in FILTER_LABELS.items())
    deployed.kubectl("delete", "pods", "--selector", selector, "--grace-period=0", "--force")


def restart_filter(deployed: Deployed) -> None:
    deployed.kubectl("rollout", "restart", f"deployment/{FILTER}")


def upload(deployed: Deployed, name: str) -> str:
    body = f"# {name}\n\nThe word of this document is {token_hex(8)}.\n".encode()
    headers = {"Content-Type": "text/markdown"}
    stored = deployed.platform(deployed.tenant_key).call("PUT", f"/v1/documents/{name}", body, headers=headers)
    return str(stored.json()["etag"])


def indexed(deployed: Deployed, prefix: str) -> Counter[str]:
    """How often the audit log says that each document was indexed: sealing waits for events too."""
    client, records = deployed.platform(deployed.tenant_key), list[dict[str, Any]]()  # Any: JSON
    while True:
        after = str(records[-1]["seq"]) if records else "-1"
        try:
            page = client.call("GET", "/v1/audit/records", query={"after": after, "limit": "1000"}).json()["records"]
        except (Failed, Missing):
            return Counter()
        assert isinstance(page, list)
        records += page
        if len(page) < 1000:
            break
    return Counter(
        str(one["resource"])
        for one in records
        if one["action"] == "documents.index" and str(one["resource"]).startswith(f"document/{prefix}")
    )


@pytest.mark.parametrize("fault", [evict_nats, kill_filter, restart_filter])
def test_events_on_their_way_are_handled_once_each_when_a_part_of_the_broker_goes(
    deployed: Deployed, fault: Callable[[Deployed], None]
) -> None:
    kept = deployed.environment.broker.jetstream
    if kept is None or kept.nats.pod is None:
        pytest.skip(f"environment {deployed.environment.name!r} has no Broker on a NATS that is a pod")
    prefix = f"{fault.__name__.replace('_', '-')}-{token_hex(3)}"
    uploaded: dict[str, str] = {}
    for number in range(DOCUMENTS):
        name = f"{prefix}-{number:02d}.md"
        uploaded[name] = upload(deployed, name)
        if number == FAULT_AT:
            fault(deployed)

    documents = wait_until_final(deployed.platform(deployed.tenant_key), uploaded, HANDLED_S)

    assert {str(one["name"]): one["state"] for one in documents} == dict.fromkeys(uploaded, "searchable")
    wait_for(lambda: len(indexed(deployed, prefix)) == DOCUMENTS, timeout_s=HANDLED_S, what="a record of each")
    assert set(indexed(deployed, prefix).values()) == {1}
