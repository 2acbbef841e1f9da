"""A request for a response as one for a chat completion, and what its members become there.

Sources: OpenAI's API reference, "Create a model response" and "Create chat completion".
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.responses.asked import hosted, items_of
from shared.errors import Malformed

Json = dict[str, Any]  # Any: JSON
OURS = frozenset(
    {
        "model", "input", "instructions", "previous_response_id", "store", "background", "conversation", "prompt",
        "stream", "stream_options", "tools", "tool_choice", "text", "reasoning", "include", "metadata", "truncation",
        "max_tool_calls", "max_output_tokens",
    }
)  # fmt: skip
"""Members that have another form in a chat, or none. The others reach the provider as they are."""
ELSEWHERE = frozenset({"messages", "n", "response_format", "functions", "function_call"})
"""A chat's own members, which would change what was made of a response's."""
LOGPROBS = "message.output_text.logprobs"


def chat_of(wanted: Wanted, earlier: Sequence[Json], *, length: str) -> Wanted:
    """The chat's body. `earlier`: items of the responses that this one goes on from; `length`: the member that limits
    an answer's. Raises `Malformed`."""
    content = wanted.content
    if taken := sorted(ELSEWHERE & content.keys()):
        raise Malformed(f"{taken[0]!r} is a member of a chat completion, not of a response", param=taken[0])
    if content.get("truncation") not in (None, "disabled"):
        raise Malformed("'truncation' is disabled for this model: nothing drops input unseen", param="truncation")
    if kind := hosted(wanted):
        raise Malformed(f"this model's provider runs no tools: {kind[:60]!r} cannot be used", param="tools")
    chat: Json = {name: value for name, value in content.items() if name not in OURS}
    chat |= {"model": wanted.model, "messages": [*instructed(content), *messages_of([*earlier, *items_of(wanted)])]}
    told = {**shaped(content), length: content.get("max_output_tokens")}
    chat |= {name: value for name, value in told.items() if value is not None}
    raw = json.dumps(chat).encode()
    return Wanted(wanted.model, chat, raw)


def instructed(content: Json) -> list[Json]:
    told = content.get("instructions")
    if told is None:
        return []
    if not isinstance(told, str):
        raise Malformed("'instructions' is a text", param="instructions")
    return [{"role": "system", "content": told}]


def shaped(content: Json) -> Json:
    """The members that have another form in a chat."""
    text, reasoning = content.get("text") or {}, content.get("reasoning") or {}
    streamed = content.get("stream") is True
    wants_logprobs = LOGPROBS in (content.get("include") or []) or content.get("top_logprobs")
    return {
        "stream": content.get("stream"),
        "stream_options": {"include_usage": True} if streamed else None,
        "tools": [tool_of(one) for one in content.get("tools") or []] or None,
        "tool_choice": choice_of(content.get("tool_choice")),
        "response_format": format_of(text.get("format")),
        "verbosity": text.get("verbosity"),
        "reasoning_effort": reasoning.get("effort"),
        "logprobs": True if wants_logprobs else None,
    }


def tool_of(tool: Json) -> Json:
    if tool.get("type") != "function":
        raise Malformed("this model's provider takes tools of the type function only", param="tools")
    return {"type": "function", "function": {name: value for name, value in tool.items() if name != "type"}}


def choice_of(choice: object) -> object:
    if choice is None or isinstance(choice, str):
        return choice
    if isinstance(choice, dict) and choice.get("type") == "function":
        return {"type": "function", "function": {"name": choice.get("name")}}
    raise Malformed("'tool_choice' is auto, none, required or one function", param="tool_choice")


def format_of(wanted: object) -> Json | None:
    kind = wanted.get("type") if isinstance(wanted, dict) else None
    if not isinstance(wanted, dict) or kind in (None, "text"):
        return None
    if kind == "json_schema":
        return {"type": kind, kind: {name: value for name, value in wanted.items() if name != "type"}}
    return {"type": kind}


def messages_of(items: Iterable[Json]) -> list[Json]:
    """Messages of these items. Calls of functions belong to the assistant's message before them. Raises `Malformed`."""
    found: list[Json] = []
    for item in items:
        match item.get("type") or "message":
            case "message":
                found.append({"role": item.get("role"), "content": content_of(item)})
            case "function_call":
                last = found[-1] if found and found[-1]["role"] == "assistant" else None
                if last is None:
                    found.append(last := {"role": "assistant", "content": None})
                last.setdefault("tool_calls", []).append(call_of(item))
            case "function_call_output":
                result = {"role": "tool", "tool_call_id": item.get("call_id"), "content": output_of(item)}
                found.append(result)
            case "reasoning":
                continue  # a chat has no place for it: the model thinks anew
            case kind:
                raise Malformed(f"this model takes no items of the type {str(kind)[:60]!r}", param="input")
    return found


def call_of(item: Json) -> Json:
    function = {"name": item.get("name"), "arguments": item.get("arguments")}
    return {"id": item.get("call_id"), "type": "function", "function": function}


def output_of(item: Json) -> object:
    """A tool's result: a text, or parts of text."""
    output = item.get("output")
    return "\n".join(text_of(one) for one in output) if isinstance(output, list) else output


def text_of(part: object) -> str:
    text = part.get("text") if isinstance(part, dict) else None
    if not isinstance(text, str):
        raise Malformed("this model takes text as a tool's output", param="input")
    return text


def content_of(item: Json) -> object:
    """A message's content: a text, or its parts. One part of text is a text, and so are all of the assistant's."""
    content = item.get("content")
    if not isinstance(content, list):
        return content
    parts = [part_of(one) for one in content]
    texts_only = all(part["type"] == "text" for part in parts)
    if texts_only and (len(parts) == 1 or item.get("role") == "assistant"):
        return "".join(part["text"] for part in parts)
    return parts


def part_of(part: object) -> Json:
    """A part in a chat's form. Raises `Malformed` for one that a chat has not."""
    if not isinstance(part, dict):
        raise Malformed("a message's content is a text or a list of parts", param="input")
    match part.get("type"):
        case "input_text" | "output_text" | "text":
            return {"type": "text", "text": text_in(part, "text")}
        case "refusal":
            return {"type": "text", "text": text_in(part, "refusal")}
        case "input_image" if isinstance(part.get("image_url"), str):
            detail = {"detail": part["detail"]} if part.get("detail") else {}
            return {"type": "image_url", "image_url": {"url": part["image_url"], **detail}}
        case "input_file" if isinstance(part.get("file_data"), str):
            return {"type": "file", "file": named(part, ("filename", "file_data"))}
        case "input_audio":
            return {"type": "input_audio", "input_audio": part.get("input_audio")}
    raise Malformed(
        f"this model takes no part of the type {str(part.get('type'))[:60]!r} in this form: send text, an image by"
        " 'image_url', or a file by 'file_data'",
        param="input",
    )


def text_in(part: Mapping[str, object], name: str) -> str:
    text = part.get(name)
    if not isinstance(text, str):
        raise Malformed(f"a part of the type {str(part.get('type'))!r} needs {name!r}", param="input")
    return text


def named(part: Json, names: Iterable[str]) -> Json:
    return {name: part[name] for name in names if name in part}
