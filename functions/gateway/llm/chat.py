"""Chat and text completions over a provider: one attempt, whole or as a stream."""

from __future__ import annotations

from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted, for_provider
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.providers import finished, opened
from functions.gateway.llm.relay import Relay
from functions.gateway.llm.reservation import COMPLETION_MOST, LEAST_OUTPUT, OUTPUT_MOST, output_limit, wish_of
from functions.gateway.llm.settlement import begun
from functions.gateway.llm.stopping import PIECE_OUTPUT, OpenAiEnding, Room
from functions.gateway.llm.wires import OpenAi
from shared.function import Call
from shared.llm.exchange import is_stream
from shared.llm.outbound import Providers
from shared.llm.presence import Stream
from shared.quotas import Meter
from shared.secrets import TenantSecrets

PATHS = {"chat": "/chat/completions", "completions": "/completions", "responses": "/chat/completions"}
"""By the feature that the ledger names."""


async def relay(
    call: Call,
    wanted: Wanted,
    provider: Provider,
    model: str,
    *,
    providers: Providers,
    sealing: TenantSecrets,
    meter: Meter,
    feature: str = "chat",
) -> Response:
    """Ask the provider, once. `model` is what the provider calls it."""
    key = await provider.key(sealing)
    wish = wish_of(wanted, unlimited=COMPLETION_MOST if feature == "completions" else OUTPUT_MOST)
    settlement = await begun(
        meter,
        call,
        provider,
        model,
        feature,
        most=wish.most,
        least_output=None if wish.stated else LEAST_OUTPUT,
        piece_output=PIECE_OUTPUT if wanted.stream else None,
    )
    metered = settlement.metered
    ask_usage = wanted.stream and not wanted.wants_usage
    with settlement.or_settled():
        most = metered.whole.output // wish.answers
        limit = output_limit(provider, feature, most) if metered.bounded and not wish.stated else {}
        body = for_provider(wanted, model, ask_usage=ask_usage, more=limit)
        answer = await settlement.waiting(
            opened(providers, provider, PATHS[feature], body, provider.of.credential(key))
        )
    wire = OpenAi(withhold_usage=ask_usage)
    if not is_stream(answer):
        return await finished(answer, settlement, provider, key, wire)
    room = Room(settlement, OpenAiEnding()) if metered.in_pieces else None
    stream = Relay(answer, provider, settlement, wire, room)
    headers = settlement.headers | {"x-dcoder-provider": provider.name}
    return Stream(stream.pieces(), media_type=answer.headers["content-type"], headers=headers, relayed=stream)
