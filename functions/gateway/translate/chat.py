"""Chat in OpenAI's form: what litellm's objects say, without what is litellm's own."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from functions.gateway.translate.asked import Json
from shared.usage import Tokens

OF_MESSAGE = ("role", "content", "refusal", "reasoning_content", "thinking_blocks", "annotations", "audio", "images")
OF_DELTA = ("content", "refusal", "reasoning_content", "thinking_blocks", "annotations", "audio", "images")
OF_CALL = ("id", "type", "function", "extra_content", "provider_specific_fields")


@dataclass(frozen=True)
class Piece:
    """A part of one choice of a stream: what came, and why it ended, when it has."""

    index: int = 0
    delta: Json = field(default_factory=dict)
    finish: str | None = None
    id: str = ""
    model: str = ""
    logprobs: Json | None = None


def pieces_of(chunk: Any) -> list[Piece]:  # Any: litellm's ModelResponseStream, or None
    """What a chunk says; nothing when it says nothing."""
    if chunk is None:
        return []
    told = chunk.model_dump(exclude_none=True)
    found = []
    for choice in told.get("choices") or ():
        delta = delta_of(choice.get("delta") or {})
        finish = choice.get("finish_reason") or None
        if delta or finish:
            found.append(
                Piece(
                    int(choice.get("index") or 0), delta, finish, str(told.get("id") or ""),
                    str(told.get("model") or ""), choice.get("logprobs"),
                )
            )  # fmt: skip
    return found


def delta_of(told: Json) -> Json:
    delta = {name: told[name] for name in OF_DELTA if told.get(name)}
    if told.get("tool_calls"):
        delta["tool_calls"] = [
            {"index": int(one.get("index") or 0)} | call_of(one, whole=bool(one.get("id")))
            for one in told["tool_calls"]
        ]
    return delta


def call_of(told: Json, *, whole: bool = True) -> Json:
    """A tool's call. Of one that is told in parts, only the first part has id and type."""
    call = {name: told[name] for name in OF_CALL if told.get(name) is not None}
    if not whole:
        call = {"function": call.get("function") or {}}
    call["function"] = {name: value for name, value in (call.get("function") or {}).items() if value is not None}
    return call


def completion_of(answer: Any, used: Tokens | None) -> Json:  # Any: litellm's ModelResponse
    """A whole chat completion."""
    told = answer.model_dump(exclude_none=True)
    completion = {
        "id": told.get("id"),
        "object": "chat.completion",
        "created": told.get("created"),
        "model": told.get("model"),
        "choices": [choice_of(one) for one in told.get("choices") or ()],
    }
    return completion | ({"usage": usage_of(used)} if used is not None else {})


def choice_of(told: Json) -> Json:
    said = told.get("message") or {}
    message = {"role": "assistant", "content": None} | {name: said[name] for name in OF_MESSAGE if said.get(name)}
    if said.get("tool_calls"):
        message["tool_calls"] = [call_of(one) for one in said["tool_calls"]]
    return {
        "index": int(told.get("index") or 0),
        "message": message,
        "finish_reason": told.get("finish_reason"),
        "logprobs": told.get("logprobs"),
    }


def usage_of(used: Tokens) -> Json:
    """OpenAI's `usage`, in which `prompt_tokens` are all of the input."""
    written = used.written_5m + used.written_1h
    return {
        "prompt_tokens": used.input,
        "completion_tokens": used.output,
        "total_tokens": used.input + used.output,
        "prompt_tokens_details": {
            "cached_tokens": used.cached, **({"cache_write_tokens": written} if written else {}),
            "audio_tokens": used.audio_input,
        },
        "completion_tokens_details": {"reasoning_tokens": used.reasoning, "audio_tokens": used.audio_output},
    }  # fmt: skip
