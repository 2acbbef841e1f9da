"""One request to a provider, and what becomes of its answer."""

from __future__ import annotations

import json

from starlette.responses import Response

from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.settlement import NOTHING, Settlement, cost_header
from functions.gateway.llm.wires import Wire
from shared.llm import http
from shared.llm.dialect import message_in, refusal_in
from shared.llm.exchange import ASKED, BadAnswer, failed, whole
from shared.llm.outbound import Providers
from shared.llm.usage import json_object

ERROR_CHARS_MAX = 500
STATUS_MAX = 599  # RFC 9110 §15; uvicorn cannot send what is beyond
PASSED_HEADERS = (
    "retry-after", "retry-after-ms", "x-should-retry", "openai-processing-ms", "x-ratelimit-limit-requests",
    "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-limit-tokens",
    "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens",
    *(f"anthropic-ratelimit-{what}-{kind}" for what in ("requests", "tokens", "input-tokens", "output-tokens")
      for kind in ("limit", "remaining", "reset")),
)  # fmt: skip


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
        raise failed(provider.name, failure) from failure


async def finished(answer: http.Answer, settlement: Settlement, provider: Provider, key: str, wire: Wire) -> Response:
    """A whole answer, or the provider's error, passed on with its status."""
    with settlement.or_settled():
        content = await settlement.waiting(whole(answer, provider.name))
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
    told = refusal_in(content)
    if wire.is_error(told):
        return content
    message = message_in(told)
    if isinstance(message, str) and isinstance(told["error"], dict):
        return json.dumps(wire.error(message[:ERROR_CHARS_MAX], status)).encode()
    said = message if isinstance(message, str) else content.decode("utf-8", "replace").strip()
    return json.dumps(wire.error(f"the provider answered {status}: {said[:ERROR_CHARS_MAX]}", status)).encode()
