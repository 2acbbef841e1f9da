"""Responses of a provider that has them: bytes passed on, what they hold kept there, whose they are noted here."""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import dataclass

from starlette.requests import Request
from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted, for_provider
from functions.gateway.llm.caching import NO_STORE, is_anothers
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.lane import Lane
from functions.gateway.llm.models import Target
from functions.gateway.llm.providers import finished, opened
from functions.gateway.llm.relay import Relay
from functions.gateway.llm.reservation import LEAST_OUTPUT, wish_of
from functions.gateway.llm.responses.asked import hosted
from functions.gateway.llm.responses.copies import ENDED, Copy
from functions.gateway.llm.responses.earlier import continued
from functions.gateway.llm.responses.stored import Stored, Turn
from functions.gateway.llm.settlement import NOTHING, begun
from functions.gateway.llm.wires import Responses
from shared.errors import Malformed
from shared.function import Call
from shared.llm.exchange import is_stream
from shared.llm.outbound import Providers
from shared.llm.presence import Stream
from shared.quotas import Meter
from shared.secrets import TenantSecrets
from shared.usage import Tokens

PATH = "/responses"
FEATURE = "responses"
LENGTHS = ("max_output_tokens",)
QUERY = {
    "include": re.compile(r"[a-z_.]{1,100}"),
    "include[]": re.compile(r"[a-z_.]{1,100}"),
    "limit": re.compile(r"[0-9]{1,3}"),
    "order": re.compile(r"asc|desc"),
    "after": re.compile(r"[A-Za-z0-9_-]{1,200}"),
}
"""What of a query is passed on, and what its values can be."""


@dataclass(frozen=True)
class Asking:
    """What it takes to ask a provider for this caller."""

    call: Call
    sealing: TenantSecrets
    meter: Meter
    providers: Providers
    stored: Stored


async def create(asking: Asking, lane: Lane, wanted: Wanted, target: Target, provider: Provider) -> Response:
    """The provider's response, or a copy of one that it made of the same request."""
    before = await continued(asking.stored, wanted, provider)

    async def ask(asked: Wanted, provider: Provider, model: str) -> Response:
        return await relayed(asking, asked, target, provider, before.tokens, wanted)

    # a tool that the provider runs does something, or looks something up, at the moment it is asked
    again = not hosted(wanted)
    answer = await lane.kept_or_asked(before.wanted, target, provider, FEATURE, ask, again=again)
    if not is_anothers(answer):
        return answer
    return await Copy(asking.stored, wanted, before.given, target, provider).of(answer)


async def relayed(
    asking: Asking, asked: Wanted, target: Target, provider: Provider, before_tokens: int, wanted: Wanted
) -> Response:
    """Ask the provider, once, and note whose the response is. `wanted`: what its caller said."""
    key = await provider.key(asking.sealing)
    wish = wish_of(asked, lengths=LENGTHS)
    settlement = await begun(
        asking.meter,
        asking.call,
        provider,
        target.model,
        FEATURE,
        most=Tokens(wish.most.input + before_tokens, wish.most.output),
        least_output=None if wish.stated else LEAST_OUTPUT,
    )
    metered = settlement.metered
    with settlement.or_settled():
        if metered.bounded and (kind := hosted(wanted)):
            settlement.used = NOTHING
            raise Malformed(f"a limit holds, and nobody knows before what {kind[:60]!r} takes", param="tools")
        limit = {"max_output_tokens": metered.most.output} if metered.bounded and not wish.stated else {}
        body = for_provider(asked, target.model, ask_usage=False, more=limit)
        answer = await settlement.waiting(opened(asking.providers, provider, PATH, body, provider.of.credential(key)))
    wire = Responses()
    most = metered.most.input + metered.most.output

    async def note() -> None:
        if wire.id and wanted.content.get("store") is not False:
            used = wire.used.input + wire.used.output if wire.used else most
            names = sorted({wanted.model, *target.names})
            turn = Turn(wire.id, provider.name, wanted.model, names, wanted.content.get("previous_response_id"),
                        wire.items, used)  # fmt: skip
            await asking.stored.keep(turn)

    if not is_stream(answer):
        whole = await finished(answer, settlement, provider, key, wire)
        if whole.status_code == 200:
            await note()
            if settlement.answer.get("status") not in ENDED:
                whole.headers["cache-control"] = NO_STORE
        return whole
    stream = Relay(answer, provider, settlement, wire)
    headers = settlement.headers | {"x-dcoder-provider": provider.name}
    pieces = noted(stream.pieces(), wire, note)
    return Stream(pieces, media_type=answer.headers["content-type"], headers=headers, relayed=stream)


async def noted(
    pieces: AsyncGenerator[bytes, None], wire: Responses, note: Callable[[], Awaitable[None]]
) -> AsyncGenerator[bytes, None]:
    """The pieces. Before the caller knows the response's id, and before its end, it is noted whose it is."""
    known, ended = "", False
    async with aclosing(pieces):
        async for piece in pieces:
            if wire.id != known or wire.complete is not ended:
                known, ended = wire.id, wire.complete
                await note()
            yield piece


async def passed(asking: Asking, request: Request, turn: Turn, provider: Provider, *, more: str = "") -> Response:
    """Look at, or delete, what the provider keeps, by the method of the request. It costs nothing."""
    path = f"{PATH}/{turn.id}{more}{query_of(request)}"
    key = await provider.key(asking.sealing)
    settlement = await begun(
        asking.meter,
        asking.call,
        provider,
        turn.model,
        FEATURE,
        most=NOTHING,
        used=NOTHING,
    )
    with settlement.or_settled():
        credential = provider.of.credential(key)
        answer = await settlement.waiting(
            opened(asking.providers, provider, path, b"", credential, method=request.method.encode())
        )
    return await finished(answer, settlement, provider, key, Responses(billed=False))


def query_of(request: Request) -> str:
    """Raises `Malformed` for what is not passed on."""
    pairs = request.query_params.multi_items()
    for name, value in pairs:
        if name not in QUERY or not QUERY[name].fullmatch(value):
            raise Malformed(f"the query's {name[:60]!r} is not supported here, or not with that value", param=name[:60])
    return "?" + "&".join(f"{name}={value}" for name, value in pairs) if pairs else ""
