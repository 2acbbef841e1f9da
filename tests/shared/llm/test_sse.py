"""Server-sent events: however the bytes are split, the events are the same."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Unavailable
from shared.llm.sse import Event, Events, data_of, encode

LINES = st.sampled_from(
    [
        b"data: a",
        b"data:b",
        b"data: ",
        b"data",
        b": comment",
        b"event: x",
        b"id: 7",
        b"nonsense",
        b"data: \xc3\xa9",
    ]
)
ENDS = st.sampled_from([b"\n", b"\r\n", b"\r"])
STREAMS = st.lists(st.tuples(st.one_of(LINES, st.just(b"")), ENDS), max_size=30).map(
    lambda pairs: b"".join(line + end for line, end in pairs)
)


def events_of(pieces: list[bytes]) -> tuple[list[Event], bytes]:
    events = Events()
    found = [event for piece in pieces for event in events.feed(piece)]
    return found, events.end()


def split(data: bytes, cuts: list[int]) -> list[bytes]:
    places = [0, *sorted({cut % (len(data) + 1) for cut in cuts}), len(data)]
    return [data[start:end] for start, end in pairwise(places)]


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=12))
def test_any_split_of_the_bytes_gives_the_same_events(data: bytes, cuts: list[int]) -> None:
    assert events_of(split(data, cuts)) == events_of([data])


@given(STREAMS)
def test_one_byte_at_a_time_gives_the_same_events(data: bytes) -> None:
    assert events_of([bytes([one]) for one in data]) == events_of([data])


@given(STREAMS, st.lists(st.integers(0, 10_000), max_size=12))
def test_no_byte_is_lost_added_or_moved(data: bytes, cuts: list[int]) -> None:
    found, rest = events_of(split(data, cuts))
    assert b"".join(event.raw for event in found) + rest == data


@given(st.lists(st.tuples(LINES, ENDS), min_size=1, max_size=5), ENDS)
def test_an_event_ends_at_the_first_blank_line(pairs: list[tuple[bytes, bytes]], end: bytes) -> None:
    lines = [line + last for line, last in pairs]
    if pairs[-1][1] == b"\r" and end == b"\n":
        end = b"\r\n"  # CR and LF together would be one line end
    raw = b"".join(lines) + end
    found, rest = events_of([raw + b"data: next\n\n"])
    assert found[0].raw == raw
    assert found[0].data == data_of(raw)
    assert (found[1].data, rest) == (b"next", b"")


@pytest.mark.parametrize(
    ("raw", "data"),
    [
        (b"data: a\n\n", b"a"),
        (b"data:a\r\n\r\n", b"a"),
        (b"data:  a\n\n", b" a"),
        (b"data: a\ndata: b\n\n", b"a\nb"),
        (b"event: x\rdata: a\r\r", b"a"),
        (b": data: a\n\n", b""),
        (b"\xef\xbb\xbfdata: a\n\n", b"a"),
        (b"database: a\n\n", b""),
        (b"data\n\n", b""),
    ],
)
def test_the_data_of_an_event_is_its_data_lines_joined(raw: bytes, data: bytes) -> None:
    assert data_of(raw) == data


def test_an_event_beyond_the_limit_is_refused_before_it_is_whole() -> None:
    events = Events(bytes_max=100)
    assert list(events.feed(b"data: " + b"x" * 90)) == []
    with pytest.raises(Unavailable):
        list(events.feed(b"x" * 10))


def test_many_events_larger_than_the_limit_together_are_fine() -> None:
    events = Events(bytes_max=100)
    assert len(list(events.feed(encode("x" * 50) * 100))) == 100
