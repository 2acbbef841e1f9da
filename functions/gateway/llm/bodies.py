"""Request bodies: parsed as far as routing needs, kept as bytes for the provider."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request

from shared.errors import Malformed


@dataclass(frozen=True)
class Wanted:
    """What a caller asked for. `raw` are the bytes as they came; `content` their parse."""

    model: str
    content: dict[str, Any]  # Any: JSON of the caller's
    raw: bytes

    @property
    def stream(self) -> bool:
        return self.content.get("stream") is True


async def parsed(request: Request, *, required: str) -> Wanted:
    """The body, when it is a JSON object with a model and the required member. Raises `Malformed`."""
    raw = await request.body()
    try:
        content = json.loads(raw)
    except (ValueError, RecursionError):
        raise Malformed("the body is not valid JSON") from None
    if not isinstance(content, dict):
        raise Malformed("the body is not a JSON object")
    model = content.get("model")
    if not isinstance(model, str) or not model:
        raise Malformed("'model' is missing or not a string", param="model")
    if required not in content:
        raise Malformed(f"{required!r} is missing", param=required)
    return Wanted(model, content, raw)


def for_provider(wanted: Wanted, model: str, *, ask_usage: bool) -> bytes:
    """The bytes for the provider: the caller's own unless the model's name or the usage wish has to change."""
    if model == wanted.model and not ask_usage:
        return wanted.raw
    content = dict(wanted.content, model=model)
    if ask_usage:
        content["stream_options"] = {**(content.get("stream_options") or {}), "include_usage": True}
    return json.dumps(content, ensure_ascii=False).encode("utf-8", "surrogatepass")


def tokens_in(usage: object) -> tuple[int, int, int]:
    """Input, output and cached tokens of a provider's `usage`; nonsense counts as nothing."""
    if not isinstance(usage, dict):
        return 0, 0, 0
    details = usage.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else 0
    return whole(usage.get("prompt_tokens")), whole(usage.get("completion_tokens")), whole(cached)


def whole(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**40 else 0
