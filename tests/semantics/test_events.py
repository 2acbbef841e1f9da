"""What events and schedules promise, whichever carries them. With `--target cluster` on the cluster of KUBECONFIG."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from secrets import token_hex
from typing import Any

import boto3
import pytest

from shared.cli.documents import list_documents, wait_until_final
from shared.cli.failures import Failed
from shared.cli.keys import create_key
from shared.events import CloudEvent
from shared.identity import hook_token
from shared.ids import TenantId
from shared.postgres import ControlDatabase, Databases
from tests.cluster.conftest import wait_for
from tests.semantics.conftest import TENANT, Place

pytestmark = pytest.mark.timeout(1500)
SOON_S = 90
MINUTES = 1
CALLERS = 4
CREATED = "com.amazonaws.s3.ObjectCreated:Put"
TICKS = """
SELECT schedule, tenant, count(*) AS times FROM schedule_ticks JOIN schedules ON name = schedule
WHERE cron = '* * * * *' AND nominal BETWEEN $1 AND $2 GROUP BY schedule, tenant
"""


def record(bucket: str, key: str, etag: str, size: int) -> dict[str, Any]:
    return {
        "eventVersion": "2.1",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
        "eventName": "s3:ObjectCreated:Put",
        "responseElements": {"x-amz-request-id": token_hex(8), "x-amz-id-2": token_hex(8)},
        "s3": {"bucket": {"name": bucket}, "object": {"key": key, "eTag": etag, "size": size}},
    }


def put_object(place: Place, tenant: str, key: str, body: bytes) -> str:
    """Past the platform, as an S3 client does; the ETag."""
    told = place.told
    store = boto3.client(
        "s3",
        endpoint_url=told["DCODER_OBJECTS_URL"],
        aws_access_key_id=told["DCODER_OBJECTS_ACCESS_KEY"],
        aws_secret_access_key=told["DCODER_OBJECTS_SECRET_KEY"],
        region_name="us-east-1",
    )
    return str(store.put_object(Bucket=f"dcoder-{tenant}", Key=key, Body=body)["ETag"]).strip('"')


def upload(place: Place, name: str, text: str) -> dict[str, Any]:
    """A document through the platform, once it is final."""
    headers = {"Content-Type": "text/markdown"}
    stored = place.tenant.call("PUT", f"/v1/documents/{name}", text.encode(), headers=headers).json()
    (document,) = wait_until_final(place.tenant, {name: str(stored["etag"])}, SOON_S)
    return document


def sealed(place: Place, resource: str) -> list[str]:
    """The actions on a resource that the audit log has sealed, which an event makes it do."""
    records: list[dict[str, Any]] = []
    while True:
        after = str(records[-1]["seq"]) if records else "-1"
        page = place.tenant.call("GET", "/v1/audit/records", query={"after": after, "limit": "1000"}).json()["records"]
        assert isinstance(page, list)
        records += page
        if len(page) < 1000:
            return [str(one["action"]) for one in records if one["resource"] == resource]


def letters(place: Place, event: CloudEvent) -> list[dict[str, Any]]:
    found = place.operator.call("GET", "/v1/dead-letters", query={"limit": "200"}).json()["dead_letters"]
    assert isinstance(found, list)
    return [one for one in found if one["event_id"] == event.id]


def event_of(type_: str, subject: str, data: object, tenant: str = TENANT) -> CloudEvent:
    return CloudEvent(token_hex(8), "/tests", type_, subject, TenantId(tenant), datetime.now(UTC), data)


def test_an_upload_becomes_searchable_and_the_log_is_told(place: Place) -> None:
    name = f"ferry-{token_hex(3)}.md"
    document = upload(place, name, "# Ferry\n\nThe last ferry leaves at 23:41.\n")

    assert document["state"] == "searchable"
    wait_for(lambda: "documents.index" in sealed(place, f"document/{name}"), timeout_s=SOON_S, what="a sealed record")


def test_an_object_announced_three_times_is_indexed_once(place: Place) -> None:
    name = f"tide-{token_hex(3)}.md"
    etag = put_object(place, TENANT, f"documents/{name}", b"# Tides\n\nThe spring tide comes on day 9.\n")
    announced = record(f"dcoder-{TENANT}", f"documents/{name}", etag, 40)
    hook = place.platform(hook_token((place.home.secrets / "hooks.key").read_bytes()))

    for _ in range(3):
        assert hook.call("POST", "/v1/hooks/s3", {"Records": [announced]}).status == 204

    (document,) = wait_until_final(place.tenant, {name: etag}, SOON_S)
    assert (document["state"], document["chunks"]) == ("searchable", 1)
    last = upload(place, f"after-{name}", "# After\n\nWhat came before this is done.\n")
    assert last["state"] == "searchable"
    wait_for(lambda: sealed(place, f"document/after-{name}"), timeout_s=SOON_S, what="a sealed record")
    assert Counter(sealed(place, f"document/{name}")) == {"documents.index": 1}


NOBODYS = record("dcoder-nobody", "documents/x.md", "e", 1)


@pytest.mark.parametrize(
    "poison",
    [event_of(CREATED, "documents/x.md", {"no": "record"}), event_of(CREATED, "documents/x.md", NOBODYS, "nobody")],
    ids=["malformed", "of-no-tenant"],
)
def test_what_never_succeeds_is_one_dead_letter_listed_and_redriven_until_it_dies_again(
    place: Place, poison: CloudEvent
) -> None:
    place.publish(poison)
    place.publish(poison)

    wait_for(lambda: letters(place, poison), timeout_s=SOON_S, what="the dead letter")
    (letter,) = letters(place, poison)
    assert letter["function"] == "knowledge-documents"
    assert place.operator.call("POST", f"/v1/dead-letters/{letter['id']}/redrive", {}).status == 202

    def died_again() -> bool:
        (now,) = letters(place, poison)
        return now["redrives"] == 1 and now["redriven_at"] is None

    wait_for(died_again, timeout_s=SOON_S, what="the dead letter's second death")


def refused_events(place: Place) -> int:
    """How often the platform's audit log says that an event was refused."""
    query = {"action": "events.deliver", "limit": "1000"}
    records = place.operator.call("GET", "/v1/audit/records", query=query).json()["records"]
    assert isinstance(records, list)
    return sum(one["outcome"] == "denied" for one in records)


