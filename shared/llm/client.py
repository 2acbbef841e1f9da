"""How a function asks a model: through the gateway, for its caller, so that keys and ledger stay in one place."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from shared.errors import Problem, Unavailable, passed_on
from shared.function.invoke import LLM_FUNCTION, Invoke
from shared.llm import sse

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 240.0
PATH = "/v1/chat/completions"
SAID_CHARS_MAX = 500
CODE_CHARS_MAX = 60

Messages = Sequence[Mapping[str, str]]


@dataclass(frozen=True)
class Completion:
    """What the model wrote, and the tokens it took (0 when the provider does not say)."""

    text: str
    input_tokens: int
    output_tokens: int


class LanguageModel:
    """The tenant's models, through the gateway.

    No temperature is sent: reasoning models refuse any but their own.
    """

    def __init__(self, invoke: Invoke) -> None:
        self._invoke = invoke

    async def complete(self, messages: Messages, model: str) -> Completion:
        """One completion. Raises the refusal with its status, its code and the provider's words, or `Unavailable`."""
        body = {"model": model, "messages": [dict(message) for message in messages]}
        answer = await self._invoke.request(LLM_FUNCTION, "POST", PATH, json=body, timeout_s=TIMEOUT_S)
        if answer.status_code >= 400:
            raise refused(model, answer.status_code, answer.content, answer.headers)
        return completion_in(model, answer)

    async def stream(self, messages: Messages, model: str) -> AsyncIterator[str]:
        """The text as it is written. Raises as `complete` does, also in the middle."""
        body = {"model": model, "messages": [dict(message) for message in messages], "stream": True}
        async with self._invoke.stream(LLM_FUNCTION, "POST", PATH, json=body, timeout_s=TIMEOUT_S) as answer:
            if answer.status_code >= 400:
                raise refused(model, answer.status_code, await answer.aread(), answer.headers)
            events = sse.Events()
            async for chunk in answer.aiter_bytes():
                for event in events.feed(chunk):
                    if text := text_in(model, event.data):
                        yield text


def completion_in(model: str, answer: httpx.Response) -> Completion:
    try:
        content = answer.json()
        usage = content.get("usage") or {}
        text = content["choices"][0]["message"].get("content") or ""
        return Completion(str(text), int(usage.get("prompt_tokens", 0)), int(usage.get("completion_tokens", 0)))
    except (ValueError, TypeError, LookupError, AttributeError) as odd:
        raise Unavailable(f"model {model!r} answered with something that is no chat completion") from odd


def text_in(model: str, data: bytes) -> str:
    """The text of one event of a stream. Raises the problem that it tells."""
    content = json_object(data)
    if content.get("error"):
        raise refused(model, 503, data, {})
    choices = content.get("choices")
    if not isinstance(choices, list) or not choices or not isinstance(choices[0], dict):
        return ""
    delta = choices[0].get("delta")
    return str(delta.get("content") or "") if isinstance(delta, dict) else ""


def refused(model: str, status: int, body: bytes, headers: Mapping[str, str]) -> Problem:
    """The gateway's error as a problem of ours."""
    told = json_object(body).get("error")
    error: Mapping[str, object] = told if isinstance(told, dict) else {}
    detail = f"model {model!r} did not answer: {str(error.get('message') or '')[:SAID_CHARS_MAX] or status}"
    if status >= 500:
        return Unavailable(detail)
    code, wait = str(error.get("code") or "refused")[:CODE_CHARS_MAX], headers.get("retry-after", "")
    seconds = int(wait) if wait.isascii() and wait.isdigit() else None
    return passed_on(status, code, detail, retry_after_s=seconds, headers=headers, openai_code=code)


def json_object(data: bytes) -> dict[str, Any]:  # Any: JSON of a provider's
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}
