"""Request bodies: parsed as far as routing needs, kept as bytes for the provider."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from starlette.requests import Request

from shared.errors import Malformed, UnsupportedMediaType
from shared.function.body import whole

JSON = "application/json"
READ = frozenset(
    {
        "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "best_of", "prompt", "input",
        "max_output_tokens", "previous_response_id", "store", "background", "conversation", "tools",
    }
)  # fmt: skip
ASK_USAGE = b'{"stream_options":{"include_usage":true},'


@dataclass(frozen=True)
class Wanted:
    """What a caller asked for. `raw` are the bytes as they came; `content` their parse."""

    model: str
    content: dict[str, Any] = field(repr=False)  # Any: JSON of the caller's
    raw: bytes = field(repr=False)

    @property
    def stream(self) -> bool:
        return self.content.get("stream") is True

    @property
    def wants_usage(self) -> bool:
        """Whether the caller asked for the usage event at the end of a stream."""
        return (self.content.get("stream_options") or {}).get("include_usage") is True


async def parsed(request: Request, *, required: str = "", model: str = "") -> Wanted:
    """The body, when it is a JSON object with a model (or the one that holds where none is named) and the required
    member. Raises as `json_of` does."""
    raw = await json_of(request)
    content = object_in(raw)
    model = content.get("model", model)
    if not isinstance(model, str) or not model:
        raise Malformed("'model' is missing or not a string", param="model")
    if required and not content.get(required):
        raise Malformed(f"{required!r} is missing or empty", param=required)
    if not isinstance(content.get("stream_options"), dict | None):
        raise Malformed("'stream_options' is not an object", param="stream_options")
    return Wanted(model, content, raw)


async def json_of(request: Request) -> bytes:
    """The body. Raises `UnsupportedMediaType` when it is said to be something else than JSON."""
    said = request.headers.get("content-type", JSON).partition(";")[0].strip().lower()
    if said != JSON:
        raise UnsupportedMediaType(f"send {JSON}, not {said[:80]!r}")
    return await whole(request.receive)


def object_in(raw: bytes) -> dict[str, Any]:  # Any: JSON of the caller's
    """The JSON object, when all readers read the same in it. Raises `Malformed`."""
    try:
        content = json.loads(raw.decode("utf-8"), object_pairs_hook=unambiguous)
    except (ValueError, RecursionError):
        raise Malformed("the body is not valid JSON in UTF-8, or names a member twice") from None
    if not isinstance(content, dict):
        raise Malformed("the body is not a JSON object")
    check_names(content)
    return content


async def conversation(request: Request) -> Wanted:
    """The body of a chat, in either dialect. Raises as `parsed` does."""
    wanted = await parsed(request, required="messages")
    if not isinstance(wanted.content["messages"], list):
        raise Malformed("'messages' is not a list", param="messages")
    return wanted


def unambiguous(pairs: list[tuple[str, Any]]) -> dict[str, Any]:  # Any: JSON
    """The object, when it names no member twice: of two, some readers take the first and some the last.

    The provider gets the caller's bytes. If it read them otherwise than we do, it could be asked for another model than
    the one that was checked. Raises `ValueError`.
    """
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a member is named twice")
    return found


def check_names(content: Iterable[str]) -> None:
    """Refuse what some readers (Go's encoding/json) take for a member that we read: `Model`. Raises `Malformed`."""
    for name in content:
        if name not in READ and name.casefold() in READ:
            raise Malformed(f"write {name.casefold()!r} for {name[:40]!r}", param=name.casefold())


def for_provider(
    wanted: Wanted, model: str, *, ask_usage: bool, more: Mapping[str, int] = MappingProxyType({})
) -> bytes:
    """The bytes for the provider: the caller's own unless the model's name or the usage wish has to change, or `more`
    members have to be told."""
    if model == wanted.model and not ask_usage and not more:
        return wanted.raw
    if model == wanted.model and "stream_options" not in wanted.content and not more:
        return ASK_USAGE + wanted.raw.lstrip()[1:]
    content = {**wanted.content, "model": model, **more}
    if ask_usage:
        content["stream_options"] = {**(content.get("stream_options") or {}), "include_usage": True}
    return json.dumps(content).encode()
