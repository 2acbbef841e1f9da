"""What is asked for, by the gateway's routes."""

from __future__ import annotations

from starlette.responses import Response

from functions.gateway.translate import chats, counting, embeddings, upstream
from functions.gateway.translate.asked import Asked
from functions.gateway.translate.exchange import Exchange, told
from shared.errors import Problem
from shared.llm.outbound import ForbiddenAddress, NotConnected, Providers
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets


async def held(asked: Asked, tenant: TenantDatabase, sealing: TenantSecrets, providers: Providers) -> Response:
    """The answer, or the provider's refusal, or a problem of ours, each marked as what it is."""
    exchange: Exchange | None = None
    try:
        exchange = Exchange(await upstream.endpoint(asked.provider, tenant, sealing, providers), providers)
        return await answered(asked, exchange)
    except (ForbiddenAddress, NotConnected) as problem:
        return told(problem, asked=False)
    except Problem as problem:
        return told(problem, asked=exchange is not None and exchange.sent)


async def answered(asked: Asked, exchange: Exchange) -> Response:
    match asked.route:
        case "embeddings":
            return await embeddings.answer(asked, exchange)
        case "count_tokens":
            return await counting.answer(asked, exchange)
        case _:
            return await chats.answer(asked, exchange)
