"""A chat's stream as the events of a response.

Source: OpenAI's API reference, "Streaming events" of responses: each item is announced, grows part by part, and is told
whole when it is done; the last event tells the whole response.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from functions.gateway.llm.responses.replies import (
    Reply,
    call_item,
    first_of,
    logprobs_in,
    message_item,
    new_id,
    object_of,
    reasoning_item,
    text_part,
    usage_of,
)
from shared.llm.usage import json_object

Json = dict[str, Any]  # Any: JSON
TEXT, REFUSAL, REASONING = "output_text", "refusal", "reasoning_text"
HOLDS = {TEXT: "text", REFUSAL: "refusal", REASONING: "text"}
"""The member of a part that holds its text."""


@dataclass
class Part:
    """A part of an item that grows."""

    kind: str
    place: int
    texts: list[str] = field(default_factory=list)
    logprobs: list[Json] = field(default_factory=list)

    @property
    def text(self) -> str:
        return "".join(self.texts)

    def document(self) -> Json:
        if self.kind == TEXT:
            return text_part(self.text, self.logprobs)
        return {"type": self.kind, HOLDS[self.kind]: self.text}


@dataclass
class Growing:
    """An item that grows: a message or what was thought. One part grows at a time."""

    id: str
    place: int
    is_message: bool
    parts: list[Part] = field(default_factory=list)
    more: Json = field(default_factory=dict)

    def document(self, status: str) -> Json:
        if self.is_message:
            return message_item(self.id, [one.document() for one in self.parts], status) | self.more
        return reasoning_item(self.id, "".join(one.text for one in self.parts), status)


@dataclass
class Calling:
    """A call of a function whose arguments grow. Several grow at once."""

    id: str
    place: int
    told: Json
    arguments: list[str] = field(default_factory=list)

    def document(self, status: str) -> Json:
        return call_item(self.id, {**self.told, "arguments": "".join(self.arguments)}, status)


@dataclass
class Writer:
    """One response's events."""

    reply: Reply
    error: Json | None = None
    """What the chat's stream told of a failure: it ends there."""
    _number: int = 0
    _open: Growing | None = None
    _calls: dict[int, Calling] = field(default_factory=dict)
    _items: list[Json] = field(default_factory=list)

    def begin(self) -> bytes:
        begun = {"response": self.reply.document("in_progress")}
        return self._event("response.created", begun) + self._event("response.in_progress", begun)

    def take(self, data: bytes) -> bytes:
        """What one event of the chat's stream becomes."""
        content = json_object(data)
        if isinstance(error := content.get("error"), dict):
            self.error = error
            return b""
        if told := usage_of(content.get("usage")):
            self.reply.usage = told
        first = first_of(content.get("choices"))
        if first.get("index", 0) != 0:
            return b""
        self.reply.finish = str(first.get("finish_reason") or self.reply.finish)
        return b"".join(self._grown(object_of(first.get("delta")), logprobs_in(first.get("logprobs"))))

    def done(self) -> bytes:
        """The ends of all items."""
        status = "incomplete" if self.reply.cut_by else "completed"
        told = b"" if self._items else self._item(is_message=True)  # an answer of no text is one
        told += self._close(status)
        for call in self._calls.values():
            item = call.document(status)
            where = {"item_id": call.id, "output_index": call.place}
            text = {"arguments": item["arguments"], "name": item["name"]}
            told += self._event("response.function_call_arguments.done", {**where, **text})
            told += self._ended(call.place, item)
        self._calls.clear()
        self.reply.output = self._items
        return told

    def end(self, response: Json) -> bytes:
        """The last event: `completed`, `incomplete` or `failed`."""
        return self._event(f"response.{response['status']}", {"response": response})

    def _grown(self, delta: Json, logprobs: list[Json]) -> Iterator[bytes]:
        thought = delta.get("reasoning_content") or delta.get("reasoning")
        for kind, text in ((REASONING, thought), (TEXT, delta.get("content")), (REFUSAL, delta.get("refusal"))):
            if isinstance(text, str) and text:
                yield self._more(kind, text, logprobs if kind == TEXT else [])
        if delta.get("citations") and self._open is not None:
            self._open.more["citations"] = delta["citations"]
        calls = delta.get("tool_calls")
        for call in calls if isinstance(calls, list) else []:
            if isinstance(call, dict):
                yield self._called(call)

    def _more(self, kind: str, text: str, logprobs: list[Json]) -> bytes:
        told = b""
        if self._open is None or self._open.is_message is (kind == REASONING):
            told += self._close("completed") + self._item(is_message=kind != REASONING)
        item = self._open
        assert item is not None
        if not item.parts or item.parts[-1].kind != kind:
            told += self._part_done() + self._part(kind)
        part = item.parts[-1]
        part.texts.append(text)
        part.logprobs += logprobs
        grown = {"logprobs": logprobs} if kind == TEXT else {}
        return told + self._event(f"response.{kind}.delta", {**self._where(), "delta": text, **grown})

    def _item(self, *, is_message: bool) -> bytes:
        self._open = Growing(new_id("msg" if is_message else "rs"), len(self._items), is_message)
        self._items.append({})
        return self._added(self._open.place, self._open.document("in_progress"))

    def _part(self, kind: str) -> bytes:
        assert self._open is not None
        part = Part(kind, len(self._open.parts))
        self._open.parts.append(part)
        return self._event("response.content_part.added", {**self._where(), "part": part.document()})

    def _part_done(self) -> bytes:
        if self._open is None or not self._open.parts:
            return b""
        part = self._open.parts[-1]
        whole = {HOLDS[part.kind]: part.text, **({"logprobs": part.logprobs} if part.kind == TEXT else {})}
        told = self._event(f"response.{part.kind}.done", {**self._where(), **whole})
        return told + self._event("response.content_part.done", {**self._where(), "part": part.document()})

    def _close(self, status: str) -> bytes:
        """The end of what grows, if anything does."""
        if self._open is None:
            return b""
        told = self._part_done()
        item, self._open = self._open, None
        return told + self._ended(item.place, item.document(status))

    def _called(self, call: Json) -> bytes:
        index = call.get("index", 0)
        function = object_of(call.get("function"))
        told = b""
        if index not in self._calls:
            told += self._close("completed")
            named = {"call_id": call.get("id"), "name": function.get("name")}
            made = self._calls[index] = Calling(new_id("fc"), len(self._items), named)
            self._items.append({})
            told += self._added(made.place, made.document("in_progress"))
        made, text = self._calls[index], function.get("arguments")
        if isinstance(text, str) and text:
            made.arguments.append(text)
            grown = {"item_id": made.id, "output_index": made.place, "delta": text}
            told += self._event("response.function_call_arguments.delta", grown)
        return told

    def _where(self) -> Json:
        assert self._open is not None
        part = self._open.parts[-1].place
        return {"item_id": self._open.id, "output_index": self._open.place, "content_index": part}

    def _added(self, place: int, item: Json) -> bytes:
        return self._event("response.output_item.added", {"output_index": place, "item": item})

    def _ended(self, place: int, item: Json) -> bytes:
        self._items[place] = item
        return self._event("response.output_item.done", {"output_index": place, "item": item})

    def _event(self, kind: str, content: Json) -> bytes:
        told = {"type": kind, "sequence_number": self._number, **content}
        self._number += 1
        return f"event: {kind}\ndata: {json.dumps(told)}\n\n".encode()  # ASCII: half a surrogate pair stays one
