"""Request bodies: parsed as far as routing needs, kept as bytes for the provider."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from starlette.requests import Request

from shared.errors import Malformed, UnsupportedMediaType
from shared.usage import Tier, Tokens

TOKENS_MAX = 2**40
JSON = "application/json"
READ = frozenset(
    {
        "model", "stream", "stream_options", "max_tokens", "max_completion_tokens", "n", "best_of", "prompt", "input",
        "max_output_tokens", "previous_response_id", "store", "background", "conversation", "tools",
    }
)  # fmt: skip
TIER_OF: Mapping[str, Tier] = {"flex": "flex", "priority": "priority", "fast": "priority", "batch": "batch"}
"""What a provider calls the tier that it served. Its `default` and `scale` have the standard price."""
PARTS: Mapping[str, tuple[str, str]] = {
    "cached": ("prompt_tokens_details", "cached_tokens"),
    "written_5m": ("prompt_tokens_details", "cache_write_tokens"),
    "audio_input": ("prompt_tokens_details", "audio_tokens"),
    "image_input": ("prompt_tokens_details", "image_tokens"),
    "reasoning": ("completion_tokens_details", "reasoning_tokens"),
    "audio_output": ("completion_tokens_details", "audio_tokens"),
    "image_output": ("completion_tokens_details", "image_tokens"),
}
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
    return await request.body()


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


def json_object(data: bytes) -> dict[str, Any]:  # Any: JSON of the provider's
    """The object in these bytes; an empty one when there is none."""
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def tokens_in(content: dict[str, Any]) -> Tokens | None:
    """What an answer or event says it used: in `usage`, or in Groq's `x_groq.usage`. None when it says nothing."""
    groq = content.get("x_groq")
    usage = content.get("usage") or (groq.get("usage") if isinstance(groq, dict) else None)
    if not isinstance(usage, dict):
        return None
    sent, written = whole(usage.get("prompt_tokens")), whole(usage.get("completion_tokens", 0))
    if sent is None or written is None:
        return None
    return Tokens(sent, written, tier=tier_of(content), **parts_in(usage))


def tier_of(content: dict[str, Any]) -> Tier:
    """The tier that the provider says it served."""
    return TIER_OF.get(str(content.get("service_tier")), "standard")


def parts_in(usage: dict[str, Any]) -> dict[str, int]:
    """The kinds of tokens that have prices of their own, as far as the provider tells them apart."""
    found: dict[str, int] = {}
    for name, (group, member) in PARTS.items():
        details = usage.get(group)
        count = whole(details.get(member)) if isinstance(details, dict) else None
        if count:
            found[name] = count
    return found


def whole(value: object) -> int | None:
    """A count of tokens that can be one."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < TOKENS_MAX else None
