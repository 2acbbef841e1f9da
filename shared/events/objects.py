"""What a handler of `ObjectCreated` or `ObjectRemoved` is given."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import Malformed
from shared.events.cloudevent import CloudEvent

CREATED = "com.amazonaws.s3.ObjectCreated:"
REMOVED = "com.amazonaws.s3.ObjectRemoved:"


@dataclass(frozen=True)
class ObjectEvent:
    """A hint that an object changed. The object's current state is what counts: read it.

    `key` is the whole key, `name` the key without its first segment: documents/a/b.md → a/b.md.
    """

    event: CloudEvent
    bucket: str
    key: str
    name: str
    etag: str
    size: int
    removed: bool

    @classmethod
    def of(cls, event: CloudEvent) -> ObjectEvent:
        """Read an event of the CloudEvents S3 mapping. Raises `Malformed` when it is none."""
        if not event.type.startswith((CREATED, REMOVED)):
            raise Malformed(f"event {event.id!r} of type {event.type!r} is not about an object")
        try:
            record = event.data["s3"]
            bucket, described = str(record["bucket"]["name"]), record["object"]
            etag, size = str(described.get("eTag", "")), int(described.get("size", 0))
        except (KeyError, TypeError, ValueError, AttributeError) as flaw:
            raise Malformed(f"event {event.id!r} holds no S3 record") from flaw
        return cls(
            event=event,
            bucket=bucket,
            key=event.subject,
            name=event.subject.partition("/")[2],
            etag=etag,
            size=size,
            removed=event.type.startswith(REMOVED),
        )
