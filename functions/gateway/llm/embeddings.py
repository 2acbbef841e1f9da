"""Embeddings over a provider."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted, for_provider, parsed
from functions.gateway.llm.chat import finished, opened_key
from functions.gateway.llm.models import Target
from functions.gateway.llm.providers import ask, opened
from shared.errors import Problem
from shared.function import Call
from shared.llm.outbound import Providers
from shared.secrets import TenantSecrets
from shared.usage import Ledger, Tokens

PATH = "/embeddings"


async def parse(request: Request) -> Wanted:
    """Raises `Malformed`."""
    return await parsed(request, required="input")


async def relay(
    call: Call, wanted: Wanted, target: Target, providers: Providers, sealing: TenantSecrets, ledger: Ledger
) -> Response:
    """Ask the provider, once."""
    provider = target.provider
    assert provider is not None
    entry = await ledger.begin(
        call.caller, request_id=call.request_id, model=target.model, provider=provider.name, feature="embeddings"
    )
    body = for_provider(wanted, target.model, ask_usage=False)
    try:
        answer = await opened(providers, ask(provider, PATH, body, await opened_key(provider, sealing)))
    except Problem:
        await ledger.end(entry, "provider_error", Tokens())
        raise
    except BaseException:
        await ledger.end(entry, "client_gone", Tokens())
        raise
    return await finished(answer, ledger, entry, provider)
