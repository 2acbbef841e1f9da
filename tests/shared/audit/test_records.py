"""Canonical bytes of audit records."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from uuid import UUID

import pytest
import rfc8785
from hypothesis import given
from hypothesis import strategies as st

from shared.audit.records import DEPTH_MAX, RECORD_BYTES_MAX, SAFE_INTEGER, canonical
from shared.errors import Fault

AT = datetime(2026, 3, 1, 12, 30, 0, 123456, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-SAFE_INTEGER, SAFE_INTEGER)
    | st.floats(-1e15, 1e15, allow_nan=False)
    | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=12,
)


def bytes_of(details: dict[str, object], *, at: datetime = AT, resource: str = "document/1") -> bytes:
    return canonical(
        record_id=UUID(int=7),
        tenant="acme",
        action="documents.upload",
        resource=resource,
        actor="key:one",
        outcome="done",
        at=at,
        details=details,
    )


def test_the_bytes_are_the_ones_rfc_8785_prescribes() -> None:
    assert bytes_of({"b": 1.0, "a": "é\u0000"}) == (
        b'{"action":"documents.upload","actor":"key:one","at":"2026-03-01T12:30:00.123456+00:00",'
        b'"details":{"a":"\xc3\xa9\\u0000","b":1},"id":"00000000-0000-0000-0000-000000000007","outcome":"done",'
        b'"resource":"document/1","tenant":"acme","v":1}'
    )


@given(st.dictionaries(TEXT, JSON, max_size=4))
def test_reading_the_bytes_and_writing_them_again_changes_nothing(details: dict[str, object]) -> None:
    try:
        record = bytes_of(details)
    except Fault as refused:
        assert "nested deeper" in str(refused)  # noqa: PT017  the one reason that these details can be refused for
        return
    assert rfc8785.dumps(json.loads(record)) == record


@given(st.dictionaries(TEXT, TEXT, min_size=2, max_size=6))
def test_the_order_in_which_details_were_given_does_not_matter(details: dict[str, object]) -> None:
    assert bytes_of(details) == bytes_of(dict(reversed(details.items())))


def test_keys_are_sorted_by_their_utf_16_units() -> None:
    record = bytes_of({"\ue000": 1, "\U0001f600": 2})
    assert record.index("\U0001f600".encode()) < record.index("\ue000".encode())


def test_texts_that_differ_only_in_normalisation_are_kept_apart() -> None:
    assert bytes_of({"name": "\u00e9"}) != bytes_of({"name": "e\u0301"})


def test_a_time_is_written_in_utc_with_microseconds() -> None:
    elsewhere = AT.astimezone(timezone(timedelta(hours=5, minutes=30)))
    assert bytes_of({}, at=elsewhere) == bytes_of({}, at=AT)
    assert b'"2026-03-01T12:30:00.000000+00:00"' in bytes_of({}, at=AT.replace(microsecond=0))


def test_a_request_id_is_part_of_the_record_when_there_is_one() -> None:
    record = canonical(
        record_id=UUID(int=7),
        tenant="acme",
        action="a",
        resource="r",
        actor="k",
        outcome="done",
        at=AT,
        details={},
        request_id="req-1",
    )
    assert json.loads(record)["request_id"] == "req-1"
    assert "request_id" not in json.loads(bytes_of({}))


@pytest.mark.parametrize(
    "value",
    [
        *(2**53, -(2**53), float(2**53), 1e300, float("nan"), float("inf"), -float("inf"), Decimal("1.5")),
        *(AT, b"bytes", UUID(int=1), {1, 2}, ..., "\ud800", {1: "one"}, {"\udc00": 1}),
    ],
    ids=repr,
)
def test_what_json_cannot_carry_exactly_is_refused_and_named(value: object) -> None:
    with pytest.raises(Fault, match=r"record\.details\.list\[1\]"):
        bytes_of({"list": [0, value]})


def test_a_lone_surrogate_in_the_resource_is_refused() -> None:
    with pytest.raises(Fault, match=r"record\.resource has a lone surrogate"):
        bytes_of({}, resource="document/\ud83d")


def test_a_time_without_a_zone_is_refused() -> None:
    with pytest.raises(Fault, match="without a zone"):
        bytes_of({}, at=AT.replace(tzinfo=None))


def test_nesting_has_a_bound() -> None:
    nested: object = 1
    for _ in range(DEPTH_MAX):
        nested = [nested]
    with pytest.raises(Fault, match="nested deeper"):
        bytes_of({"deep": nested})


def test_a_record_has_at_most_sixty_kibibytes() -> None:
    room = RECORD_BYTES_MAX - len(bytes_of({"text": ""}))
    assert len(bytes_of({"text": "x" * room})) == RECORD_BYTES_MAX
    with pytest.raises(Fault, match=f"has {RECORD_BYTES_MAX + 1} bytes"):
        bytes_of({"text": "x" * (room + 1)})
