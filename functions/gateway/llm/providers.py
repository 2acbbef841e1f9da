"""One request to a provider, and what becomes of its answer."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING

from starlette.responses import Response

from functions.gateway.llm.bodies import json_object
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.settlement import NOTHING, Settlement, cost_header
from functions.gateway.llm.wires import Wire
from shared.errors import DeadlineExceeded, Problem, Unavailable
from shared.llm.outbound import NotConnected, Providers

if TYPE_CHECKING:
    import httpx

ANSWER_BYTES_MAX = 64 * 1024 * 1024
ERROR_CHARS_MAX = 500
STATUS_MAX = 599  # RFC 9110 §15; uvicorn cannot send what is beyond
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


@asynccontextmanager
async def translated(provider: Provider) -> AsyncIterator[None]:
    """The transport's failures as problems that name the provider."""
    import httpx

    try:
        yield
    except (httpx.ConnectError, httpx.ConnectTimeout) as failure:
        raise NotConnected(f"provider {provider.name!r} is not reachable", retry_after_s=5) from failure
    except httpx.PoolTimeout as full:
        raise NotConnected("too many calls of providers are in flight", retry_after_s=2) from full
    except httpx.TimeoutException as late:
        raise DeadlineExceeded(f"provider {provider.name!r} went silent") from late
    except httpx.DecodingError as odd:
        raise BadAnswer(f"provider {provider.name!r} sent an encoding that cannot be read") from odd
    except httpx.TransportError as lost:
        raise Unavailable(f"the connection to provider {provider.name!r} broke ({type(lost).__name__})") from lost
    except httpx.InvalidURL as wrong:
        raise NotConnected(f"provider {provider.name!r} has an unusable address", retry_after_s=60) from wrong


def bearer(key: str) -> dict[bytes, bytes]:
    """The credential of OpenAI's dialect. In bytes: httpx would put what it cannot encode into its exception."""
    return {b"authorization": b"Bearer " + key.encode()}


async def opened(
    providers: Providers, provider: Provider, path: str, body: bytes, credential: dict[bytes, bytes]
) -> httpx.Response:
    """The provider's answer with its head read. One attempt. Raises what `translated` says, or `ForbiddenAddress`."""
    headers = {
        **credential,
        b"content-type": b"application/json",
        b"accept": b"text/event-stream, application/json",
        b"accept-encoding": b"identity",  # passed on as it comes; who compresses all the same is unpacked
        b"user-agent": b"dcoder",
    }
    async with translated(provider):
        request = providers.client.build_request("POST", provider.base_url + path, content=body, headers=headers)
        return await providers.client.send(request, stream=True)


def is_stream(answer: httpx.Response) -> bool:
    """Whether it comes as server-sent events; an error and a whole answer do not."""
    return answer.status_code == 200 and answer.headers.get("content-type", "").startswith("text/event-stream")


async def whole(answer: httpx.Response, provider: Provider) -> bytes:
    """The body, at most 64 MiB. The connection is given back whatever happens."""
    received = bytearray()
    try:
        async with translated(provider):
            async for chunk in answer.aiter_bytes():
                received += chunk
                if len(received) > ANSWER_BYTES_MAX:
                    raise BadAnswer(f"the answer has more than {ANSWER_BYTES_MAX} bytes")
    finally:
        await asyncio.shield(answer.aclose())
    return bytes(received)


async def finished(
    answer: httpx.Response, settlement: Settlement, provider: Provider, key: str, wire: Wire
) -> Response:
    """A whole answer, or the provider's error, passed on with its status."""
    async with settlement.or_settled():
        content = await whole(answer, provider)
        if 300 <= answer.status_code < 400:
            settlement.used = NOTHING
            raise BadAnswer(f"provider {provider.name!r} answered with a redirect, which is not followed")
        if answer.status_code > STATUS_MAX:
            raise BadAnswer(f"provider {provider.name!r} answered with the status {answer.status_code}")
        await settlement.metered.durable()
    failed = answer.status_code >= 400
    settlement.outcome = "provider_error" if failed else "done"
    settlement.used = NOTHING if failed else wire.told(json_object(content))
    headers = {name: answer.headers[name] for name in PASSED_HEADERS if name in answer.headers}
    headers["content-type"] = "application/json" if failed else answer.headers.get("content-type", "application/json")
    headers |= settlement.headers | {"x-dcoder-provider": provider.name} | cost_header(settlement.settle())
    return Response(refusal(content, answer.status_code, key, wire) if failed else content, answer.status_code, headers)


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
