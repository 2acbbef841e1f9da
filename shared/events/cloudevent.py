"""The CloudEvents 1.0 type and its JSON format (cloudevents/spec v1.0.2, formats/json-format.md).

Stricter than the specification where the platform depends on it: `time` and the extension `tenant` are required,
data is JSON, and every attribute has a bound. What is refused is refused by name, as `Malformed`.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from shared.errors import Malformed, UnsupportedMediaType
from shared.ids import PLATFORM, TenantId, tenant_id

SPECVERSION = "1.0"
JSON_CONTENT = "application/json"
ATTRIBUTE_CHARS_MAX = 1024
SUBJECT_CHARS_MAX = 2048
EXTENSION_CHARS_MAX = 4096
EXTENSIONS_MAX = 32
DEPTH_MAX = 64

CORE = ("id", "source", "type", "subject", "tenant", "time")
NAME = re.compile(r"[a-z0-9]{1,32}")
TIMESTAMP = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(?P<fraction>\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)")
# Control characters, lone surrogates and noncharacters are outside of the type String.
FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")

JSON = Any  # a JSON value; recursive aliases cost every reader more than they tell


@dataclass(frozen=True)
class CloudEvent:
    """An event: what happened (`type`) to which thing (`subject`) of which tenant. `id` is unique across sources."""

    id: str
    source: str
    type: str
    subject: str
    tenant: TenantId
    time: datetime
    data: JSON
    extensions: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in ("id", "source", "type"):
            text_attribute(name, getattr(self, name), required=True)
        text_attribute("subject", self.subject, chars_max=SUBJECT_CHARS_MAX)
        checked_tenant(self.tenant)
        if self.time.tzinfo is None:
            raise Malformed(f"event {self.id!r}: time {self.time} has no zone")
        check_extensions(self.extensions)

    def attributes(self) -> dict[str, str]:
        """Every context attribute but `datacontenttype`, as text. An empty subject is absent."""
        attributes = {"specversion": SPECVERSION, "id": self.id, "source": self.source, "type": self.type}
        if self.subject:
            attributes["subject"] = self.subject
        return {**attributes, "time": rendered_time(self.time), "tenant": str(self.tenant), **self.extensions}

    def to_json(self) -> dict[str, JSON]:
        """The structured form, as a JSON object."""
        return {**self.attributes(), "datacontenttype": JSON_CONTENT, "data": self.data}

    @classmethod
    def from_json(cls, document: JSON) -> CloudEvent:
        """Read the structured form: a parsed object, or its text. Raises `Malformed`."""
        if isinstance(document, str | bytes):
            document = parsed_json(document)
        if not isinstance(document, dict):
            raise Malformed(f"an event is a JSON object, not {type(document).__name__}")
        attributes = {name: value for name, value in document.items() if name not in ("data", "data_base64")}
        return event_of(attributes, data_of(document))

    def data_digest(self) -> str:
        """SHA-256 of the data in one fixed JSON spelling, hexadecimal."""
        spelled = json.dumps(self.data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
        return hashlib.sha256(spelled.encode()).hexdigest()


def event_of(attributes: Mapping[str, JSON], data: JSON) -> CloudEvent:
    """Build an event from its attributes. `datacontenttype`, when present, must say JSON."""
    version = attributes.get("specversion")
    if version != SPECVERSION:
        raise Malformed(f"specversion {version!r} is not supported; expected {SPECVERSION!r}")
    content_type = attributes.get("datacontenttype") or JSON_CONTENT
    if not isinstance(content_type, str) or not is_json(content_type):
        raise UnsupportedMediaType(f"datacontenttype {content_type!r} is not JSON")
    known = {*CORE, "specversion", "datacontenttype"}
    extensions = {
        name: extension_text(name, value)
        for name, value in attributes.items()
        if name not in known and value is not None
    }
    texts = {name: text_attribute(name, attributes.get(name, ""), chars_max=SUBJECT_CHARS_MAX) for name in CORE}
    return CloudEvent(
        id=texts["id"],
        source=texts["source"],
        type=texts["type"],
        subject=texts["subject"],
        tenant=checked_tenant(texts["tenant"]),
        time=parsed_time(texts["time"]),
        data=data,
        extensions=extensions,
    )


def data_of(document: Mapping[str, JSON]) -> JSON:
    """`data`, or `data_base64` decoded as JSON; None when there is neither. Raises `Malformed` for both."""
    if "data_base64" not in document:
        return document.get("data")
    if "data" in document:
        raise Malformed("an event has data or data_base64, not both")
    try:
        return parsed_json(base64.b64decode(str(document["data_base64"]), validate=True))
    except (binascii.Error, ValueError) as flaw:
        raise Malformed("data_base64 is not base64") from flaw


def parsed_json(text: str | bytes) -> JSON:
    """Parse JSON as RFC 8259 has it: UTF-8, no NaN, no infinities, no name twice, a bounded depth."""
    try:
        value = json.loads(text, parse_constant=refuse_constant, object_pairs_hook=unique_pairs)
        check_depth(value, DEPTH_MAX)
    except (ValueError, RecursionError) as flaw:
        raise Malformed(f"not valid JSON: {flaw}"[:200]) from flaw
    return value


def refuse_constant(name: str) -> JSON:
    raise ValueError(f"{name} is no JSON number")


def unique_pairs(pairs: list[tuple[str, JSON]]) -> dict[str, JSON]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("an object has the same name twice")
    return found


def check_depth(value: JSON, left: int) -> None:
    if left < 0:
        raise ValueError(f"nested deeper than {DEPTH_MAX}")
    for child in value.values() if isinstance(value, dict) else value if isinstance(value, list) else ():
        check_depth(child, left - 1)


def text_attribute(name: str, value: JSON, *, required: bool = False, chars_max: int = ATTRIBUTE_CHARS_MAX) -> str:
    """Check a String attribute. Raises `Malformed` naming it."""
    if not isinstance(value, str):
        raise Malformed(f"attribute {name!r} is text, not {type(value).__name__}")
    if required and not value:
        raise Malformed(f"attribute {name!r} is missing")
    if len(value) > chars_max:
        raise Malformed(f"attribute {name!r} has {len(value)} characters; at most {chars_max}")
    if FORBIDDEN.search(value):
        raise Malformed(f"attribute {name!r} has a control character or a lone surrogate: {value[:80]!r}")
    return value


def extension_text(name: str, value: JSON) -> str:
    """An extension's value as text: strings as they are, integers and booleans in their canonical form."""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        return str(value)
    return text_attribute(name, value, chars_max=EXTENSION_CHARS_MAX)


