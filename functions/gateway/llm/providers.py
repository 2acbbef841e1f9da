"""One request to a provider, and what becomes of its answer."""

from __future__ import annotations

import json

from starlette.responses import Response

from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.settlement import NOTHING, Settlement, cost_header
from functions.gateway.llm.wires import Wire
from shared.errors import DeadlineExceeded, Problem, Unavailable
from shared.llm import http
from shared.llm.outbound import NotConnected, Providers
from shared.llm.usage import json_object

ANSWER_BYTES_MAX = 64 * 1024 * 1024
ERROR_CHARS_MAX = 500
STATUS_MAX = 599  # RFC 9110 §15; uvicorn cannot send what is beyond
ASKED = {
    b"content-type": b"application/json",
    b"accept": b"text/event-stream, application/json",
    b"accept-encoding": b"identity",  # passed on as it comes; who compresses all the same is unpacked
    b"user-agent": b"dcoder",
}
PASSED_HEADERS = (
    "retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms", "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
    *(f"anthropic-ratelimit-{what}-{kind}" for what in ("requests", "tokens", "input-tokens", "output-tokens")
      for kind in ("limit", "remaining", "reset")),
)  # fmt: skip


class BadAnswer(Problem):
    """The provider answered with something that is no answer: a redirect, or more than we take."""

    status, code, title = 502, "provider_answer_unusable", "Unusable answer of the provider"


def failed(provider: Provider, failure: http.Failure) -> Problem:
    """What happened on the way, as a problem that names the provider."""
    match failure:
        case http.Full():
            return NotConnected("too many calls of providers are in flight", retry_after_s=2)
        case http.ConnectFailure():
            return NotConnected(f"provider {provider.name!r} is not reachable", retry_after_s=5)
        case http.Silence():
            return DeadlineExceeded(f"provider {provider.name!r} went silent")
        case http.Unreadable():
            return BadAnswer(f"provider {provider.name!r} sent an encoding that cannot be read")
    return Unavailable(f"the connection to provider {provider.name!r} broke")


async def opened(
    providers: Providers,
    provider: Provider,
    path: str,
    body: bytes,
    headers: dict[bytes, bytes],
    *,
    method: bytes = b"POST",
) -> http.Answer:
    """The provider's answer with its head read. `headers`: the credential, and what is not as usual. One attempt.
    Raises what `failed` says, or `ForbiddenAddress`."""
    try:
        return await providers.client.send(method, provider.base_url + path, {**ASKED, **headers}, body)
    except http.Failure as failure:
        raise failed(provider, failure) from failure


def is_stream(answer: http.Answer) -> bool:
    """Whether it comes as server-sent events; an error and a whole answer do not."""
    return answer.status == 200 and answer.headers.get("content-type", "").startswith("text/event-stream")


async def whole(answer: http.Answer, provider: Provider) -> bytes:
    """The body, at most 64 MiB."""
    pieces, size = [], 0
    try:
        while (piece := await answer.read()) is not None:
            pieces.append(piece)
            size += len(piece)
            if size > ANSWER_BYTES_MAX:
                raise BadAnswer(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    except http.Failure as failure:
        raise failed(provider, failure) from failure
    finally:
        answer.close()
    return b"".join(pieces)


async def finished(answer: http.Answer, settlement: Settlement, provider: Provider, key: str, wire: Wire) -> Response:
    """A whole answer, or the provider's error, passed on with its status."""
    async with settlement.or_settled():
        content = await settlement.waiting(whole(answer, provider))
        if 300 <= answer.status < 400:
            settlement.used = NOTHING
            raise BadAnswer(f"provider {provider.name!r} answered with a redirect, which is not followed")
        if answer.status > STATUS_MAX:
            raise BadAnswer(f"provider {provider.name!r} answered with the status {answer.status}")
        await settlement.metered.durable()
    refused = answer.status >= 400
    settlement.outcome = "provider_error" if refused else "done"
    settlement.refusal = str(answer.status) if refused else ""
    settlement.answer = {} if refused else json_object(content)
    settlement.used = NOTHING if refused else wire.told(settlement.answer)
    headers = {name: answer.headers[name] for name in PASSED_HEADERS if name in answer.headers}
    headers["content-type"] = "application/json" if refused else answer.headers.get("content-type", "application/json")
    headers |= settlement.headers | {"x-dcoder-provider": provider.name} | cost_header(settlement.settle())
    return Response(refusal(content, answer.status, key, wire) if refused else content, answer.status, headers)


def refusal(content: bytes, status: int, key: str, wire: Wire) -> bytes:
    """The provider's error in its dialect's shape: its own bytes where they have it. The tenant's key is never
    repeated."""
    if key:
        content = content.replace(key.encode(), b"[key]")
    error = json_object(content).get("error")
    if isinstance(error, dict) and isinstance(error.get("message"), str):
        return content
    said = error if isinstance(error, str) else content.decode("utf-8", "replace").strip()
    message = f"the provider answered {status}: {said[:ERROR_CHARS_MAX]}"
    return json.dumps(wire.error(message, status)).encode()
