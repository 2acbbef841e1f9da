"""Answers for who asked in OpenAI's dialect."""

from __future__ import annotations

import json
import time
from typing import Any
from uuid import uuid4

from functions.gateway.translate.asked import Json
from functions.gateway.translate.chat import Piece, completion_of, usage_of
from shared.llm import sse
from shared.llm.dialect import provider_error
from shared.usage import Tokens


class OpenAiCaller:
    """One call's."""

    def __init__(self, body: Json) -> None:
        self.body = {**body, "messages": [as_system(one) for one in body["messages"]]}
        self._wants_usage = wants_usage(body)
        self._begun: set[int] = set()
        self._head: Json = {
            "id": f"chatcmpl-{uuid4().hex}",
            "object": "chat.completion.chunk",
            "created": int(time.time()),
            "model": str(body.get("model", "")),
        }

    def whole(self, answer: Any, used: Tokens | None) -> Json:  # Any: litellm's ModelResponse
        return completion_of(answer, used)

    def event(self, piece: Piece) -> bytes:
        """Events for what came. A choice begins with one that says whose words they are, and ends with one that says
        why."""
        if not self._begun:
            self._head |= {"model": piece.model} if piece.model else {}
        made = b""
        if piece.index not in self._begun:
            self._begun.add(piece.index)
            made += self._chunk(piece.index, {"role": "assistant", "content": ""})
        if piece.delta:
            made += self._chunk(piece.index, piece.delta, logprobs=piece.logprobs)
        if piece.finish:
            made += self._chunk(piece.index, {}, finish=piece.finish)
        return made

    def end(self, used: Tokens | None) -> bytes:
        return ended(self._head, used if self._wants_usage else None)

    def error(self, status: int, message: str) -> Json:
        return provider_error(message, status)

    def _chunk(self, index: int, delta: Json, *, finish: str | None = None, logprobs: Json | None = None) -> bytes:
        choice = {"index": index, "delta": delta, "logprobs": logprobs, "finish_reason": finish}
        return encoded({**self._head, "choices": [choice]})


def wants_usage(body: Json) -> bool:
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def ended(head: Json, used: Tokens | None) -> bytes:
    """The last events of a stream: what was used, if that is told, and `[DONE]`."""
    usage = encoded({**head, "choices": [], "usage": usage_of(used)}) if used is not None else b""
    return usage + sse.encode("[DONE]")


def as_system(message: Any) -> Any:  # Any: JSON of the caller's
    """OpenAI's later name of the same role is known to OpenAI alone."""
    developer = isinstance(message, dict) and message.get("role") == "developer"
    return {**message, "role": "system"} if developer else message


def encoded(content: Json) -> bytes:
    return sse.encode(json.dumps(content, ensure_ascii=False))
