"""Notifications of object stores as CloudEvents: SeaweedFS, S3 and MinIO, and our own upload route, one mapping.

The mapping is cloudevents/spec `adapters/aws-s3.md`, with two deviations, both because JetStream and Knative's
brokers deduplicate on the id alone: the id is a hash that also covers source, key and version (objects of one
multi-delete share their request id), and stores without request ids get theirs from bucket, key, ETag and time.

A hint is dropped where no function could use it: folders, multipart parts, SeaweedFS's own bookkeeping, changes of
metadata only, and keys that `key_flaw` names. Reconciling schedules find what hints miss.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal
from urllib.parse import quote_plus, unquote_plus

from shared.errors import Malformed, Problem
from shared.events.cloudevent import JSON, CloudEvent, parsed_time, rendered_time
from shared.ids import TenantId, tenant_id
from shared.objects import BUCKET_PREFIX, bucket_of, key_flaw

TYPE_PREFIX = "com.amazonaws.s3."
RECORDS_MAX = 1000
BUCKETS_FOLDER = "/buckets/"
SEAWEED_SOURCE = "seaweedfs:s3"
OWN_SOURCE = "dcoder:s3"
PRIVATE_FOLDERS = frozenset({".uploads", ".system", ".versions"})
NANOSECONDS = 1_000_000_000
CONTENT_UNCHANGED = frozenset({"PutTagging", "DeleteTagging", "PutRetention", "PutLegalHold", "PutACL", "NoOP"})
"""What MinIO files under ObjectCreated and ObjectRemoved although no content came or went."""


@dataclass(frozen=True)
class Change:
    """One object's change, whichever store told of it. `proof` are the store's own words that make it unique."""

    kind: Literal["ObjectCreated", "ObjectRemoved"]
    action: str
    bucket: str
    key: str
    etag: str
    size: int
    time: datetime
    source: str
    region: str = ""
    proof: tuple[str, ...] = ()


def to_event(change: Change) -> CloudEvent | None:
    """The change as an event, or None where the bucket is no tenant's or the key is unusable."""
    tenant = tenant_of(change.bucket)
    if tenant is None or key_flaw(change.key) or change.key.endswith("/"):
        return None
    name = f"{change.kind}:{change.action}"
    source = f"{change.source}.{change.region}.{change.bucket}"
    return CloudEvent(
        id=event_id(source, name, change),
        source=source,
        type=TYPE_PREFIX + name,
        subject=change.key,
        tenant=tenant,
        time=change.time,
        data=record_of(change, name),
    )


def event_id(source: str, name: str, change: Change) -> str:
    parts = (source, name, change.key, change.etag, *change.proof)
    digest = hashlib.sha256(b"".join(len(part.encode()).to_bytes(4) + part.encode() for part in parts))
    return f"s3-{digest.hexdigest()[:40]}"


def record_of(change: Change, name: str) -> dict[str, JSON]:
    """The S3 record (event structure 2.1), reduced to what every store can tell. Its key is form-encoded."""
    described: dict[str, JSON] = {"key": quote_plus(change.key, safe="/"), "eTag": change.etag, "size": change.size}
    return {
        "eventVersion": "2.1",
        "eventSource": change.source,
        "awsRegion": change.region,
        "eventTime": rendered_time(change.time),
        "eventName": name,
        "s3": {"s3SchemaVersion": "1.0", "bucket": {"name": change.bucket}, "object": described},
    }


def tenant_of(bucket: str) -> TenantId | None:
    """The tenant whose bucket it is, or None."""
    try:
        return tenant_id(bucket.removeprefix(BUCKET_PREFIX)) if bucket.startswith(BUCKET_PREFIX) else None
    except Problem:
        return None


def uploaded(tenant: TenantId, key: str, *, etag: str, size: int, at: datetime) -> CloudEvent:
    """The event of an object that our own upload route wrote. Raises `Malformed` for a key with a flaw."""
    event = to_event(own_change("ObjectCreated", "Put", tenant, key, etag, size, at))
    if event is None:
        raise Malformed(f"{key[:80]!r} is no usable key: {key_flaw(key) or 'it ends with a slash'}")
    return event


def removed(tenant: TenantId, key: str, *, at: datetime) -> CloudEvent:
    """The event of an object that our own route deleted. Raises `Malformed` for a key with a flaw."""
    event = to_event(own_change("ObjectRemoved", "Delete", tenant, key, "", 0, at))
    if event is None:
        raise Malformed(f"{key[:80]!r} is no usable key: {key_flaw(key) or 'it ends with a slash'}")
    return event


def own_change(
    kind: Literal["ObjectCreated", "ObjectRemoved"],
    action: str,
    tenant: TenantId,
    key: str,
    etag: str,
    size: int,
    at: datetime,
) -> Change:
    return Change(
        kind=kind,
        action=action,
        bucket=bucket_of(tenant),
        key=key,
        etag=etag.strip('"'),
        size=size,
        time=at,
        source=OWN_SOURCE,
        proof=(rendered_time(at),),
    )


def from_s3(payload: JSON) -> list[CloudEvent]:
    """The events of an S3 or MinIO notification. A configuration test has no records and gives none."""
    if not isinstance(payload, dict):
        raise Malformed("a notification is a JSON object")
    records = payload.get("Records", [])
    if not isinstance(records, list) or len(records) > RECORDS_MAX:
        raise Malformed(f"Records is a list of at most {RECORDS_MAX}")
    changes = [change_of_record(record) for record in records]
    return [event for change in changes if change is not None and (event := to_event(change)) is not None]


