"""What a provider's answer says that a call used."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.usage import Tier, Tokens

TOKENS_MAX = 2**40
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


@dataclass
class AnthropicUsage:
    """Anthropic's `usage`, in one piece or in several. Of a stream, `message_start` tells the input and each
    `message_delta` the output so far: what a call used is known from the first `message_delta` on."""

    _counts: dict[str, int] = field(default_factory=dict)
    _told: bool = False

    def count(self, usage: object, *, final: bool = True) -> None:
        """`final`: whether the output is in it."""
        self._told = self._told or final
        if isinstance(usage, dict):
            written = usage.get("cache_creation")
            told = {**usage, **(written if isinstance(written, dict) else {})}
            self._counts |= {name: count for name, value in told.items() if (count := whole(value)) is not None}

    @property
    def tokens(self) -> Tokens | None:
        """Anthropic's `input_tokens` leave out what was read from its cache and written to it; ours hold all three."""
        counts = self._counts
        if not self._told or "input_tokens" not in counts or "output_tokens" not in counts:
            return None
        read, written = counts.get("cache_read_input_tokens", 0), counts.get("cache_creation_input_tokens", 0)
        for_an_hour = min(counts.get("ephemeral_1h_input_tokens", 0), written)
        return Tokens(
            counts["input_tokens"] + read + written,
            counts["output_tokens"],
            cached=read,
            written_5m=written - for_an_hour,
            written_1h=for_an_hour,
        )
