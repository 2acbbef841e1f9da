"""The caller's side: what was asked, in OpenAI's form, and the answer in the dialect in which it was asked."""

from __future__ import annotations

from typing import Any, Protocol

from functions.gateway.translate.asked import Asked, Json
from functions.gateway.translate.chat import Piece
from functions.gateway.translate.for_anthropic import AnthropicCaller
from functions.gateway.translate.for_completions import CompletionCaller
from functions.gateway.translate.for_openai import OpenAiCaller
from shared.usage import Tokens


class Caller(Protocol):
    """One call's."""

    body: Json
    """What is asked, in OpenAI's form."""

    def whole(self, answer: Any, used: Tokens | None) -> Json: ...  # Any: litellm's ModelResponse
    def event(self, piece: Piece) -> bytes: ...
    def end(self, used: Tokens | None) -> bytes: ...
    def error(self, status: int, message: str) -> Json: ...


def of(asked: Asked) -> Caller:
    """Raises `Untranslatable`."""
    match asked.route:
        case "messages":
            return AnthropicCaller(asked.model, asked.body)
        case "completions":
            return CompletionCaller(asked.body)
        case _:
            return OpenAiCaller(asked.body)
