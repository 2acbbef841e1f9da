"""CloudEvents: what is rendered is read back the same, and what breaks the specification is refused by name."""

from __future__ import annotations

import base64
import json
from datetime import UTC, datetime, timedelta, timezone
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Invalid, Malformed, Problem, TooLarge, UnsupportedMediaType
from shared.events import CloudEvent, from_http, to_http
from shared.events.cloudevent import FORBIDDEN, parsed_time
from shared.events.http import BODY_BYTES_MAX, to_batch, to_structured
from shared.ids import TenantId

AT = datetime(2026, 3, 29, 1, 0, 0, 123456, UTC)


def event(**changes: Any) -> CloudEvent:
    fields: dict[str, Any] = {
        "id": "1",
        "source": "/tests",
        "type": "dcoder.test",
        "subject": "documents/a b.md",
        "tenant": TenantId("acme"),
        "time": AT,
        "data": {"n": 1},
    }
    return CloudEvent(**{**fields, **changes})


texts = st.text(max_size=40).filter(lambda text: not FORBIDDEN.search(text))
full_texts = texts.filter(bool)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=10,
)
extension_names = st.from_regex(r"\A[a-z0-9]{1,20}\Z").filter(
    lambda name: name not in {"id", "source", "type", "subject", "tenant", "time", "specversion", "data"}
)
events = st.builds(
    CloudEvent,
    id=full_texts,
    source=full_texts,
    type=full_texts,
    subject=texts,
    tenant=st.sampled_from([TenantId("acme"), TenantId("platform")]),
    time=st.datetimes(timezones=st.sampled_from([UTC, timezone(timedelta(hours=5, minutes=30))])),
    data=json_values,
    extensions=st.dictionaries(extension_names, texts, max_size=4),
)


@given(events)
def test_binary_mode_brings_back_what_it_was_given(sent: CloudEvent) -> None:
    assert from_http(*to_http(sent)) == [sent]


@given(events)
def test_headers_of_binary_mode_are_printable_ascii(sent: CloudEvent) -> None:
    headers, _ = to_http(sent)
    assert all(0x20 < ord(char) < 0x7F and char != '"' for value in headers.values() for char in value)


@given(st.lists(events, max_size=4))
def test_structured_and_batch_mode_bring_back_what_they_were_given(sent: list[CloudEvent]) -> None:
    assert from_http(*to_batch(sent)) == sent
    assert [from_http(*to_structured(one))[0] for one in sent] == sent


def test_headers_are_read_as_bytes_and_in_any_case() -> None:
    headers, body = to_http(event())
    raw = {name.title().encode(): value.encode() for name, value in headers.items()}
    assert from_http(raw, body) == [event()]


@pytest.mark.parametrize("name", ["id", "source", "type", "specversion", "tenant", "time"])
def test_an_event_without_a_required_attribute_is_refused_naming_it(name: str) -> None:
    headers, body = to_http(event())
    del headers[f"ce-{name}"]
    with pytest.raises(Malformed, match="ce- headers" if name == "specversion" else name):
        from_http(headers, body)


@pytest.mark.parametrize(
    ("change", "error"),
    [
        ({"specversion": "0.3"}, Malformed),
        ({"specversion": "1.1"}, Malformed),
        ({"id": ""}, Malformed),
        ({"id": 7}, Malformed),
        ({"source": "x" * 2000}, Malformed),
        ({"type": "a\nb"}, Malformed),
        ({"subject": "a\x00b"}, Malformed),
        ({"tenant": "Acme!"}, Invalid),
        ({"time": "yesterday"}, Malformed),
        ({"time": 12}, Malformed),
        ({"Upper": "x"}, Malformed),
        ({"extension": {"a": 1}}, Malformed),
        ({"datacontenttype": "text/plain"}, UnsupportedMediaType),
        ({"data_base64": "e30="}, Malformed),
    ],
)
def test_a_broken_attribute_is_refused(change: dict[str, Any], error: type[Problem]) -> None:
    document = json.dumps({**event().to_json(), **change}).encode()
    with pytest.raises(error):
        from_http({"content-type": "application/cloudevents+json"}, document)


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"a": NaN}', b"\xff\xfe", b'{"id":"1","id":"2"}', b"[" * 9999]
)
def test_what_is_no_json_object_is_refused(body: bytes) -> None:
    with pytest.raises(Malformed):
        from_http({"content-type": "application/cloudevents+json"}, body)


def test_an_oversize_body_is_refused_before_it_is_read() -> None:
    with pytest.raises(TooLarge):
        from_http({"content-type": "application/cloudevents+json"}, b" " * (BODY_BYTES_MAX + 1))


def test_a_batch_has_a_bound() -> None:
    with pytest.raises(TooLarge):
        from_http(*to_batch([event()] * 101))


def test_an_event_format_we_do_not_speak_is_named() -> None:
    with pytest.raises(UnsupportedMediaType, match="protobuf"):
        from_http({"content-type": "application/cloudevents+protobuf"}, b"")


@pytest.mark.parametrize("value", ["%zz", "100%", "%ff"])
def test_a_header_that_is_not_percent_encoded_utf8_is_refused(value: str) -> None:
    headers, body = to_http(event())
    with pytest.raises(Malformed, match="ce-subject"):
        from_http({**headers, "ce-subject": value}, body)


def test_a_header_is_decoded_once_only() -> None:
    headers, _ = to_http(event(subject="100%25 ünï"))
    assert headers["ce-subject"] == "100%2525%20%C3%BCn%C3%AF"
    assert from_http(headers, b"{}")[0].subject == "100%25 ünï"


def test_base64_data_is_json_inside() -> None:
    document = event().to_json()
    del document["data"]
    document["data_base64"] = base64.b64encode(b'{"n": 1}').decode()
    assert CloudEvent.from_json(document) == event()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("2026-03-29T03:00:00.123456+02:00", AT),
        ("2026-03-29t01:00:00.123456789z", AT),
        ("2026-03-29T01:00:00Z", AT.replace(microsecond=0)),
    ],
)
def test_timestamps_are_read_as_rfc_3339_has_them(text: str, expected: datetime) -> None:
    assert parsed_time(text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "2026-03-29", "2026-03-29 01:00:00Z", "2026-03-29T01:00:00", "20260329T010000Z", "2026-13-01T00:00:00Z"],
)
def test_other_spellings_of_a_time_are_refused(text: str) -> None:
    with pytest.raises(Malformed):
        parsed_time(text)


@given(json_values)
def test_the_digest_does_not_depend_on_the_spelling_of_the_data(data: Any) -> None:
    spelled_otherwise = json.loads(json.dumps(data, indent=2, sort_keys=True))
    assert event(data=data).data_digest() == event(data=spelled_otherwise).data_digest()
