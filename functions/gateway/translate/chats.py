"""Chats, messages and text completions: asked of a provider as its format has it, answered as the caller's has it."""

from __future__ import annotations

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response

from functions.gateway.translate import callers, upstream
from functions.gateway.translate.asked import Asked, Json
from functions.gateway.translate.chat import Piece
from functions.gateway.translate.exchange import Exchange, passed_on, translating
from functions.gateway.translate.parameters import check_attachments
from functions.gateway.translate.to_anthropic import Messages
from functions.gateway.translate.to_gemini import GenerateContent
from functions.gateway.translate.to_openai import Completions
from functions.gateway.translate.upstream import Endpoint
from shared.errors import Problem, Unavailable
from shared.llm import http, sse
from shared.llm.exchange import is_stream
from shared.llm.presence import Stream
from shared.llm.translation import KIND, USED, problem_event, used_event, used_text
from shared.llm.usage import json_object
from shared.usage import Tokens

DONE = b"[DONE]"


class Target(Protocol):
    """One call in the format of a provider."""

    path: str
    body: Json

    @property
    def headers(self) -> Mapping[bytes, bytes]: ...
    @property
    def used(self) -> Tokens | None: ...
    @property
    def complete(self) -> bool: ...
    @property
    def tells_at_end(self) -> bool:
        """Whether a stream tells what it used when nothing more is written: it holds then, also of one that breaks."""

    def answer(self, content: Json, headers: Mapping[str, str]) -> Any: ...  # Any: litellm's ModelResponse
    def pieces(self, content: Json) -> list[Piece]: ...
    def failure(self, content: Json) -> str: ...


async def answer(asked: Asked, exchange: Exchange) -> Response:
    """The answer, whole or as a stream, or the provider's refusal."""
    endpoint = exchange.endpoint
    with translating():
        caller = callers.of(asked)
        target = target_of(asked, caller.body, endpoint)
    told = await exchange.ask(target.path, target.body, target.headers)
    if is_stream(told):
        stream = Translated(told, endpoint, target, caller)
        return Stream(stream.pieces(), media_type="text/event-stream", headers={KIND: "answer"})
    content, refusal = await exchange.content(told, caller.error)
    if refusal is not None:
        return refusal
    with translating(answer=True):
        meant = target.answer(content, told.headers)
        made = caller.whole(meant, target.used)
    used = {USED: used_text(target.used)} if target.used is not None else {}
    return JSONResponse(made, 200, {**passed_on(told), **used, KIND: "answer"})


def target_of(asked: Asked, body: Json, endpoint: Endpoint) -> Target:
    """The call in the format of the provider. Raises `Untranslatable`."""
    kind = endpoint.kind
    wire, vertex = kind.wire(asked.model), kind.service_account
    check_attachments(body.get("messages"), addresses=kind.fetched(asked.model))
    limit = asked.most if asked.bounded else None
    if wire == "anthropic":
        return Messages(asked.model, body, most=asked.most, stream=asked.stream, vertex=vertex)
    if wire == "gemini":
        return GenerateContent(asked.model, body, limit=limit, stream=asked.stream, vertex=vertex)
    return Completions(asked.model, body, limit=limit, stream=asked.stream, new_length=kind.new_length)


@dataclass
class Translated:
    """One stream."""

    answer: http.Answer
    endpoint: Endpoint
    target: Target
    caller: callers.Caller
    _events: sse.Events = field(default_factory=sse.Events)

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        """The caller's events, and last, for the gateway, what was used; or why it broke."""
        try:
            async for event in self._data():
                if made := self._translated(event):
                    yield made
            if not self.target.complete:
                raise Unavailable("the provider ended the stream before it was complete")
            with translating(answer=True):
                last = self.caller.end(self.target.used)
            yield (used_event(self.target.used) if self.target.used is not None else b"") + last
        except Problem as problem:
            used = self.target.used if self.target.tells_at_end else None
            yield (used_event(used) if used is not None else b"") + problem_event(problem)
        finally:
            self.answer.close()

    async def _data(self) -> AsyncIterator[bytes]:
        while (chunk := await upstream.read(self.answer, self.endpoint)) is not None:
            for event in self._events.feed(chunk):
                yield event.data
        yield sse.data_of(self._events.end())

    def _translated(self, data: bytes) -> bytes:
        if data == DONE and (end := getattr(self.target, "end", None)):
            end()
        content = json_object(data)
        if not content:
            return b""
        with translating(answer=True):
            if failure := self.target.failure(content):
                raise Unavailable(f"provider {self.endpoint.name!r} ended the stream: {self.endpoint.hidden(failure)}")
            return b"".join(self.caller.event(piece) for piece in self.target.pieces(content))
