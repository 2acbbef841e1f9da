"""The texts of a conversation that may be shortened, in the order in which they stand: what tools returned, and what
users sent. In OpenAI's dialect results are messages of the role `tool`, in that of its responses items
`function_call_output`, in Anthropic's blocks `tool_result`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

Json = Any  # Any: JSON of the caller's
Path = tuple[int | str, ...]
RESULT_ROLES = ("tool", "function")
TEXT = "text"
TEXTS = (TEXT, "input_text")
BY_MODELS = ("function_call", "custom_tool_call", "reasoning")
RESULTS = ("function_call_output", "custom_tool_call_output")
"""Types of a response's items."""


@dataclass(frozen=True)
class Piece:
    """One text. `path`: where it stands in the messages. `round`: how many answers of the model come before it.
    `tool`: the name of the tool that returned it, empty where nobody says it."""

    kind: Literal["result", "user"]
    path: Path
    text: str
    round: int
    tool: str = ""


def pieces_of(messages: Sequence[Json]) -> Iterator[Piece]:
    """In all dialects: what one of them does not have is not found."""
    names: dict[str, str] = {}
    answers, by_model = 0, False
    for index, message in enumerate(messages):
        if not isinstance(message, dict):
            continue
        role, content, kind = message.get("role"), message.get("content"), message.get("type")
        was_by_model, by_model = by_model, role == "assistant" or kind in BY_MODELS
        if by_model:
            answers += not was_by_model  # a response's answer is several items
            names.update(called(message))
        elif kind in RESULTS:
            yield from result(
                (index, "output"), message.get("output"), answers, names.get(str(message.get("call_id")), "")
            )
        elif role in RESULT_ROLES:
            tool = names.get(str(message.get("tool_call_id")), str(message.get("name") or ""))
            yield from result((index, "content"), content, answers, tool)
        elif role == "user":
            yield from of_user((index, "content"), content, answers, names)


def called(message: Mapping[str, Json]) -> Iterator[tuple[str, str]]:
    """Ids and names of the tools that the model called."""
    if message.get("call_id"):
        yield str(message["call_id"]), str(message.get("name") or "")
    for call in listed(message.get("tool_calls")):
        function = call.get("function")
        if isinstance(function, dict):
            yield str(call.get("id")), str(function.get("name") or "")
    for block in listed(message.get("content")):
        if block.get("type") == "tool_use":
            yield str(block.get("id")), str(block.get("name") or "")


def result(path: Path, content: Json, answers: int, tool: str) -> Iterator[Piece]:
    for place, text in texts(path, content):
        yield Piece("result", place, text, answers, tool)


def of_user(path: Path, content: Json, answers: int, names: Mapping[str, str]) -> Iterator[Piece]:
    for place, text in texts(path, content):
        yield Piece("user", place, text, answers)
    if isinstance(content, list):
        for index, block in enumerate(content):
            if isinstance(block, dict) and block.get("type") == "tool_result":
                tool = names.get(str(block.get("tool_use_id")), "")
                yield from result((*path, index, "content"), block.get("content"), answers, tool)


def texts(path: Path, content: Json) -> Iterator[tuple[Path, str]]:
    """The content as a string, or its parts that are text."""
    if isinstance(content, str):
        yield path, content
    elif isinstance(content, list):
        for index, part in enumerate(content):
            if isinstance(part, dict) and part.get("type") in TEXTS and isinstance(part.get(TEXT), str):
                yield (*path, index, TEXT), part[TEXT]


def listed(value: Json) -> Iterator[Mapping[str, Json]]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))


def replaced(value: Json, changes: Mapping[Path, str]) -> Json:
    """The value with other texts in these places. What does not change is shared with it."""
    if not changes:
        return value
    if () in changes:
        return changes[()]
    inside: dict[int | str, dict[Path, str]] = {}
    for path, text in changes.items():
        inside.setdefault(path[0], {})[path[1:]] = text
    copy = dict(value) if isinstance(value, dict) else list(value)
    for member, below in inside.items():
        copy[member] = replaced(value[member], below)  # type: ignore[index]  # a path leads through what was found
    return copy
