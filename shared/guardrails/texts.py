"""Where the texts are in requests, answers and streams of the model APIs, each under its JSON Pointer (RFC 6901)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

Json = Any  # Any: JSON of callers and providers
SPOKEN = ("system", "instructions", "messages", "prompt", "input", "choices", "content", "output")
"""Members of a body that hold what was said, in OpenAI's and Anthropic's APIs."""
RESPONSE_DELTAS = {
    "response.output_text.delta": "text",
    "response.reasoning_text.delta": "text",
    "response.refusal.delta": "refusal",
    "response.function_call_arguments.delta": "arguments",
}
"""Events of a response's stream that hold further text, and the member that it is of."""
NOT_TEXT = frozenset({"role", "type", "id", "call_id", "tool_call_id", "name", "model", "url", "data", "file_data"})


def texts(body: Json) -> Iterator[tuple[str, str]]:
    """(pointer, text) of a whole request or answer, in its order."""
    if not isinstance(body, dict):
        return
    waiting = [(f"/{name}", body[name]) for name in reversed(SPOKEN) if name in body]
    while waiting:
        pointer, value = waiting.pop()
        if isinstance(value, str):
            yield pointer, value
        elif isinstance(value, list):
            waiting += [(f"{pointer}/{place}", one) for place, one in reversed(list(enumerate(value)))]
        elif isinstance(value, dict):
            inside = [(name, one) for name, one in value.items() if name not in NOT_TEXT]
            waiting += [(f"{pointer}/{escaped(name)}", one) for name, one in reversed(inside)]


def deltas(event: Json) -> Iterator[tuple[str, str]]:
    """(pointer, further text) of one event of a stream; the pointer is where the text stands in the whole answer."""
    if not isinstance(event, dict):
        return
    for pointer, value in pieces(event):
        if isinstance(value, str) and value:
            yield pointer, value


def pieces(event: dict[str, Json]) -> Iterator[tuple[str, Json]]:
    for choice in objects(event.get("choices")):
        place = f"/choices/{choice.get('index', 0)}"
        yield f"{place}/text", choice.get("text")
        if isinstance(delta := choice.get("delta"), dict):
            for name in ("content", "reasoning_content", "refusal"):
                yield f"{place}/message/{name}", delta.get(name)
            for tool in objects(delta.get("tool_calls")):
                if isinstance(function := tool.get("function"), dict):
                    called = f"{place}/message/tool_calls/{tool.get('index', 0)}/function/arguments"
                    yield called, function.get("arguments")
    if event.get("type") == "content_block_delta" and isinstance(delta := event.get("delta"), dict):
        for name, member in (("text", "text"), ("thinking", "thinking"), ("partial_json", "input")):
            yield f"/content/{event.get('index', 0)}/{member}", delta.get(name)
    if (of := RESPONSE_DELTAS.get(str(event.get("type")))) is not None:
        content = f"/content/{event.get('content_index', 0)}" if of != "arguments" else ""
        yield f"/output/{event.get('output_index', 0)}{content}/{of}", event.get("delta")


def objects(value: Json) -> Iterator[dict[str, Json]]:
    if isinstance(value, list):
        yield from (one for one in value if isinstance(one, dict))


def escaped(name: str) -> str:
    return name.replace("~", "~0").replace("/", "~1")
