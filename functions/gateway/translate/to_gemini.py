"""A call in OpenAI's form as Gemini's `generateContent`, and its answer back. The translation is litellm's.

Gemini's own API and Vertex AI speak the same format; they differ in paths, credentials and details that litellm knows.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

from functions.gateway.translate.asked import Json
from functions.gateway.translate.chat import Piece, pieces_of
from functions.gateway.translate.parameters import mapped
from functions.gateway.translate.to_anthropic import stated
from shared.llm.translation import BadTranslation
from shared.llm.usage import whole
from shared.llm.vertex import PLAIN
from shared.usage import Tokens

EXTRA = frozenset({"top_k"})
TOTAL = "totalTokens"
"""What `countTokens` answers."""
COUNTED_PARTS = frozenset({"contents", "system_instruction", "tools", "generationConfig"})


class GenerateContent:
    """One call over Gemini or Vertex AI."""

    headers: Mapping[bytes, bytes] = {}
    tells_at_end = False
    """Each event tells the whole so far."""

    def __init__(self, model: str, body: Json, *, limit: int | None, stream: bool, vertex: bool) -> None:
        from litellm.llms.gemini.chat.transformation import GoogleAIStudioGeminiConfig
        from litellm.llms.vertex_ai.gemini.transformation import transform_request_body
        from litellm.llms.vertex_ai.gemini.vertex_and_google_ai_studio_gemini import (
            ModelResponseIterator,
            VertexGeminiConfig,
        )

        self._config = VertexGeminiConfig() if vertex else GoogleAIStudioGeminiConfig()
        limited = {} if limit is None or stated(body) else {"max_tokens": limit}
        parameters = mapped(self._config, model, {**body, **limited}, extra=EXTRA)
        parameters.pop("parallel_tool_calls", None)  # Gemini has no such wish
        self.body: Json = transform_request_body(
            messages=deepcopy(body["messages"]),
            model=model,
            optional_params=parameters,
            custom_llm_provider="vertex_ai" if vertex else "gemini",
            litellm_params={},
            cached_content=None,
        )
        verb = "streamGenerateContent?alt=sse" if stream else "generateContent"
        self.path = f"{'/publishers/google' if vertex else ''}/models/{quote(model, safe=PLAIN)}:{verb}"
        self._model = model
        self._said = SimpleNamespace(optional_params=parameters, model_call_details={"optional_params": parameters})
        self._events = ModelResponseIterator(None, False, self._said)
        self._usage: Tokens | None = None
        self._ended: dict[int, bool] = {}

    @property
    def used(self) -> Tokens | None:
        return self._usage

    @property
    def complete(self) -> bool:
        """A stream has no event that ends it: it is whole when every choice has told why it ended."""
        return bool(self._ended) and all(self._ended.values())

    def answer(self, content: Json, headers: Mapping[str, str]) -> Any:  # Any: litellm's ModelResponse
        """A whole answer."""
        from litellm.types.utils import ModelResponse

        self._count(content)
        head = SimpleNamespace(headers=headers, status_code=200)
        return self._config.transform_google_generate_content_to_openai_model_response(
            content, ModelResponse(), self._model, self._said, head
        )

    def pieces(self, content: Json) -> list[Piece]:
        """What an event of a stream says."""
        self._count(content)
        feedback = content.get("promptFeedback")
        if isinstance(feedback, dict) and feedback.get("blockReason"):
            self._ended[0] = True
        for candidate in content.get("candidates") or ():
            index = int(candidate.get("index") or 0)
            self._ended[index] = self._ended.get(index, False) or bool(candidate.get("finishReason"))
        pieces = pieces_of(self._events.chunk_parser(content))
        # litellm takes each event for a choice's last: only the provider knows
        told = [one if self._ended.get(one.index) else replace(one, finish=None) for one in pieces]
        return [one for one in told if one.delta or one.finish]

    def failure(self, content: Json) -> str:
        """What an event says that tells of an error; empty for any other."""
        error = content.get("error")
        return str(error.get("message") or "error") if isinstance(error, dict) else ""

    def _count(self, content: Json) -> None:
        """Each event of a stream tells the whole so far."""
        if isinstance(content.get("usageMetadata"), dict):
            self._usage = tokens_of(self._config.calculate_usage(content)) or self._usage


def tokens_of(usage: Any) -> Tokens | None:  # Any: litellm's Usage
    """litellm's count of Gemini's `usageMetadata`: thoughts and what tools put into the prompt included."""
    told = usage.model_dump(exclude_none=True)
    sent, written = told.get("prompt_tokens_details") or {}, told.get("completion_tokens_details") or {}
    if not told.get("prompt_tokens"):
        return None
    return Tokens(
        int(told["prompt_tokens"]),
        int(told.get("completion_tokens") or 0),
        cached=int(sent.get("cached_tokens") or 0),
        audio_input=int(sent.get("audio_tokens") or 0),
        image_input=int(sent.get("image_tokens") or 0),
        reasoning=int(written.get("reasoning_tokens") or 0),
        audio_output=int(written.get("audio_tokens") or 0),
        image_output=int(written.get("image_tokens") or 0),
    )


def count_path(model: str, *, vertex: bool) -> str:
    return f"{'/publishers/google' if vertex else ''}/models/{quote(model, safe=PLAIN)}:countTokens"


def count_body(model: str, body: Json, *, vertex: bool) -> Json:
    """What counts a chat's tokens. Gemini's own API takes the whole call, Vertex AI those parts of it that are
    counted."""
    asked = GenerateContent(model, body, limit=None, stream=False, vertex=vertex).body
    if vertex:
        return {name: value for name, value in asked.items() if name in COUNTED_PARTS}
    return {"generateContentRequest": {"model": f"models/{model}", **asked}}


def count_in(content: Json, member: str = TOTAL) -> int:
    """What a provider's count says. Raises `BadTranslation`."""
    total = whole(content.get(member))
    if total is None:
        raise BadTranslation("the provider's answer has no count of tokens")
    return total
