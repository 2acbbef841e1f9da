"""A call in OpenAI's form as Anthropic's messages, and its answer back. The translation is litellm's."""

from __future__ import annotations

from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from functions.gateway.translate.asked import Json
from functions.gateway.translate.chat import Piece, pieces_of
from functions.gateway.translate.parameters import mapped
from shared.llm.kinds import ANTHROPIC_VERSION
from shared.llm.usage import AnthropicUsage
from shared.llm.vertex import message_body, message_path
from shared.usage import Tokens

EXTRA = frozenset({"top_k"})
ROOM_BESIDE_THINKING = 1024


class Messages:
    """One call over a provider that speaks Anthropic's dialect."""

    tells_at_end = True

    def __init__(self, model: str, body: Json, *, most: int | None, stream: bool, vertex: bool) -> None:
        from litellm.llms.anthropic.chat.handler import ModelResponseIterator
        from litellm.llms.anthropic.chat.transformation import ANTHROPIC_TOOL_NAME_REVERSE_MAP_KEY, AnthropicConfig
        from litellm.llms.vertex_ai.vertex_ai_partner_models.anthropic.transformation import VertexAIAnthropicConfig

        self._config = VertexAIAnthropicConfig() if vertex else AnthropicConfig()
        longest: int = AnthropicConfig.get_max_tokens_for_model(anthropics_name(model))
        limited = {} if stated(body) else {"max_tokens": min(most or longest, longest)}  # Anthropic wants one always
        parameters = mapped(self._config, model, {**body, **limited}, extra=EXTRA)
        self._json_mode = bool(parameters.pop("json_mode", False))
        within(parameters)
        kept: Json = {}
        heads: dict[str, str] = {}
        self.body: Json = self._config.transform_request(model, body["messages"], parameters, kept, heads)
        self.body.pop("stream", None)
        if stream:
            self.body["stream"] = True
        self.headers = {name.lower().encode(): str(value).encode() for name, value in heads.items()}
        self.path = "/v1/messages"
        if vertex:
            self.path, self.body = message_path(model, stream=stream), message_body(self.body)
        else:
            self.headers[b"anthropic-version"] = ANTHROPIC_VERSION
        self._names: dict[str, str] = kept.get(ANTHROPIC_TOOL_NAME_REVERSE_MAP_KEY) or {}
        self._events = ModelResponseIterator(None, False, self._json_mode, None, self._names)
        self._usage = AnthropicUsage()
        self.complete = False

    @property
    def used(self) -> Tokens | None:
        return self._usage.tokens

    def answer(self, content: Json, headers: Mapping[str, str]) -> Any:  # Any: litellm's ModelResponse
        """A whole answer."""
        from litellm.types.utils import ModelResponse

        self._usage.count(content.get("usage"))
        head = SimpleNamespace(headers={}, status_code=200)
        return self._config.transform_parsed_response(
            content, head, ModelResponse(), self._json_mode, None, None, self._names
        )

    def pieces(self, content: Json) -> list[Piece]:
        """What an event of a stream says."""
        match content.get("type"):
            case "message_start":
                message = content.get("message")
                self._usage.count(message.get("usage") if isinstance(message, dict) else None, final=False)
            case "message_delta":
                self._usage.count(content.get("usage"))
            case "message_stop":
                self.complete = True
        self._events.reasoning_content_chunks.clear()  # it would guess how many tokens they are
        return pieces_of(self._events.chunk_parser(content))

    def failure(self, content: Json) -> str:
        """What an event says that tells of an error; empty for any other."""
        error = content.get("error") if content.get("type") == "error" else None
        return str(error.get("message") or "error") if isinstance(error, dict) else ""


def anthropics_name(model: str) -> str:
    """What Anthropic calls a model, of which Vertex AI writes the version after an `@`. litellm knows by that name how
    long its answers can be."""
    return model.removesuffix("@default").replace("@", "-")


def stated(body: Json) -> bool:
    """Whether the caller has limited the answer's length."""
    return any(body.get(name) is not None for name in ("max_tokens", "max_completion_tokens"))


def within(parameters: Json) -> None:
    """Thinking is a part of the answer's length, and Anthropic wants it to be less than the whole."""
    thinking = parameters.get("thinking")
    if isinstance(thinking, dict) and isinstance(thinking.get("budget_tokens"), int):
        room = parameters["max_tokens"] - ROOM_BESIDE_THINKING
        if room >= ROOM_BESIDE_THINKING:
            thinking["budget_tokens"] = min(thinking["budget_tokens"], room)
