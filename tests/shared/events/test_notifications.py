"""Object notifications: recorded ones of real stores, and the rules that hold for all."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from urllib.parse import quote_plus

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Malformed
from shared.events import CloudEvent, ObjectEvent
from shared.events.notifications import from_s3, from_seaweedfs, removed, uploaded
from shared.ids import TenantId
from shared.objects import key_flaw

RECORDED = Path(__file__).parents[2] / "fixtures" / "notifications"
SEAWEEDFS: dict[str, list[Any]] = json.loads((RECORDED / "seaweedfs.json").read_text())
MINIO: dict[str, list[Any]] = json.loads((RECORDED / "minio.json").read_text())
AWKWARD = "documents/a b+c/ünï%20.txt"
AT = datetime(2026, 11, 24, 12, 0, tzinfo=UTC)
CREATED = "com.amazonaws.s3.ObjectCreated:Put"
REMOVED = "com.amazonaws.s3.ObjectRemoved:Delete"


def seaweed_events(step: str) -> list[CloudEvent]:
    return [event for payload in SEAWEEDFS[step] for event in from_seaweedfs(payload)]


def told(events: list[CloudEvent]) -> list[tuple[str, str]]:
    return [(event.type, event.subject) for event in events]


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("bucket", []),
        ("put", [(CREATED, AWKWARD)]),
        ("overwrite", [(CREATED, AWKWARD)]),
        ("overwrite_same", [(CREATED, AWKWARD)]),
        ("tags", []),
        ("copy", [(CREATED, "documents/copy.txt")]),
        ("copy_self_meta", []),
        ("empty", [(CREATED, "documents/empty.txt")]),
        ("dir", []),
        ("control", []),
        ("multipart", [(CREATED, "documents/big.bin")]),
        ("delete", [(REMOVED, AWKWARD)]),
        ("multidelete", [(REMOVED, "documents/copy.txt"), (REMOVED, "documents/empty.txt")]),
    ],
)
def test_seaweedfs_tells_of_content_and_of_nothing_else(step: str, expected: list[tuple[str, str]]) -> None:
    assert sorted(told(seaweed_events(step))) == sorted(expected)  # five deliveries run in parallel


def test_a_rename_in_seaweedfs_is_a_removal_and_a_creation() -> None:
    assert told(seaweed_events("rename"))[1:] == [(REMOVED, "documents/old.txt"), (CREATED, "documents/new.txt")]


def test_an_event_of_seaweedfs_says_what_s3_would() -> None:
    told_of = ObjectEvent.of(seaweed_events("put")[0])
    assert (told_of.bucket, told_of.key, told_of.name) == ("dcoder-acme", AWKWARD, "a b+c/ünï%20.txt")
    assert (told_of.etag, told_of.size, told_of.removed) == ("5d41402abc4b2a76b9719d911017c592", 5, False)
    assert told_of.event.tenant == "acme"


def test_a_multipart_upload_has_the_etag_that_s3_shows() -> None:
    assert ObjectEvent.of(seaweed_events("multipart")[0]).etag.endswith("-2")


def test_the_same_notification_twice_has_the_same_id_and_another_version_has_another() -> None:
    first, again = seaweed_events("put")[0], seaweed_events("put")[0]
    later = [*seaweed_events("overwrite"), *seaweed_events("overwrite_same"), *seaweed_events("delete")]
    assert first.id == again.id
    assert len({first.id, *(event.id for event in later)}) == 4


@pytest.mark.parametrize(
    ("step", "expected"),
    [
        ("put", [(CREATED, "documents/a b+c/ünï%20&.txt")]),
        ("overwrite", [(CREATED, "documents/a b+c/ünï%20&.txt")]),
        ("tags", []),
        ("copy", [("com.amazonaws.s3.ObjectCreated:Copy", "documents/copy.txt")]),
        ("multipart", [("com.amazonaws.s3.ObjectCreated:CompleteMultipartUpload", "documents/big")]),
        ("folder", []),
        ("control", []),
        ("delete", [(REMOVED, "documents/a b+c/ünï%20&.txt")]),
        ("multidelete", [(REMOVED, "documents/big"), (REMOVED, "documents/copy.txt")]),
        ("delete_missing", []),
    ],
)
def test_minio_tells_of_content_and_of_nothing_else(step: str, expected: list[tuple[str, str]]) -> None:
    events = [event for payload in MINIO[step] for event in from_s3(payload)]
    assert sorted(told(events)) == expected
    assert len({event.id for event in events}) == len(events)


def s3_record(key: str, event_name: str = "s3:ObjectCreated:Put", bucket: str = "dcoder-acme") -> dict[str, Any]:
    return {
        "eventVersion": "2.0",
        "eventSource": "minio:s3",
        "awsRegion": "",
        "eventTime": "2026-11-24T12:00:00.123Z",
        "eventName": event_name,
        "responseElements": {"x-amz-request-id": "17A1", "x-amz-id-2": "host"},
        "s3": {
            "bucket": {"name": bucket},
            "object": {"key": quote_plus(key), "size": 5, "eTag": "abc", "sequencer": "17A1B2"},
        },
    }


usable_keys = st.text(min_size=1, max_size=60).filter(lambda key: not key_flaw(key) and not key.endswith("/"))


@given(usable_keys)
def test_a_key_is_decoded_exactly_once(key: str) -> None:
    [event] = from_s3({"Records": [s3_record(key)]})
    assert event.subject == key


@given(usable_keys)
def test_our_own_uploads_and_the_store_speak_of_the_same_object(key: str) -> None:
    own = ObjectEvent.of(uploaded(TenantId("acme"), key, etag='"abc"', size=5, at=AT))
    theirs = ObjectEvent.of(from_s3({"Records": [s3_record(key)]})[0])
    assert (own.bucket, own.key, own.name, own.etag, own.size) == (
        theirs.bucket, theirs.key, theirs.name, theirs.etag, theirs.size,
    )  # fmt: skip
    assert ObjectEvent.of(removed(TenantId("acme"), key, at=AT)).removed


def test_objects_of_one_multi_delete_have_ids_of_their_own() -> None:
    records = [s3_record(f"documents/{n}", "ObjectRemoved:Delete") for n in range(3)]
    assert len({event.id for event in from_s3({"Records": records})}) == 3


@pytest.mark.parametrize("key", ["documents/../x", "a/./b", "/a", "a//b", "a\x01b", "a\nb", "é" * 451, "folder/"])
def test_a_key_that_means_another_path_somewhere_is_dropped(key: str) -> None:
    assert from_s3({"Records": [s3_record(key)]}) == []


@pytest.mark.parametrize("bucket", ["other", "dcoder-", "dcoder-platform", "dcoder-UP", "dcoder-a--b"])
def test_a_bucket_of_no_tenant_is_dropped(bucket: str) -> None:
    assert from_s3({"Records": [s3_record("documents/a", bucket=bucket)]}) == []


def test_a_configuration_test_gives_no_events() -> None:
    assert from_s3({"Service": "Amazon S3", "Event": "s3:TestEvent", "Bucket": "dcoder-acme"}) == []


def test_a_delete_marker_removes_the_object_that_readers_see() -> None:
    [event] = from_s3({"Records": [s3_record("documents/a", "s3:ObjectRemoved:DeleteMarkerCreated")]})
    assert ObjectEvent.of(event).removed


def test_reads_tags_and_deletions_of_nothing_are_no_changes_of_content() -> None:
    names = ["s3:ObjectAccessed:Get", "s3:ObjectCreated:PutTagging", "s3:ObjectTagging:Put", "s3:ObjectRemoved:NoOP"]
    assert from_s3({"Records": [s3_record("documents/a", name) for name in names]}) == []


@pytest.mark.parametrize(
    "payload", [None, [], "x", {"Records": 1}, {"Records": [1]}, {"Records": [{}]}, {"Records": [None]}]
)
def test_a_broken_s3_notification_is_malformed(payload: Any) -> None:
    with pytest.raises(Malformed):
        from_s3(payload)


@given(st.data())
def test_a_mutilated_seaweedfs_notification_is_malformed_or_gives_valid_events(data: st.DataObject) -> None:
    payload = copy.deepcopy(data.draw(st.sampled_from([one for step in SEAWEEDFS.values() for one in step])))
    holder = data.draw(st.sampled_from(dictionaries(payload)))
    name = data.draw(st.sampled_from(sorted(holder)))
    holder[name] = data.draw(st.none() | st.integers() | st.text(max_size=5) | st.lists(st.integers(), max_size=2))
    try:
        events = from_seaweedfs(payload)
    except Malformed:
        return
    assert all(ObjectEvent.of(event).bucket for event in events)


def dictionaries(value: Any) -> list[dict[str, Any]]:
    if isinstance(value, dict):
        inner = [found for child in value.values() for found in dictionaries(child)]
        return [value, *inner] if value else inner
    return [found for child in value for found in dictionaries(child)] if isinstance(value, list) else []
