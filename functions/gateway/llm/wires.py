"""What the two wire formats differ in: where usage stands, how a stream ends, how an error looks.

One object serves one call: it keeps what the call's events have told so far.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Protocol

from shared.errors import Problem
from shared.llm import sse
from shared.llm.dialect import anthropic_error, anthropic_type, message_in, openai_error, provider_error
from shared.llm.usage import AnthropicUsage, json_object, tier_of, tokens_in, whole
from shared.usage import Tokens

DONE = b"[DONE]"
RESPONSE_KINDS = ("response.created", "response.completed", "response.incomplete", "response.failed")
RESPONSE_MARKS = (*(kind.encode() for kind in RESPONSE_KINDS), b'"error"')
RESPONSE_PARTS = {
    "cached": ("input_tokens_details", "cached_tokens"),
    "written_5m": ("input_tokens_details", "cache_write_tokens"),
    "reasoning": ("output_tokens_details", "reasoning_tokens"),
}
Json = dict[str, Any]  # Any: JSON of the provider's


class Wire(Protocol):
    """A provider's wire format, for one call."""

    @property
    def complete(self) -> bool: ...
    @property
    def failed(self) -> bool: ...
    @property
    def used(self) -> Tokens | None: ...

    def keep(self, data: bytes) -> bool:
        """Read what an event tells; whether the caller gets it."""

    def told(self, content: Json) -> Tokens | None:
        """What a whole answer says it used."""

    def is_error(self, content: Json) -> bool:
        """Whether that is an error in this dialect's shape."""

    def error(self, message: str, status: int) -> Json:
        """A provider's error that came in no known shape."""

    def error_event(self, problem: Problem) -> bytes:
        """The explicit end of a stream that broke: a cut connection alone would look like a complete answer."""


@dataclass
class OpenAi:
    """Events end with `[DONE]`. `withhold_usage`: the caller did not ask for the usage event, we did."""

    withhold_usage: bool = False
    complete: bool = False
    failed: bool = False
    used: Tokens | None = None

    def keep(self, data: bytes) -> bool:
        if data == DONE:
            self.complete = True
        if b'"usage"' not in data and b'"error"' not in data:
            return True
        content = json_object(data)
        self.failed = self.failed or bool(content.get("error"))
        told = tokens_in(content)
        if told is None:
            return True
        self.used = told
        return not (self.withhold_usage and content.get("choices") == [])

    def told(self, content: Json) -> Tokens | None:
        return tokens_in(content)

    def is_error(self, content: Json) -> bool:
        return isinstance(content.get("error"), dict) and isinstance(message_in(content), str)

    def error(self, message: str, status: int) -> Json:
        return provider_error(message, status)

    def error_event(self, problem: Problem) -> bytes:
        return sse.encode(json.dumps(openai_error(problem), ensure_ascii=False))


@dataclass
class Responses:
    """OpenAI's responses. Events end with one that tells the whole response, its usage inside."""

    billed: bool = True
    """False for what costs nothing: looking at one, deleting one."""
    complete: bool = False
    failed: bool = False
    used: Tokens | None = None
    id: str = ""
    items: tuple[str, ...] = ()
    """Ids of what is in its output."""

    def keep(self, data: bytes) -> bool:
        if not any(mark in data for mark in RESPONSE_MARKS):
            return True
        content = json_object(data)
        kind, response = content.get("type"), content.get("response")
        if isinstance(response, dict) and kind in RESPONSE_KINDS:
            self._read(response)
            self.complete = kind in ("response.completed", "response.incomplete")
            self.failed = self.failed or kind == "response.failed"
        self.failed = self.failed or kind == "error" or bool(content.get("error"))
        return True

    def told(self, content: Json) -> Tokens | None:
        self._read(content)
        return self.used if self.billed else Tokens()

    def is_error(self, content: Json) -> bool:
        return OpenAi().is_error(content)

    def error(self, message: str, status: int) -> Json:
        return OpenAi().error(message, status)

    def error_event(self, problem: Problem) -> bytes:
        """As OpenAI's, and with the member `error`, by which its SDKs know that they have to raise."""
        told = openai_error(problem)
        event = {"type": "error", "code": problem.code, "message": problem.detail, "param": None, **told}
        return b"event: error\n" + sse.encode(json.dumps(event | {"sequence_number": 0}, ensure_ascii=False))

    def _read(self, response: Json) -> None:
        if isinstance(response.get("id"), str):
            self.id = response["id"]
        output = response.get("output")
        ids = [one.get("id") for one in output if isinstance(one, dict)] if isinstance(output, list) else []
        self.items = tuple(one for one in ids if isinstance(one, str))
        self.used = response_tokens(response) or self.used


def response_tokens(response: Json) -> Tokens | None:
    """A response's usage; None when it tells none."""
    usage = response.get("usage")
    if not isinstance(usage, dict):
        return None
    sent, written = whole(usage.get("input_tokens")), whole(usage.get("output_tokens"))
    if sent is None or written is None:
        return None
    found: dict[str, int] = {}
    for name, (group, member) in RESPONSE_PARTS.items():
        details = usage.get(group)
        count = whole(details.get(member)) if isinstance(details, dict) else None
        if count:
            found[name] = count
    return Tokens(sent, written, tier=tier_of(response), **found)


@dataclass
class Anthropic:
    """Events end with `message_stop`. `message_start` tells the input, each `message_delta` the output so far: what a
    call used is known from the first `message_delta` on."""

    request_id: str
    billed: bool = True
    """False for the counting of tokens, which costs nothing."""
    complete: bool = False
    failed: bool = False
    used: Tokens | None = None
    _usage: AnthropicUsage = field(default_factory=AnthropicUsage)

    def keep(self, data: bytes) -> bool:
        if b'"message_' not in data and b'"error"' not in data:
            return True  # most events: deltas of text, thinking and tools' arguments
        content = json_object(data)
        match content.get("type"):
            case "message_start":
                message = content.get("message")
                self._usage.count(message.get("usage") if isinstance(message, dict) else None, final=False)
            case "message_delta":
                self._usage.count(content.get("usage"))
                self.used = self._usage.tokens
            case "message_stop":
                self.complete = True
            case "error":
                self.failed = True
        return True

    def told(self, content: Json) -> Tokens | None:
        if not self.billed:
            return Tokens()
        self._usage.count(content.get("usage"))
        return self._usage.tokens

    def is_error(self, content: Json) -> bool:
        """Google's errors of Claude's models have another shape, without the `type` by which SDKs know one."""
        return content.get("type") == "error" and isinstance(message_in(content), str)

    def error(self, message: str, status: int) -> Json:
        error = {"type": anthropic_type(status), "message": message}
        return {"type": "error", "error": error, "request_id": self.request_id}

    def error_event(self, problem: Problem) -> bytes:
        told = json.dumps(anthropic_error(problem, request_id=self.request_id), ensure_ascii=False)
        return b"event: error\n" + sse.encode(told)  # Anthropic's SDKs skip an event without its name
