"""OpenAI's responses: by a provider that has them, or over its chat completions."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.gateway.llm import aliased, chat, doc_chat, models
from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.credentials import Provider, offer_of
from functions.gateway.llm.lane import Lane
from functions.gateway.llm.observing import observe
from functions.gateway.llm.responses import native, translated
from functions.gateway.llm.responses.asked import asked, checked_id
from functions.gateway.llm.responses.native import FEATURE, Asking
from functions.gateway.llm.responses.stored import Stored, Turn
from functions.gateway.llm.watching import Watch
from shared.compression.stored import Compression
from shared.errors import Malformed, NotFound
from shared.function import Call
from shared.function.invoke import Invoke
from shared.guardrails import Guardrails
from shared.llm.answers import Answers
from shared.llm.kinds import EMBEDDING
from shared.llm.outbound import Providers
from shared.llm.presence import answered
from shared.postgres import TenantDatabase, TenantTransaction
from shared.quotas import Meter
from shared.secrets import TenantSecrets


async def create_response(
    request: Request,
    call: Call,
    tenant: TenantDatabase,
    sealing: TenantSecrets,
    meter: Meter,
    invoke: Invoke,
    providers: Providers,
    guardrails: Guardrails,
    answers: Answers,
    compression: Compression,
) -> Response:
    """A response, whole or as a stream, by a provider that has them or over its chat completions."""
    wanted = await asked(request)
    watch = Watch(guardrails, call, tenant, sealing)
    watch.asked(wanted)
    asking = await asking_of(call, tenant, sealing, meter, providers)
    lane = Lane(request, call, tenant, sealing, meter, providers, guardrails, answers, compression, invoke)
    by_chat = partial(chat.relay, call, providers=providers, sealing=sealing, meter=meter, feature=FEATURE)

    async def work() -> Response:
        target = await models.chosen(call.caller, wanted.model, tenant, providers)
        models.check_dialect(target, wanted.model, "openai", FEATURE)
        body, provider = aliased.asked(wanted, target), target.provider
        observe(call, FEATURE, provider=provider, model=wanted.model, content=wanted.content)
        if provider is not None and provider.of.responses:
            return aliased.answered(await native.create(asking, lane, body, target, provider), target)

        async def ask(conversation: Wanted) -> Response:
            if provider is None:
                return await doc_chat.respond(call, conversation, target, meter, invoke)
            relay = by_chat if models.dialect_of(target) == "openai" else lane.translating(FEATURE)
            return await lane.kept_or_asked(conversation, target, provider, FEATURE, relay)

        if target.model == EMBEDDING and provider is None:
            raise Malformed(f"the model {wanted.model!r} is not for this route", param="model")
        return aliased.answered(await translated.create(asking.stored, body, target, ask), target)

    return watch.answered(await answered(request, work()))


async def get_response(
    response_id: str,
    request: Request,
    call: Call,
    tenant: TenantDatabase,
    sealing: TenantSecrets,
    meter: Meter,
    providers: Providers,
) -> Response:
    """A response of this key's, as it is kept."""
    asking = await asking_of(call, tenant, sealing, meter, providers)
    turn = await asking.stored.find(checked_id(response_id))
    if turn.sealed is None:
        return await native.passed(asking, request, turn, await keeping(asking, turn))
    if request.query_params.get("stream") == "true":
        raise Malformed("a response that has ended is not streamed again", param="stream")
    return JSONResponse((await asking.stored.content(turn))["response"])


async def list_input_items(
    response_id: str,
    request: Request,
    call: Call,
    tenant: TenantDatabase,
    sealing: TenantSecrets,
    meter: Meter,
    providers: Providers,
) -> Response:
    """What was put into a response of this key's."""
    asking = await asking_of(call, tenant, sealing, meter, providers)
    turn = await asking.stored.find(checked_id(response_id))
    if turn.sealed is None:
        return await native.passed(asking, request, turn, await keeping(asking, turn), more="/input_items")
    return await translated.listed(asking.stored, turn, request)


async def delete_response(
    response_id: str,
    request: Request,
    call: Call,
    transaction: TenantTransaction,
    tenant: TenantDatabase,
    sealing: TenantSecrets,
    meter: Meter,
    providers: Providers,
) -> Response:
    """Forget a response of this key's, here or at the provider that keeps it."""
    asking = await asking_of(call, tenant, sealing, meter, providers)
    turn = await asking.stored.find(checked_id(response_id))
    call.note(resource=f"response/{turn.id}")
    if turn.sealed is not None:
        await asking.stored.forget(transaction, turn.id)
        return translated.deleted(turn)
    told = await native.passed(asking, request, turn, await keeping(asking, turn))
    if told.status_code in (200, 204, 404):
        await asking.stored.forget(transaction, turn.id)
    return translated.deleted(turn) if told.status_code == 404 else told


async def asking_of(
    call: Call, tenant: TenantDatabase, sealing: TenantSecrets, meter: Meter, providers: Providers
) -> Asking:
    scope = models.scope_of(call.caller, await offer_of(tenant, providers))
    stored = Stored(tenant, sealing, call.caller, scope, call.process.settings.responses_days)
    return Asking(call, sealing, meter, providers, stored)


async def keeping(asking: Asking, turn: Turn) -> Provider:
    """The provider that keeps the response. Raises `NotFound` when the tenant has it no longer."""
    offer = await offer_of(asking.stored.tenant, asking.providers)
    found = next((one for one in offer.providers if one.name == turn.provider), None)
    if found is None:
        raise NotFound(f"there is no response {turn.id!r}", param="response_id")
    return found
