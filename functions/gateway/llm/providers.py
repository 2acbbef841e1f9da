"""One request to a provider and what becomes of its answer."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from starlette.responses import Response

from functions.gateway.llm.models import Provider
from shared.errors import DeadlineExceeded, Unavailable
from shared.llm.outbound import Providers

if TYPE_CHECKING:
    import httpx

ANSWER_BYTES_MAX = 64 * 1024 * 1024
PASSED_HEADERS = ("content-type", "retry-after", "openai-processing-ms", "x-ratelimit-limit-requests",
                  "x-ratelimit-remaining-requests", "x-ratelimit-reset-requests", "x-ratelimit-limit-tokens",
                  "x-ratelimit-remaining-tokens", "x-ratelimit-reset-tokens")  # fmt: skip


@dataclass(frozen=True)
class Outgoing:
    """A request to a provider."""

    url: str
    body: bytes = field(repr=False)
    headers: dict[str, str] = field(repr=False)


def ask(provider: Provider, path: str, body: bytes, key: str) -> Outgoing:
    headers = {
        "authorization": f"Bearer {key}",
        "content-type": "application/json",
        "accept": "text/event-stream, application/json",
        "accept-encoding": "identity",  # the bytes are passed on as they come
        "user-agent": "dcoder",
    }
    return Outgoing(provider.base_url + path, body, headers)


async def opened(providers: Providers, outgoing: Outgoing) -> httpx.Response:
    """The answer with its head read. One attempt. Raises `Unavailable` or `DeadlineExceeded`."""
    import httpx

    request = providers.client.build_request("POST", outgoing.url, content=outgoing.body, headers=outgoing.headers)
    try:
        return await providers.client.send(request, stream=True)
    except httpx.TimeoutException as late:
        raise DeadlineExceeded(f"the provider did not answer in time ({type(late).__name__})") from late
    except httpx.TransportError as lost:
        raise Unavailable(f"the provider is not reachable ({type(lost).__name__})", retry_after_s=5) from lost


async def whole_answer(answer: httpx.Response) -> bytes:
    """The body, at most 64 MiB. The connection is given back whatever happens."""
    import httpx

    received = bytearray()
    try:
        async for chunk in answer.aiter_raw():
            received += chunk
            if len(received) > ANSWER_BYTES_MAX:
                raise Unavailable("the provider's answer has more than 64 MiB")
    except httpx.TimeoutException as late:
        raise DeadlineExceeded("the provider stopped sending its answer") from late
    except httpx.TransportError as lost:
        raise Unavailable(f"the connection to the provider broke ({type(lost).__name__})") from lost
    finally:
        await answer.aclose()
    return bytes(received)


def passed_on(answer: httpx.Response, content: bytes, cost: int | None, provider: Provider) -> Response:
    """The provider's own answer or error, with what we know of its cost."""
    headers = {name: answer.headers[name] for name in PASSED_HEADERS if name in answer.headers}
    headers["x-dcoder-provider"] = provider.name
    headers["x-dcoder-cost-micro-usd"] = "unknown" if cost is None else str(cost)
    if 300 <= answer.status_code < 400:
        raise Unavailable(f"the provider answered with a redirect ({answer.status_code}), which is not followed")
    return Response(content, answer.status_code, headers)
