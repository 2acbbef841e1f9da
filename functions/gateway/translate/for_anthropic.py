"""What was asked in Anthropic's dialect, in OpenAI's form, and answers in Anthropic's. Calls and whole answers are
translated by litellm; streams here, because a stream's blocks must come one after the other and whole."""

from __future__ import annotations

import json
from copy import deepcopy
from typing import Any
from uuid import uuid4

from functions.gateway.translate.asked import Json
from functions.gateway.translate.chat import Piece
from shared.llm.dialect import anthropic_type
from shared.llm.translation import Untranslatable
from shared.usage import Tokens

REASONS = {"stop": "end_turn", "length": "max_tokens", "tool_calls": "tool_use", "function_call": "tool_use",
           "content_filter": "refusal"}  # fmt: skip
CARRIED = frozenset(
    {
        "messages", "model", "max_tokens", "system", "stream", "temperature", "top_p", "stop_sequences", "tools",
        "tool_choice", "thinking", "output_format", "output_config", "top_k",
    }
)  # fmt: skip
WITHOUT_EFFECT = frozenset(
    {"metadata", "service_tier", "context_management", "cache_control", "speed", "inference_geo"}
)
"""Left out: it tells who asks, how long to keep what, or how to spare tokens."""


class AnthropicCaller:
    """One call's."""

    def __init__(self, model: str, body: Json) -> None:
        from litellm.llms.anthropic.pass_through.adapters.transformation import LiteLLMAnthropicMessagesAdapter

        for name, value in body.items():
            if name not in CARRIED | WITHOUT_EFFECT and value:
                raise Untranslatable(f"{name[:60]!r} has no counterpart at this model's provider", param=name[:60])
        self._adapter = LiteLLMAnthropicMessagesAdapter()
        told = {name: value for name, value in body.items() if name in CARRIED and name != "stream"}
        asked = {**deepcopy(told), "model": model}
        self.body, self._names = self._adapter.translate_anthropic_to_openai(asked)
        self.body = {name: value for name, value in self.body.items() if name != "model"}
        choice = body.get("tool_choice")
        if isinstance(choice, dict) and choice.get("disable_parallel_tool_use") is True:
            self.body["parallel_tool_calls"] = False
        self._model = str(body.get("model", model))
        self._stream = Blocks(self._model, self._names)

    def whole(self, answer: Any, used: Tokens | None) -> Json:  # Any: litellm's ModelResponse
        from litellm.types.utils import Usage

        if getattr(answer, "usage", None) is None:
            answer.usage = Usage()
        made: Json = dict(self._adapter.translate_openai_response_to_anthropic(answer, self._names))
        made["usage"] = usage_of(used or Tokens())
        made["model"] = self._model
        made["id"] = f"msg_{uuid4().hex}"
        return {name: value for name, value in made.items() if value is not None or name != "stop_details"}

    def event(self, piece: Piece) -> bytes:
        return self._stream.take(piece)

    def end(self, used: Tokens | None) -> bytes:
        return self._stream.end(used or Tokens())

    def error(self, status: int, message: str) -> Json:
        return {"type": "error", "error": {"type": anthropic_type(status), "message": message}}


