"""Anthropic's messages over a provider that speaks them: one attempt, bytes unchanged."""

from __future__ import annotations

import json

from starlette.requests import Request
from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted, for_provider
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.providers import finished, opened
from functions.gateway.llm.relay import Relay
from functions.gateway.llm.reservation import wish_of
from functions.gateway.llm.settlement import NOTHING, begun
from functions.gateway.llm.stopping import PIECE_OUTPUT, AnthropicEnding, Room
from functions.gateway.llm.wires import Anthropic
from shared.function import Call
from shared.llm.exchange import is_stream
from shared.llm.kinds import ANTHROPIC_VERSION
from shared.llm.outbound import Providers
from shared.llm.presence import Stream
from shared.llm.translation import BY_PROVIDER, COUNTED
from shared.llm.vertex import COUNT_PATH as VERTEX_COUNT_PATH
from shared.llm.vertex import count_body, message_body, message_path
from shared.quotas import Meter
from shared.secrets import TenantSecrets

PATH, COUNT_PATH = "/v1/messages", "/v1/messages/count_tokens"
VERSION = b"anthropic-version"
OK = 200
PASSED = {VERSION, b"anthropic-beta"}


async def relay(
    call: Call,
    request: Request,
    wanted: Wanted,
    provider: Provider,
    model: str,
    *,
    providers: Providers,
    sealing: TenantSecrets,
    meter: Meter,
) -> Response:
    """Ask the provider, once, on the path that the caller took. `model` is what the provider calls it."""
    counting = request.url.path == COUNT_PATH
    wire = Anthropic(call.request_id, billed=not counting)
    key = await provider.key(sealing)
    feature = "count_tokens" if counting else "messages"
    settlement = await begun(
        meter,
        call,
        provider,
        model,
        feature,
        most=NOTHING if counting else wish_of(wanted).most,
        piece_output=PIECE_OUTPUT if wanted.stream else None,
        used=NOTHING if counting else None,
    )
    metered = settlement.metered
    with settlement.or_settled():
        key = await settlement.waiting(provider.access(sealing, key, providers))
        path, body = asked_of(request, wanted, provider, model)
        asked = headers_of(request, provider) | provider.of.credential(key)
        answer = await settlement.waiting(opened(providers, provider, path, body, asked))
    if not is_stream(answer):
        passed = await finished(answer, settlement, provider, key, wire)
        passed.headers["request-id"] = call.request_id
        if counting and passed.status_code == OK:
            passed.headers[COUNTED] = BY_PROVIDER
        return passed
    room = Room(settlement, AnthropicEnding()) if metered.in_pieces else None
    stream = Relay(answer, provider, settlement, wire, room)
    headers = settlement.headers | {"x-dcoder-provider": provider.name, "request-id": call.request_id}
    return Stream(stream.pieces(), media_type=answer.headers["content-type"], headers=headers, relayed=stream)


def asked_of(request: Request, wanted: Wanted, provider: Provider, model: str) -> tuple[str, bytes]:
    """The path below the provider's base URL, and the body. At Vertex AI the model is not in the body but in the path,
    and the version is; all else is the same."""
    if not provider.of.service_account:
        return path_of(request), for_provider(wanted, model, ask_usage=False)
    if request.url.path == COUNT_PATH:
        return VERTEX_COUNT_PATH, json.dumps(count_body(wanted.content, model)).encode()
    return message_path(model, stream=wanted.stream), json.dumps(message_body(wanted.content)).encode()


def path_of(request: Request) -> str:
    """The SDKs' beta clients mark their calls in the query. Nothing else of the query is passed on."""
    path = COUNT_PATH if request.url.path == COUNT_PATH else PATH
    return f"{path}?beta=true" if request.query_params.get("beta") == "true" else path


def headers_of(request: Request, provider: Provider) -> dict[bytes, bytes]:
    """Of the caller's headers the two that choose the format. Several of a name stay several values of one, as RFC 9110
    §5.3 has it."""
    headers: dict[bytes, bytes] = {}
    for name, value in request.headers.raw:
        if name in PASSED:
            headers[name] = headers[name] + b"," + value if name in headers else value
    if provider.of.service_account:
        headers.pop(VERSION, None)  # Vertex AI reads it in the body
    else:
        headers.setdefault(VERSION, ANTHROPIC_VERSION)  # without one, Anthropic refuses a call
    return headers
