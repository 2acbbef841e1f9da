"""Changes of bodies by paths."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator
from typing import Any

import pytest

from shared.llm.transforms import Transform

CHUNK = {"model": "m", "choices": [{"delta": {"content": "a", "thought": "b"}}, {"delta": {"content": "c"}}, "odd"]}


@pytest.mark.parametrize(
    ("transform", "becomes"),
    [
        (Transform({"model": "ours"}), {**CHUNK, "model": "ours"}),
        (Transform(without=("model", "nothing", "choices.*.nothing.x")), {"choices": CHUNK["choices"]}),
        (
            Transform(without=("choices.*.delta.thought",)),
            {"model": "m", "choices": [{"delta": {"content": "a"}}, {"delta": {"content": "c"}}, "odd"]},
        ),
        (Transform({"message.model": "ours", "model.x": 1}), CHUNK),  # nothing there that would hold them
        (Transform({"model": None}, ("model",)), {**CHUNK, "model": None}),  # taken away first
    ],
)
def test_members_are_set_and_taken_away(transform: Transform, becomes: dict[str, Any]) -> None:  # Any: JSON
    assert transform.of(json.loads(json.dumps(CHUNK))) == becomes
    assert json.loads(transform.of_bytes(json.dumps(CHUNK).encode())) == becomes


@pytest.mark.parametrize("body", [b"", b"[1]", b"no JSON", b'{"error": {"message": "x"}, "model": "m"}', b"\xff"])
def test_what_is_no_object_or_tells_an_error_stays(body: bytes) -> None:
    assert Transform({"model": "ours"}).of_bytes(body) is body


@pytest.mark.parametrize("size", [1, 7, 1000])
async def test_each_event_of_a_stream_is_changed_however_it_comes(size: int) -> None:
    sent = (
        b'event: message_start\r\ndata: {"message": {"model": "m"}}\r\n\r\n'
        b": ping\n\n"
        b'data: {"model": "m", "text": "\\ud83d"}\n\n'
        b'data: {"error": {"message": "m"}, "model": "m"}\n\n'
        b"data: [DONE]\n\n"
    )

    async def pieces() -> AsyncGenerator[bytes, None]:
        for place in range(0, len(sent), size):
            yield sent[place : place + size]

    changed = Transform({"model": "ours", "message.model": "ours"}).of_stream(pieces())
    assert b"".join([piece async for piece in changed]) == (
        b'event: message_start\ndata: {"message": {"model": "ours"}, "model": "ours"}\n\n'
        b": ping\n\n"
        b'data: {"model": "ours", "text": "\\ud83d"}\n\n'
        b'data: {"error": {"message": "m"}, "model": "m"}\n\n'
        b"data: [DONE]\n\n"
    )