class Blocks:
    """A stream's blocks. One is open at a time; of tools that are called side by side, the arguments of the later ones
    wait until the first is whole, since nobody can tell before the end that no more of them comes."""

    def __init__(self, model: str, names: dict[str, str]) -> None:
        self._model, self._names = model, names
        self._begun = False
        self._index = -1
        self._open = ""
        """The type of the open block, or `tool <n>` for OpenAI's n-th call."""
        self._waiting: dict[int, tuple[str, str, list[str]]] = {}
        self._reason = "end_turn"

    def take(self, piece: Piece) -> bytes:
        made = [self._start()]
        for block in piece.delta.get("thinking_blocks") or ():
            made.append(self._thought(block))
        if not piece.delta.get("thinking_blocks") and (thought := piece.delta.get("reasoning_content")):
            made.append(self._thought({"type": "thinking", "thinking": thought}))
        if text := piece.delta.get("content") or piece.delta.get("refusal"):
            made.append(self._switch("text", {"type": "text", "text": ""}))
            made.append(self._delta({"type": "text_delta", "text": text}))
        for call in piece.delta.get("tool_calls") or ():
            made.append(self._called(call))
        if piece.finish:
            self._reason = REASONS.get(piece.finish, "end_turn")
        return b"".join(made)

    def end(self, used: Tokens) -> bytes:
        made = [self._start()]
        for number in sorted(self._waiting):
            ident, name, parts = self._waiting[number]
            made.append(self._tool(number, ident, name))
            made += [self._delta({"type": "input_json_delta", "partial_json": part}) for part in parts]
        made.append(self._close())
        delta = {"stop_reason": self._reason, "stop_sequence": None}
        made.append(event("message_delta", delta=delta, usage=usage_of(used)))
        return b"".join([*made, event("message_stop")])

    def _start(self) -> bytes:
        if self._begun:
            return b""
        self._begun = True
        message: Json = {
            "id": f"msg_{uuid4().hex}", "type": "message", "role": "assistant", "model": self._model, "content": [],
            "stop_reason": None, "stop_sequence": None, "usage": {"input_tokens": 0, "output_tokens": 0},
        }  # fmt: skip
        return event("message_start", message=message)

    def _thought(self, block: Json) -> bytes:
        if block.get("type") == "redacted_thinking":
            made = self._close() + self._opened("redacted_thinking", {**block})
            return made + self._close()
        made = self._switch("thinking", {"type": "thinking", "thinking": "", "signature": ""})
        if text := block.get("thinking"):
            made += self._delta({"type": "thinking_delta", "thinking": text})
        if signature := block.get("signature"):
            made += self._delta({"type": "signature_delta", "signature": signature}) + self._close()
        return made

    def _called(self, call: Json) -> bytes:
        """A part of a tool's call: at once when its block is open or can be, else later."""
        number, function = int(call.get("index") or 0), call.get("function") or {}
        part = str(function.get("arguments") or "")
        if self._open == f"tool {number}":
            return self._delta({"type": "input_json_delta", "partial_json": part}) if part else b""
        if number in self._waiting:
            self._waiting[number][2].append(part)
            return b""
        ident, name = str(call.get("id") or f"toolu_{uuid4().hex}"), str(function.get("name") or "")
        if self._open.startswith("tool "):
            self._waiting[number] = (ident, name, [part])
            return b""
        made = self._tool(number, ident, name)
        return made + (self._delta({"type": "input_json_delta", "partial_json": part}) if part else b"")

    def _tool(self, number: int, ident: str, name: str) -> bytes:
        block = {"type": "tool_use", "id": ident, "name": self._names.get(name, name), "input": {}}
        return self._close() + self._opened(f"tool {number}", block)

    def _switch(self, kind: str, block: Json) -> bytes:
        return b"" if self._open == kind else self._close() + self._opened(kind, block)

    def _opened(self, kind: str, block: Json) -> bytes:
        self._open = kind
        self._index += 1
        return event("content_block_start", index=self._index, content_block=block)

    def _delta(self, delta: Json) -> bytes:
        return event("content_block_delta", index=self._index, delta=delta)

    def _close(self) -> bytes:
        if not self._open:
            return b""
        self._open = ""
        return event("content_block_stop", index=self._index)


def event(kind: str, **content: Any) -> bytes:  # Any: JSON
    return f"event: {kind}\ndata: {json.dumps({'type': kind, **content}, ensure_ascii=False)}\n\n".encode()


def usage_of(used: Tokens) -> Json:
    """Anthropic's `usage`, in which `input_tokens` leave out what was read from a cache and written to it."""
    written = used.written_5m + used.written_1h
    return {
        "input_tokens": max(0, used.input - used.cached - written),
        "output_tokens": used.output,
        "cache_read_input_tokens": used.cached,
        "cache_creation_input_tokens": written,
    }
