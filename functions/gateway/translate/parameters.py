"""The members of an OpenAI body that a provider's format can carry. What would change the answer and cannot be carried
is refused, so that nobody gets another answer than the one that was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from functions.gateway.translate.asked import Json
from shared.llm.translation import Untranslatable

NOT_PARAMETERS = frozenset({"model", "messages", "stream", "stream_options"})
WITHOUT_EFFECT = frozenset(
    {
        "user", "metadata", "store", "service_tier", "safety_identifier", "prompt_cache_key", "prompt_cache_retention",
        "verbosity", "logit_bias", "seed",
    }
)  # fmt: skip
"""Left out where the provider's format has no place for it: it tells who asks, how long to keep what, or is a wish that
no provider promises to fulfil."""
NEUTRAL: dict[str, Any] = {  # Any: JSON
    "n": 1, "logprobs": False, "top_logprobs": 0, "frequency_penalty": 0, "presence_penalty": 0, "modalities": ["text"],
}  # fmt: skip
"""What is the same as saying nothing."""


def mapped(config: Any, model: str, body: Json, *, extra: frozenset[str] = frozenset()) -> Json:  # Any: litellm's
    """The body's parameters in the provider's terms. Raises `Untranslatable` for one that it does not know."""
    told = {name: value for name, value in body.items() if name not in NOT_PARAMETERS and value is not None}
    known = {*config.get_supported_openai_params(model)}
    for name in [name for name, value in told.items() if name not in known | extra and is_idle(name, value)]:
        del told[name]
    for name in told:
        if name not in known | extra:
            raise Untranslatable(f"{name[:60]!r} has no counterpart at this model's provider", param=name[:60])
    parameters: Json = config.map_openai_params({k: told[k] for k in told if k in known}, {}, model, False)
    return parameters | {name: told[name] for name in told if name in extra}


def is_idle(name: str, value: object) -> bool:
    """Whether the answer is the same without it."""
    return name in WITHOUT_EFFECT or (name in NEUTRAL and value == NEUTRAL[name])


def check_attachments(messages: object, *, addresses: tuple[str, ...]) -> None:
    """Raises `Untranslatable` for a file or an image that somebody would have to fetch, unless its address begins with
    one of these, which the provider fetches itself."""
    for name, address in attached(messages):
        if not address.startswith(("data:", *addresses)):
            allowed = ", ".join(("data:", *addresses))
            raise Untranslatable(f"of {name!r} this model's provider takes what begins with {allowed}", param=name)


def attached(value: object) -> Iterator[tuple[str, str]]:
    """Each address of what is attached to messages in OpenAI's form."""
    if isinstance(value, list):
        for one in value:
            yield from attached(one)
    if not isinstance(value, dict):
        return
    if "content" in value:
        yield from attached(value["content"])
    for name in ("image_url", "video_url", "audio_url"):
        if name in value:
            given = value[name]
            yield name, str(given.get("url", "") if isinstance(given, dict) else given)
    if isinstance(value.get("file"), dict):
        yield "file", str(value["file"].get("file_data") or value["file"].get("file_id") or "")
