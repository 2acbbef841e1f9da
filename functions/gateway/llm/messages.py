"""Anthropic's messages over a provider that speaks them: one attempt, bytes unchanged."""

from __future__ import annotations

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
from shared.quotas import Meter
from shared.secrets import TenantSecrets

PATH, COUNT_PATH = "/v1/messages", "/v1/messages/count_tokens"
PASSED = {b"anthropic-version", b"anthropic-beta"}


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
    )
    metered = settlement.metered
    with settlement.or_settled():
        body = for_provider(wanted, model, ask_usage=False)
        asked = headers_of(request, provider.of.credential(key))
        answer = await settlement.waiting(opened(providers, provider, path_of(request), body, asked))
    if not is_stream(answer):
        passed = await finished(answer, settlement, provider, key, wire)
        passed.headers["request-id"] = call.request_id
        return passed
    room = Room(settlement, AnthropicEnding()) if metered.in_pieces else None
    stream = Relay(answer, provider, settlement, wire, room)
    headers = settlement.headers | {"x-dcoder-provider": provider.name, "request-id": call.request_id}
    return Stream(stream.pieces(), media_type=answer.headers["content-type"], headers=headers, relayed=stream)


def path_of(request: Request) -> str:
    """The SDKs' beta clients mark their calls in the query. Nothing else of the query is passed on."""
    path = COUNT_PATH if request.url.path == COUNT_PATH else PATH
    return f"{path}?beta=true" if request.query_params.get("beta") == "true" else path


def headers_of(request: Request, credential: dict[bytes, bytes]) -> dict[bytes, bytes]:
    """The tenant's key, and of the caller's headers the two that choose the format. Several of a name stay several
    values of one, as RFC 9110 §5.3 has it."""
    headers = credential
    for name, value in request.headers.raw:
        if name in PASSED:
            headers[name] = headers[name] + b"," + value if name in headers else value
    headers.setdefault(b"anthropic-version", ANTHROPIC_VERSION)  # without one, Anthropic refuses a call
    return headers
