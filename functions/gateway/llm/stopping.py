"""A stream that is reserved as it goes, and ends between two events where a limit has no more room for it.

What it has delivered is known only when the provider says what it used, at the end. Until then its text is counted in
bytes: a token of a byte-level tokenizer has at least one. So it never uses more than is reserved, and one that is
stopped is charged for the bytes that were delivered.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from functions.gateway.llm.settlement import Settlement
from shared.llm import sse
from shared.llm.usage import json_object
from shared.quotas.limits import Quota
from shared.telemetry import log
from shared.usage import Tokens

PIECE_OUTPUT = 1024
"""Output tokens that are reserved at a time."""
UNWRITTEN = frozenset({"type", "role", "id", "index", "finish_reason", "object"})
"""Members of a delta that no model has written."""
Json = dict[str, Any]  # Any: JSON of the provider's


class Ending(Protocol):
    """How a dialect ends a stream before its model has, in a form that SDKs take for an answer cut at its length."""

    def written(self, data: bytes) -> int:
        """The bytes of text in an event that is about to be delivered."""

    def end(self, quota: Quota, written: int) -> bytes:
        """The events after the last one that is delivered."""


@dataclass
class Room:
    """How much a stream may still deliver."""

    settlement: Settlement
    ending: Ending
    delivered: int = 0
    stopped_by: Quota | None = None

    async def takes(self, data: bytes) -> bool:
        """Whether there is room for the event. Raises `Unavailable` when that cannot be found out."""
        size = self.ending.written(data)
        if size and not await self._reserved(self.delivered + size):
            return False
        self.delivered += size
        return True

    def end(self) -> bytes:
        """The events with which the stream ends. It is charged for what was delivered."""
        assert self.stopped_by is not None
        metered = self.settlement.metered
        self.settlement.meter.delivered(metered, Tokens(metered.most.input, self.delivered))
        log("stream_stopped", request_id=metered.call.request_id, quota=self.stopped_by.id, delivered=self.delivered)
        return self.ending.end(self.stopped_by, self.delivered)

    async def _reserved(self, output: int) -> bool:
        """Whether so much output is reserved, or all that the provider was allowed, which is the most it sends."""
        metered = self.settlement.metered
        while metered.most.output < min(output, metered.whole.output):
            missing = metered.whole.output - metered.most.output
            self.stopped_by = await self.settlement.meter.extend(metered, min(PIECE_OUTPUT, missing))
            if self.stopped_by is not None:
                return False
        return True


async def within(room: Room, events: Sequence[sse.Event]) -> bytes:
    """The events for which there is room, and the stream's end after the last of them when there is none."""
    passed = []
    for event in events:
        if not await room.takes(event.data):
            passed.append(room.end())
            break
        passed.append(event.raw)
    return b"".join(passed)


@dataclass
class OpenAiEnding:
    """Of chat completions and text completions: each answer that is being written ends with `length`, then `[DONE]`."""

    _head: Json = field(default_factory=dict)
    _open: dict[int, bool] = field(default_factory=dict)
    """By an answer's index, whether it is being written."""

    def written(self, data: bytes) -> int:
        content = json_object(data)
        choices = content.get("choices")
        if not isinstance(choices, list):
            return 0
        self._head = {name: content[name] for name in ("id", "object", "created", "model") if name in content}
        size = 0
        for choice in (one for one in choices if isinstance(one, dict)):
            index = choice.get("index")
            if isinstance(index, int):
                self._open[index] = choice.get("finish_reason") is None
            size += text_bytes(choice.get("delta", choice.get("text")))
        return size

    def end(self, quota: Quota, written: int) -> bytes:
        of_text = self._head.get("object") == "text_completion"
        rest: Json = {"text": ""} if of_text else {"delta": {}}
        events = [
            sse.encode(json.dumps(self._chunk({"index": index, **rest, "finish_reason": "length"}, quota)))
            for index, is_open in sorted(self._open.items())
            if is_open
        ]
        return b"".join([*events, sse.encode("[DONE]")])

    def _chunk(self, choice: Json, quota: Quota) -> Json:
        return {**self._head, "choices": [choice], "dcoder": stopped_by(quota)}


@dataclass
class AnthropicEnding:
    """Of messages: the block that is being written ends, and the message with `max_tokens`."""

    _block: int | None = None

    def written(self, data: bytes) -> int:
        if b'"content_block_' not in data:
            return 0
        content = json_object(data)
        match content.get("type"):
            case "content_block_start":
                index = content.get("index")
                self._block = index if isinstance(index, int) else None
                return text_bytes(content.get("content_block"))
            case "content_block_delta":
                return text_bytes(content.get("delta"))
            case "content_block_stop":
                self._block = None
        return 0

    def end(self, quota: Quota, written: int) -> bytes:
        delta = {"stop_reason": "max_tokens", "stop_sequence": None}
        message = {"delta": delta, "usage": {"output_tokens": written}, "dcoder": stopped_by(quota)}
        block = [] if self._block is None else [named("content_block_stop", {"index": self._block})]
        return b"".join([*block, named("message_delta", message), named("message_stop", {})])


def named(kind: str, content: Json) -> bytes:
    return f"event: {kind}\n".encode() + sse.encode(json.dumps({"type": kind, **content}))


def stopped_by(quota: Quota) -> Json:
    """What tells a stream that was stopped from one that its model has ended. SDKs keep members they do not know."""
    return {
        "stopped_by": "quota",
        "quota": {"scope": quota.scope, "name": quota.name, "metric": quota.metric, "window": quota.window},
    }


def text_bytes(value: object) -> int:
    """The bytes of the texts in what a model has written."""
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return sum(text_bytes(member) for name, member in value.items() if name not in UNWRITTEN)
    if isinstance(value, list):
        return sum(text_bytes(member) for member in value)
    return 0
