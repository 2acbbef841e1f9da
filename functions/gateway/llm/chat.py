"""Chat completions over a provider: one attempt, bytes passed through, usage read on the side, one ledger row."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from functions.gateway.llm.bodies import Wanted, for_provider, parsed, tokens_in
from functions.gateway.llm.models import Provider, Target
from functions.gateway.llm.providers import ask, opened, passed_on, whole_answer
from shared.errors import Malformed, Problem, Unavailable
from shared.function import Call
from shared.llm import sse
from shared.llm.dialect import openai_error
from shared.llm.outbound import Providers
from shared.secrets import TenantSecrets
from shared.usage import Ledger, OpenCall, Tokens
from shared.usage.ledger import Outcome

if TYPE_CHECKING:
    import httpx

PATH = "/chat/completions"


async def parse(request: Request) -> Wanted:
    """Raises `Malformed`."""
    wanted = await parsed(request, required="messages")
    messages = wanted.content["messages"]
    if not isinstance(messages, list) or not messages:
        raise Malformed("'messages' is not a list with at least one message", param="messages")
    options = wanted.content.get("stream_options")
    if options is not None and not isinstance(options, dict):
        raise Malformed("'stream_options' is not an object", param="stream_options")
    return wanted


async def relay(
    call: Call, wanted: Wanted, target: Target, providers: Providers, sealing: TenantSecrets, ledger: Ledger
) -> Response:
    """Ask the provider, once."""
    assert target.provider is not None
    entry = await ledger.begin(
        call.caller, request_id=call.request_id, model=target.model, provider=target.provider.name
    )
    ask_usage = wanted.stream and not (wanted.content.get("stream_options") or {}).get("include_usage")
    body = for_provider(wanted, target.model, ask_usage=ask_usage)
    answer = await opened_or_ended(call, target.provider, body, providers, sealing, ledger, entry)
    if wanted.stream and answer.status_code == 200:
        stream = Relay(answer, ledger, entry, withhold_usage=ask_usage)
        headers = {"cache-control": "no-cache", "x-dcoder-provider": target.provider.name}
        content_type = answer.headers.get("content-type", "text/event-stream")
        return StreamingResponse(stream.chunks(), headers=headers, media_type=content_type)
    return await finished(answer, ledger, entry, target.provider)


async def opened_or_ended(
    call: Call,
    provider: Provider,
    body: bytes,
    providers: Providers,
    sealing: TenantSecrets,
    ledger: Ledger,
    entry: OpenCall,
) -> httpx.Response:
    """The provider's answer, its head read; if there is none, the ledger says so before the caller is told."""
    try:
        return await opened(providers, ask(provider, PATH, body, await opened_key(provider, sealing)))
    except Problem:
        await ledger.end(entry, "provider_error", Tokens())
        raise
    except BaseException:
        await ledger.end(entry, "client_gone", Tokens())
        raise


async def opened_key(provider: Provider, sealing: TenantSecrets) -> str:
    return (await sealing.open(f"provider:{provider.name}", provider.sealed)).decode()


async def finished(answer: httpx.Response, ledger: Ledger, entry: OpenCall, provider: Provider) -> Response:
    """A whole answer, or a provider's error, passed on with its status."""
    outcome: Outcome = "client_gone"
    tokens = Tokens()
    cost: int | None = None
    try:
        content = await whole_answer(answer)
        outcome = "done" if answer.status_code < 400 else "provider_error"
        tokens = Tokens(*tokens_in(usage_of(content)))
    except Problem:
        outcome = "cut"
        raise
    finally:
        cost = await ledger.end(entry, outcome, tokens)
    return passed_on(answer, content, cost, provider)


def usage_of(content: bytes) -> object:
    try:
        parsed_content = json.loads(content)
    except (ValueError, RecursionError):
        return None
    return parsed_content.get("usage") if isinstance(parsed_content, dict) else None


@dataclass
class Relay:
    """A stream from provider to caller. Bytes pass unchanged; only the usage event that we asked for is withheld."""

    answer: httpx.Response
    ledger: Ledger
    entry: OpenCall
    withhold_usage: bool
    tokens: Tokens = field(default_factory=Tokens)
    complete: bool = False

    async def chunks(self) -> AsyncIterator[bytes]:
        """The caller's bytes. However it ends, the provider's connection is closed and the ledger has its row."""
        outcome: Outcome = "client_gone"
        try:
            async for passed in self._events():
                yield passed
            outcome = "done" if self.complete else "cut"
            if not self.complete:
                yield error_event(Unavailable("the provider ended the stream before it was complete"))
        except Problem as problem:
            outcome = "cut"
            yield error_event(problem)
        finally:
            await self._end(outcome)

    async def _events(self) -> AsyncIterator[bytes]:
        import httpx

        events = sse.Events()
        try:
            async for chunk in self.answer.aiter_raw():
                passed = b"".join(event.raw for event in events.feed(chunk) if self._keep(event))
                if passed:
                    yield passed
        except httpx.TimeoutException as late:
            raise Unavailable("the provider stopped sending") from late
        except httpx.TransportError as lost:
            raise Unavailable(f"the connection to the provider broke: {type(lost).__name__}") from lost
        rest = events.end()
        if rest:
            self._keep(sse.Event(rest, sse.data_of(rest)))
            yield rest

    def _keep(self, event: sse.Event) -> bool:
        """Read what the event tells; whether the caller gets it."""
        if event.data == b"[DONE]":
            self.complete = True
            return True
        if b'"usage"' not in event.data:
            return True
        content = object_in(event.data)
        usage = content.get("usage")
        if isinstance(usage, dict):
            self.tokens = Tokens(*tokens_in(usage))
        return not (self.withhold_usage and isinstance(usage, dict) and content.get("choices") == [])

    async def _end(self, outcome: Outcome) -> None:
        import asyncio

        await asyncio.shield(self.answer.aclose())
        await self.ledger.end(self.entry, outcome, self.tokens)


def object_in(data: bytes) -> dict[str, Any]:  # Any: JSON of the provider's
    try:
        content = json.loads(data)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def error_event(problem: Problem) -> bytes:
    """The explicit end of a stream that broke: a cut connection alone would look like a complete answer."""
    return sse.encode(json.dumps(openai_error(problem), ensure_ascii=False))
