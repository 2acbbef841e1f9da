"""What of a request may be said in other words: the text of its last user turn, and nothing else."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from shared.llm import sse

QUESTION_CHARS_MAX = 600
"""Longer ones would not fit in the embedding model's 256 tokens."""
MARK = "\x00question"
TEXTS = ("text", "input_text")
WHOLE_ENDS = frozenset({"stop", "end_turn", "completed"})
SAID = frozenset({"message", "reasoning"})
"""Types of a response's items that call no tool."""
Json = dict[str, Any]  # Any: JSON of the caller's or the provider's


@dataclass(frozen=True)
class Asked:
    """A question, and all the rest of the body. In `application` the turns before it are left out too."""

    question: str
    rest: Json
    application: Json


def asked_in(body: Mapping[str, Any]) -> Asked | None:  # Any: JSON
    """None when the body does not end with a user's text, or wants what only the same question may be given."""
    if "messages" not in body:
        return asked_in_response(body)
    if body.get("store") or body.get("n") not in (None, 1):
        return None
    return asked_at_end(body, "messages", body["messages"])


def asked_in_response(body: Mapping[str, Any]) -> Asked | None:  # Any: JSON
    """Of a request for a response: its input is a text, or items. What it goes on from is in the scope by its id."""
    given = body.get("input")
    items = [{"role": "user", "content": given}] if isinstance(given, str) else given
    found = asked_at_end(body, "input", items)
    if found is None:
        return None
    application = {name: value for name, value in found.application.items() if name != "previous_response_id"}
    return Asked(found.question, found.rest, application)


def asked_at_end(body: Mapping[str, Any], member: str, messages: object) -> Asked | None:  # Any: JSON
    """In the last of these messages, which are that member of the body."""
    if not isinstance(messages, list) or not messages:
        return None
    last = messages[-1]
    if not isinstance(last, dict) or last.get("role") != "user":
        return None
    found = text_of(last.get("content"))
    if found is None:
        return None
    question, content = found
    if not question.strip() or len(question) > QUESTION_CHARS_MAX or "\x00" in question:
        return None
    turn = {**last, "content": content}
    before = [one for one in messages[:-1] if is_instruction(one)]
    return Asked(
        question.strip(),
        {**body, member: [*messages[:-1], turn]},
        {**body, member: before},
    )


def text_of(content: object) -> tuple[str, object] | None:
    """The last text of a turn, and the turn's content with a mark in its place."""
    if isinstance(content, str):
        return content, MARK
    if not isinstance(content, list) or not content:
        return None
    for place in range(len(content) - 1, -1, -1):
        part = content[place]
        if isinstance(part, dict) and part.get("type") in TEXTS and isinstance(part.get("text"), str):
            return part["text"], [*content[:place], {**part, "text": MARK}, *content[place + 1 :]]
    return None


def is_instruction(message: object) -> bool:
    return isinstance(message, dict) and message.get("role") in ("system", "developer")


def is_for_others(content_type: str, body: bytes) -> bool:
    """Whether an answer may be given to who asked in other words: it ended by itself, and calls no tool."""
    ends = [end for part in parts(content_type, body) for end in ends_in(part)]
    return bool(ends) and all(end in WHOLE_ENDS for end in ends)


def parts(content_type: str, body: bytes) -> Iterator[Json]:
    if not content_type.startswith("text/event-stream"):
        yield from objects(body)
        return
    for event in sse.Events().feed(body):
        yield from objects(event.data)


def objects(data: bytes) -> Iterator[Json]:
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return
    if isinstance(content, dict):
        yield content


def ends_in(part: Json) -> Iterator[str]:
    """Why an answer ended, as its dialect says it; `tool_calls` when it calls one, whatever it says."""
    yield from ends_of_response(part)
    choices = part.get("choices")
    for choice in choices if isinstance(choices, list) else []:
        if isinstance(choice, dict):
            said = choice.get("message") or choice.get("delta")
            if isinstance(said, dict) and (said.get("tool_calls") or said.get("function_call")):
                yield "tool_calls"
            if choice.get("finish_reason"):
                yield str(choice["finish_reason"])
    for holder in (part, part.get("delta")):
        if isinstance(holder, dict) and holder.get("stop_reason"):
            yield str(holder["stop_reason"])


def ends_of_response(part: Json) -> Iterator[str]:
    """Of a response: whole, or in the event that ends its stream."""
    response = part.get("response") if str(part.get("type")).startswith("response.") else part
    if not isinstance(response, dict) or response.get("status") in (None, "queued", "in_progress"):
        return
    output = response.get("output")
    for item in output if isinstance(output, list) else ():
        if not isinstance(item, dict) or item.get("type") not in SAID:
            yield "tool_calls"
    if isinstance(output, list):
        yield str(response["status"])