def test_an_event_that_nobody_signed_has_no_effect_and_is_in_the_audit_log(place: Place) -> None:
    before = refused_events(place)
    forged = event_of(CREATED, "documents/x.md", {"no": "record"})
    place.carry(forged)
    genuine = event_of(CREATED, "documents/x.md", {"no": "record"})
    place.publish(genuine)

    wait_for(lambda: letters(place, genuine), timeout_s=SOON_S, what="the dead letter of the signed one")
    assert letters(place, forged) == []
    wait_for(lambda: refused_events(place) > before, timeout_s=SOON_S, what="the refusal in the audit log")


def test_each_minute_starts_each_schedule_once_however_often_it_is_called(place: Place) -> None:
    first = datetime.now(UTC).replace(second=0, microsecond=0) + timedelta(minutes=1)
    last = first + timedelta(minutes=MINUTES - 1)
    with ThreadPoolExecutor(CALLERS) as callers:
        while datetime.now(UTC) < last + timedelta(seconds=45):
            list(callers.map(lambda _: place.operator.call("POST", "/v1/schedules/tick", {}), range(CALLERS)))
            time.sleep(5)
    started = asyncio.run(ticks(place, first, last))

    assert ("governance-audit.sweep_tenant", TENANT) in started
    assert ("governance-audit.sweep_platform", "platform") in started
    assert set(started.values()) == {MINUTES}


async def ticks(place: Place, first: datetime, last: datetime) -> dict[tuple[str, str], int]:
    databases = Databases(connections_max=1)
    try:
        rows = await ControlDatabase(place.told["DCODER_POSTGRES_URL"], databases).fetch(TICKS, first, last)
        return {(row["schedule"], row["tenant"]): row["times"] for row in rows}
    finally:
        await databases.close()


def why_refused(place: Place, key: str) -> str:
    """For a second after its tenant is gone a key is known, and the tenant is not."""
    with pytest.raises(Failed) as refused:
        list_documents(place.platform(key))
    return refused.value.why


def test_a_deleted_tenants_events_do_nothing_and_everybody_elses_go_on(place: Place) -> None:
    gone = f"gone-{token_hex(3)}"
    place.operator.call("POST", "/v1/tenants", {"name": gone})
    key = str(create_key(place.operator, gone, "admin", name="semantics")["key"])
    assert list_documents(place.platform(key)) == []
    place.operator.call("DELETE", f"/v1/tenants/{gone}")

    stale = event_of(CREATED, "documents/x.md", record(f"dcoder-{gone}", "documents/x.md", "e", 1), gone)
    place.publish(stale)

    assert upload(place, f"{gone}.md", "# Goes on\n\nThis tenant is still there.\n")["state"] == "searchable"
    wait_for(lambda: "401" in why_refused(place, key), timeout_s=SOON_S, what="the tenant's key refused")
    wait_for(lambda: letters(place, stale), timeout_s=SOON_S, what="the dead letter")
    (letter,) = letters(place, stale)
    assert str(letter["reason"]).startswith("not_found")
