"""CloudEvents over HTTP: binary, structured and batch mode (cloudevents/spec v1.0.2, HTTP protocol binding)."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from urllib.parse import quote, unquote_to_bytes

from shared.errors import Malformed, TooLarge, UnsupportedMediaType
from shared.events.cloudevent import JSON_CONTENT, CloudEvent, event_of, is_json, parsed_json

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
BODY_BYTES_MAX = 1024 * 1024
BATCH_EVENTS_MAX = 100
HEADER_PREFIX = "ce-"
# Printable ASCII but space, double quote and percent stays as it is (binding, section 3.1.3.2).
SAFE = "".join(chr(code) for code in range(0x21, 0x7F) if chr(code) not in '"%')
BROKEN_PERCENT = re.compile(r"%(?![0-9A-Fa-f]{2})")

Headers = Mapping[str, str] | Mapping[bytes, bytes]


def from_http(headers: Headers, body: bytes) -> list[CloudEvent]:
    """The events of a request: one, or a batch of at most 100. Raises `Malformed`, `TooLarge` and the like."""
    if len(body) > BODY_BYTES_MAX:
        raise TooLarge(f"the body has {len(body)} bytes; an event has at most {BODY_BYTES_MAX}")
    texts = {decoded(name).lower(): decoded(value) for name, value in headers.items()}
    content_type = texts.get("content-type", "")
    media = content_type.partition(";")[0].strip().lower()
    if media == STRUCTURED:
        return [CloudEvent.from_json(body)]
    if media == BATCH:
        return from_batch(body)
    if media.startswith("application/cloudevents"):
        raise UnsupportedMediaType(f"{media!r} is not supported; send {STRUCTURED} or {BATCH}")
    return [from_binary(texts, content_type, body)]


def from_binary(headers: Mapping[str, str], content_type: str, body: bytes) -> CloudEvent:
    attributes = {
        name.removeprefix(HEADER_PREFIX): header_decoded(name, value)
        for name, value in headers.items()
        if name.startswith(HEADER_PREFIX)
    }
    if "specversion" not in attributes:
        raise Malformed("neither an application/cloudevents+json body nor ce- headers: this is no CloudEvent")
    if "datacontenttype" in attributes:
        raise Malformed("ce-datacontenttype is not a header; the Content-Type says it")
    if body and not is_json(content_type):
        raise UnsupportedMediaType(f"an event's data is JSON, not {content_type or 'of an unnamed type'!r}")
    return event_of(attributes, parsed_json(body) if body else None)


def from_batch(body: bytes) -> list[CloudEvent]:
    documents = parsed_json(body)
    if not isinstance(documents, list):
        raise Malformed("a batch is a JSON array of events")
    if len(documents) > BATCH_EVENTS_MAX:
        raise TooLarge(f"a batch of {len(documents)} events; at most {BATCH_EVENTS_MAX}")
    for document in documents:
        if not isinstance(document, dict):
            raise Malformed("a batch holds events, each a JSON object")
    return [CloudEvent.from_json(document) for document in documents]


def to_http(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """The event in binary mode: headers and body."""
    headers = {HEADER_PREFIX + name: header_encoded(value) for name, value in event.attributes().items()}
    headers["content-type"] = JSON_CONTENT
    return headers, json_bytes(event.data)


def to_structured(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """The event in structured mode: headers and body."""
    return {"content-type": STRUCTURED}, json_bytes(event.to_json())


def to_batch(events: list[CloudEvent]) -> tuple[dict[str, str], bytes]:
    return {"content-type": BATCH}, json_bytes([event.to_json() for event in events])


def json_bytes(value: object) -> bytes:
    return json.dumps(value, separators=(",", ":"), ensure_ascii=True, allow_nan=False).encode()


def header_encoded(value: str) -> str:
    return quote(value, safe=SAFE)


def header_decoded(name: str, value: str) -> str:
    """Undo the percent-encoding once. Raises `Malformed` for what is not UTF-8 or not an encoding."""
    value = value.strip(" \t")
    if len(value) > 1 and value[0] == value[-1] == '"':
        value = re.sub(r"\\(.)", r"\1", value[1:-1])
    if BROKEN_PERCENT.search(value):
        raise Malformed(f"header {name!r} has a percent sign without two hexadecimal digits")
    try:
        return unquote_to_bytes(value.encode("latin-1")).decode("utf-8")
    except UnicodeError as flaw:
        raise Malformed(f"header {name!r} is not percent-encoded UTF-8") from flaw


def decoded(text: str | bytes) -> str:
    return text.decode("latin-1") if isinstance(text, bytes) else text
