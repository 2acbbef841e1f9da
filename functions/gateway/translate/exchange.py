"""One call: what is asked of the provider, once, and its answer in the caller's dialect."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

from starlette.responses import JSONResponse, Response

from functions.gateway.translate import callers, engine, upstream
from functions.gateway.translate.asked import Asked, Json
from functions.gateway.translate.chat import Piece
from functions.gateway.translate.parameters import check_attachments
from functions.gateway.translate.to_anthropic import Messages
from functions.gateway.translate.to_gemini import GenerateContent
from functions.gateway.translate.to_openai import Completions
from functions.gateway.translate.upstream import Endpoint
from shared.errors import Problem, Unavailable
from shared.llm import http, sse
from shared.llm.exchange import is_stream, whole
from shared.llm.outbound import ForbiddenAddress, NotConnected, Providers
from shared.llm.presence import Stream
from shared.llm.translation import (
    KIND,
    USED,
    BadTranslation,
    Untranslatable,
    document_of,
    problem_event,
    used_event,
    used_text,
)
from shared.llm.usage import json_object
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets
from shared.usage import Tokens

DONE = b"[DONE]"
STATUS_MAX = 599  # RFC 9110 §15; uvicorn cannot send what is beyond


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
    def answer(self, content: Json, headers: Mapping[str, str]) -> Any: ...  # Any: litellm's ModelResponse
    def pieces(self, content: Json) -> list[Piece]: ...
    def failure(self, content: Json) -> str: ...


async def held(asked: Asked, tenant: TenantDatabase, sealing: TenantSecrets, providers: Providers) -> Response:
    """The answer, or the provider's refusal, or a problem of ours, each marked as what it is."""
    sent = False
    try:
        endpoint = await upstream.endpoint(asked.provider, tenant, sealing, providers)
        with translating():
            caller = callers.of(asked)
            target = target_of(asked, caller.body, endpoint)
        body = json.dumps(target.body).encode()
        headers = {**target.headers, **endpoint.credential}
        sent = True
        answer = await upstream.opened(providers, endpoint, target.path, body, headers)
        if is_stream(answer):
            stream = Translated(answer, endpoint, target, caller)
            return Stream(stream.pieces(), media_type="text/event-stream", headers={KIND: "answer"})
        content = await whole(answer, endpoint.name)
        return finished(content, answer, endpoint, target, caller)
    except (ForbiddenAddress, NotConnected) as problem:
        return told(problem, asked=False)
    except Problem as problem:
        return told(problem, asked=sent)


def told(problem: Problem, *, asked: bool) -> Response:
    """A problem of ours. `asked`: whether the provider was."""
    document = document_of(problem, asked=asked)
    return JSONResponse(document, problem.status, {KIND: "problem"}, media_type="application/problem+json")


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


@contextmanager
def translating(*, answer: bool = False) -> Iterator[None]:
    """A block in which litellm works. It connects to nothing, and what it cannot do is a problem without its own words:
    they hold what was said. `answer`: whether it is a provider's answer that is translated.

    Raises `Untranslatable` or `BadTranslation`.
    """
    try:
        with engine.wall():
            yield
    except Problem:
        raise
    except Exception as raised:  # noqa: BLE001  whatever its classes come upon
        name = type(raised).__name__
        if answer:
            raise BadTranslation(f"the provider's answer cannot be translated ({name})") from None
        raise Untranslatable(f"the call cannot be put into the format of the model's provider ({name})") from None


def finished(
    content: bytes, answer: http.Answer, endpoint: Endpoint, target: Target, caller: callers.Caller
) -> Response:
    """A whole answer, or the provider's error."""
    passed = {name: answer.headers[name] for name in upstream.PASSED_HEADERS if name in answer.headers}
    if 300 <= answer.status < 400:
        return told(BadTranslation(f"provider {endpoint.name!r} answered with a redirect"), asked=False)
    if answer.status > STATUS_MAX:
        raise BadTranslation(f"provider {endpoint.name!r} answered with the status {answer.status}")
    if answer.status >= 400:
        said = upstream.said(content, endpoint)
        return JSONResponse(caller.error(answer.status, said), answer.status, {**passed, KIND: "error"})
    parsed = json_object(content)
    with translating(answer=True):
        meant = target.answer(parsed, answer.headers)
        made = caller.whole(meant, target.used)
    used = {USED: used_text(target.used)} if target.used is not None else {}
    return JSONResponse(made, 200, {**passed, **used, KIND: "answer"})


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
            yield problem_event(problem)
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