def change_of_record(record: JSON) -> Change | None:
    """Read one S3 record; None for what is neither creation nor removal. Raises `Malformed` for a broken one."""
    try:
        kind, _, action = str(record["eventName"]).removeprefix("s3:").partition(":")
        bucket, described = str(record["s3"]["bucket"]["name"]), record["s3"]["object"]
        if kind not in ("ObjectCreated", "ObjectRemoved") or action in CONTENT_UNCHANGED:
            return None
        return Change(
            kind="ObjectCreated" if kind == "ObjectCreated" else "ObjectRemoved",
            action=action,
            bucket=bucket,
            key=form_decoded(str(described["key"])),
            etag=str(described.get("eTag", "")).strip('"'),
            size=int(described.get("size", 0)),
            time=parsed_time(str(record["eventTime"])),
            source=str(record.get("eventSource", "aws:s3")),
            region=str(record.get("awsRegion", "")),
            proof=proof_of_record(record),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as flaw:
        raise Malformed(f"not an S3 record: {flaw!r}"[:200]) from flaw


def proof_of_record(record: Mapping[str, Any]) -> tuple[str, ...]:
    response = record.get("responseElements") or {}
    described = record["s3"]["object"]
    return (
        str(response.get("x-amz-request-id", "")),
        str(response.get("x-amz-id-2", "")),
        str(described.get("sequencer", "")),
        str(described.get("versionId", "")),
    )


def form_decoded(key: str) -> str:
    """Undo S3's form encoding once: `+` is a space, `%2B` a plus. Raises `ValueError` for what is not UTF-8."""
    return unquote_plus(key, errors="strict")


def from_seaweedfs(payload: JSON) -> list[CloudEvent]:
    """The events of a SeaweedFS 4 filer notification. Its keys are raw UTF-8 and are not decoded at all."""
    try:
        kind, key, message = str(payload["event_type"]), str(payload["key"]), payload["message"]
        old, new = message.get("old_entry"), message.get("new_entry")
        changes = changes_of_filer(kind, key, old, new, str(message.get("new_parent_path", "")))
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, OSError) as flaw:
        raise Malformed(f"not a notification of SeaweedFS's filer: {flaw!r}"[:200]) from flaw
    return [event for change in changes if change is not None and (event := to_event(change)) is not None]


def changes_of_filer(kind: str, path: str, old: JSON, new: JSON, parent: str) -> list[Change | None]:
    """What happened, by the presence and sameness of the old and the new entry rather than by the event's name."""
    if is_folder(old) or is_folder(new):
        return []
    if kind == "rename" or (old and new and f"{parent}/{new['name']}" != path):
        target = f"{parent}/{new['name']}" if parent else path
        return [filer_change("ObjectRemoved", "Delete", path, old), filer_change("ObjectCreated", "Put", target, new)]
    if kind == "delete" or not new:
        return [filer_change("ObjectRemoved", "Delete", path, old or {})]
    if old and content(old) == content(new):
        return []
    return [filer_change("ObjectCreated", "Put", path, new)]


def filer_change(kind: Literal["ObjectCreated", "ObjectRemoved"], action: str, path: str, entry: JSON) -> Change | None:
    """The change of the entry at a filer path, or None outside of a bucket and for the filer's own folders."""
    if not path.startswith(BUCKETS_FOLDER):
        return None
    bucket, _, key = path.removeprefix(BUCKETS_FOLDER).partition("/")
    if not key or bucket in PRIVATE_FOLDERS or key.partition("/")[0] in PRIVATE_FOLDERS:
        return None
    changed_ns = modified_ns(entry)
    return Change(
        kind=kind,
        action=action,
        bucket=bucket,
        key=key,
        etag=etag_of(entry),
        size=int(attributes(entry).get("file_size", 0)),
        time=datetime.fromtimestamp(changed_ns // NANOSECONDS, UTC).replace(microsecond=changed_ns // 1000 % 1_000_000),
        source=SEAWEED_SOURCE,
        proof=(str(changed_ns),),
    )


def is_folder(entry: JSON) -> bool:
    return bool(entry and entry.get("is_directory"))


def attributes(entry: JSON) -> Mapping[str, Any]:
    return (entry or {}).get("attributes") or {}


def etag_of(entry: JSON) -> str:
    """The ETag that S3 shows: stored by the S3 server as base64, or the file's MD5 as the filer keeps it."""
    stored = (entry.get("extended") or {}).get("Seaweed-X-Amz-ETag", "")
    try:
        if stored:
            return base64.b64decode(stored, validate=True).decode("ascii").strip('"')
        return base64.b64decode(str(attributes(entry).get("md5", "")), validate=True).hex()
    except (binascii.Error, UnicodeError) as flaw:
        raise ValueError("the ETag is not base64") from flaw


def modified_ns(entry: JSON) -> int:
    """When the content was written: the newest chunk's time, or for a file without chunks the entry's own."""
    newest = max((int(chunk.get("modified_ts_ns", 0)) for chunk in entry.get("chunks") or []), default=0)
    own = attributes(entry)
    return newest or int(own.get("mtime", 0)) * NANOSECONDS + int(own.get("mtime_ns", 0))


def content(entry: JSON) -> tuple[object, ...]:
    """What tells one content from another: ETag, inline bytes, and each chunk's place."""
    chunks = tuple(
        (
            chunk.get("offset", 0),
            chunk.get("size", 0),
            chunk.get("e_tag", ""),
            str(chunk.get("fid")),
        )
        for chunk in entry.get("chunks") or []
    )
    return etag_of(entry), str(entry.get("content", "")), chunks, *(() if chunks else (modified_ns(entry),))