def check_extensions(extensions: Mapping[str, str]) -> None:
    if len(extensions) > EXTENSIONS_MAX:
        raise Malformed(f"{len(extensions)} extension attributes; at most {EXTENSIONS_MAX}")
    for name, value in extensions.items():
        if not NAME.fullmatch(name) or name in CORE:
            raise Malformed(f"{name[:64]!r} cannot name an extension: 1 to 32 of a-z and 0-9, none of {CORE}")
        text_attribute(name, value, chars_max=EXTENSION_CHARS_MAX)


def checked_tenant(text: str) -> TenantId:
    """A tenant's name or `platform`. Raises `Malformed` when it is missing, `Invalid` when it is no name."""
    if not text:
        raise Malformed("attribute 'tenant' is missing")
    return PLATFORM if text == PLATFORM else tenant_id(text)


def parsed_time(text: str) -> datetime:
    """An RFC 3339 timestamp as aware UTC; what is finer than a microsecond is cut off. Raises `Malformed`."""
    match = TIMESTAMP.fullmatch(text)
    if match is None:
        raise Malformed(f"time {text[:64]!r} is not an RFC 3339 timestamp" if text else "attribute 'time' is missing")
    fraction = match["fraction"] or ""
    try:
        return datetime.fromisoformat(text.upper().replace(fraction, fraction[:7], 1)).astimezone(UTC)
    except (ValueError, OverflowError) as flaw:
        raise Malformed(f"time {text!r} does not exist") from flaw


def rendered_time(time: datetime) -> str:
    return time.astimezone(UTC).isoformat().replace("+00:00", "Z")


def is_json(content_type: str) -> bool:
    media = content_type.partition(";")[0].strip().lower()
    return media == JSON_CONTENT or media == "text/json" or media.endswith("+json")
