"""A call in OpenAI's form over a provider that speaks it: for who asked in Anthropic's dialect."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from functions.gateway.translate.asked import Json
from functions.gateway.translate.chat import Piece, delta_of
from functions.gateway.translate.to_anthropic import stated
from shared.llm.translation import Untranslatable
from shared.llm.usage import tokens_in
from shared.usage import Tokens

TAKEN = frozenset(
    {
        "messages", "max_tokens", "temperature", "top_p", "stop", "tools", "tool_choice", "parallel_tool_calls",
        "response_format", "reasoning_effort", "user",
    }
)  # fmt: skip
LEFT_OUT = frozenset({"stream", "stream_options", "thinking"})
"""`thinking` is told as `reasoning_effort`, or, of a model that is called like one of Anthropic's, not at all."""
PDF = "data:application/pdf"
NOT_OPENAIS = frozenset(
    {"cache_control", "thinking_blocks", "reasoning_content", "provider_specific_fields", "thinking"}
)
"""What litellm keeps in messages for other providers."""


class Completions:
    """One call over a provider that speaks OpenAI's dialect."""

    path = "/chat/completions"
    tells_at_end = True
    headers: Mapping[bytes, bytes] = {}

    def __init__(self, model: str, body: Json, *, limit: int | None, stream: bool, new_length: bool) -> None:
        for name, value in body.items():
            if value is not None and name not in TAKEN | LEFT_OUT:
                raise Untranslatable(f"{name[:60]!r} has no counterpart at this model's provider", param=name[:60])
        told = {name: bare(value) for name, value in body.items() if name in TAKEN and value is not None}
        effort = told.get("reasoning_effort")
        if isinstance(effort, dict):  # litellm's, with the wish of a summary that chat does not know
            told["reasoning_effort"] = effort.get("effort")
        if not stated(told) and limit is not None:
            told["max_tokens"] = limit
        if new_length and "max_tokens" in told:
            told["max_completion_tokens"] = told.pop("max_tokens")
        more: Json = {"stream": True, "stream_options": {"include_usage": True}} if stream else {}
        self.body: Json = {"model": model, **told, **more}
        self.used: Tokens | None = None
        self.complete = False

    def answer(self, content: Json, headers: Mapping[str, str]) -> Any:  # Any: litellm's ModelResponse
        """A whole answer."""
        from litellm.types.utils import ModelResponse

        self.used = tokens_in(content)
        return ModelResponse(**content)

    def pieces(self, content: Json) -> list[Piece]:
        """What an event of a stream says."""
        self.used = tokens_in(content) or self.used
        found = []
        for choice in content.get("choices") or ():
            delta, finish = delta_of(thought(choice.get("delta") or {})), choice.get("finish_reason")
            if delta or finish:
                found.append(Piece(int(choice.get("index") or 0), delta, finish, id=str(content.get("id") or "")))
        return found

    def end(self) -> None:
        """The event `[DONE]` has come."""
        self.complete = True

    def failure(self, content: Json) -> str:
        """What an event says that tells of an error; empty for any other."""
        error = content.get("error")
        return str(error.get("message") or "error") if isinstance(error, dict) else str(error or "")


def thought(delta: Json) -> Json:
    """What OpenRouter and vLLM call `reasoning` by the name that others have for it."""
    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
    return {**delta, "reasoning_content": reasoning} if isinstance(reasoning, str) else delta


def bare(value: Any) -> Any:  # Any: JSON
    """The value without what OpenAI's format does not have. A document that litellm takes for an image is a file."""
    if isinstance(value, dict):
        address = value["image_url"].get("url") if isinstance(value.get("image_url"), dict) else None
        if isinstance(address, str) and address.startswith(PDF):
            return {"type": "file", "file": {"filename": "document.pdf", "file_data": address}}
        return {name: bare(member) for name, member in value.items() if name not in NOT_OPENAIS}
    return [bare(one) for one in value] if isinstance(value, list) else value
