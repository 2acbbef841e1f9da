"""The LLM gateway: OpenAI's and Anthropic's routes over a tenant's own providers and the built-in models."""

from __future__ import annotations

from functools import partial

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.gateway.llm import chat, doc_chat, embeddings, messages, models, moderations, passing
from functions.gateway.llm.bodies import Wanted, conversation, parsed
from functions.gateway.llm.credentials import offer_of
from functions.gateway.llm.lane import Lane
from functions.gateway.llm.models import Target
from functions.gateway.llm.responses import routes as responses
from shared.compression.stored import Compression, original
from shared.errors import Malformed
from shared.function import Call, Function, Scale, Tick
from shared.function.invoke import Invoke
from shared.guardrails import Guardrails
from shared.identity import Caller
from shared.llm.answers import Answers
from shared.llm.kinds import DOC_CHAT, EMBEDDING
from shared.llm.outbound import Providers
from shared.postgres import TenantDatabase, TenantTransaction
from shared.quotas import Meter
from shared.secrets import TenantSecrets

MIB = 1024 * 1024

llm = Function(
    timeout_s=600,
    body_bytes_max=16 * MIB,
    dialect="openai",
    scale=Scale(max=20, concurrency=400, reason="calls wait for providers, they do not compute"),
)


@llm.route("/v1/models", method="GET", permission="models:use")
async def list_models(request: Request, caller: Caller, tenant: TenantDatabase, providers: Providers) -> Response:
    """The models that the key may use. For who sends `anthropic-version`, in Anthropic's form those of providers."""
    offer = await offer_of(tenant, providers)
    if "anthropic-version" not in request.headers:
        return JSONResponse({"object": "list", "data": models.listing(caller, offer)})
    spoken = [name for name, one in models.usable(caller, offer).items() if one.provider is not None]
    return JSONResponse(models.page(spoken, request.query_params))


@llm.route("/v1/models/{model:path}", method="GET", permission="models:use")
async def get_model(
    model: str, request: Request, caller: Caller, tenant: TenantDatabase, providers: Providers
) -> Response:
    """One model, if the key may use it."""
    target = await models.chosen(caller, model, tenant, providers)
    anthropic = "anthropic-version" in request.headers
    return JSONResponse(models.described_to_anthropic(model) if anthropic else models.described(model, target))


@llm.route("/v1/chat/completions", permission="models:use")
async def chat_completions(
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
    """A chat completion, whole or as a stream, by a provider or by `doc-chat`.

    A provider's stream is passed on byte for byte. The one exception: when the caller did not ask for the usage event,
    we ask for it and withhold it.
    """
    wanted = await conversation(request)

    async def built_in(target: Target) -> Response:
        refuse(wanted, EMBEDDING)
        return await doc_chat.respond(call, wanted, target, meter, invoke)

    lane = Lane(request, call, tenant, sealing, meter, providers, guardrails, answers, compression, invoke)
    relay = partial(chat.relay, call, providers=providers, sealing=sealing, meter=meter)
    return await lane.answer(wanted, "openai", "chat", relay, built_in)


@llm.route("/v1/completions", permission="models:use")
async def completions(
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
    """A completion of a text, with `suffix` of what follows: by a provider with OpenAI's older route, or by chat."""
    wanted = await parsed(request, required="prompt")
    lane = Lane(request, call, tenant, sealing, meter, providers, guardrails, answers, compression, invoke)
    relay = partial(chat.relay, call, providers=providers, sealing=sealing, meter=meter, feature="completions")
    return await lane.answer(wanted, "openai", "completions", relay)


@llm.route("/v1/embeddings", permission="models:use")
async def create_embeddings(
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
    """Vectors of texts, by a provider or by the built-in model."""
    wanted = await embeddings.parse(request)

    async def built_in(target: Target) -> Response:
        refuse(wanted, DOC_CHAT)
        return await embeddings.built_in(call, wanted, meter, invoke)

    lane = Lane(request, call, tenant, sealing, meter, providers, guardrails, answers, compression, invoke)
    relay = partial(embeddings.relay, call, providers=providers, sealing=sealing, meter=meter)
    return await lane.answer(wanted, "openai", "embeddings", relay, built_in)


@llm.route("/v1/messages", permission="models:use")
async def create_message(
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
    """A message in Anthropic's dialect, whole or as a stream. By a provider that speaks it, bytes unchanged; else
    translated."""
    wanted = await conversation(request)
    lane = Lane(request, call, tenant, sealing, meter, providers, guardrails, answers, compression, invoke)
    relay = partial(messages.relay, call, request, providers=providers, sealing=sealing, meter=meter)
    return await lane.answer(wanted, "anthropic", "messages", relay)


@llm.route("/v1/messages/count_tokens", permission="models:use")
async def count_message_tokens(
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
    """How many tokens a message's input has: the provider's count, or an estimate that says so. It costs nothing."""
    wanted = await conversation(request)
    lane = Lane(request, call, tenant, sealing, meter, providers, guardrails, answers, compression, invoke)
    relay = partial(messages.relay, call, request, providers=providers, sealing=sealing, meter=meter)
    return await lane.answer(wanted, "anthropic", "count_tokens", relay)


@llm.route("/v1/compression/originals/{original_id}", method="GET", permission="models:use")
async def get_original(original_id: str, caller: Caller, tenant: TenantDatabase, sealing: TenantSecrets) -> Response:
    """A tool's result that was put aside for the caller's key: what a model that calls `retrieve_original` wants."""
    return JSONResponse({"id": original_id, "content": await original(tenant, sealing, caller.owner, original_id)})


RESPONSE = "/v1/responses/{response_id}"
llm.route("/v1/responses", permission="models:use")(responses.create_response)
llm.route(RESPONSE, method="GET", permission="models:use")(responses.get_response)
llm.route(RESPONSE, method="DELETE", permission="responses:delete")(responses.delete_response)
llm.route(f"{RESPONSE}/input_items", method="GET", permission="models:use")(responses.list_input_items)
llm.route(f"{passing.PREFIX}/{{provider}}/{{path:path}}", permission="passthrough:use")(passing.pass_through)
llm.route("/v1/moderations", permission="models:use")(moderations.create_moderation)


@llm.every("41 3 * * *", per="tenant")
async def forget_responses(tick: Tick, tenant: TenantTransaction) -> None:
    """Forget responses whose time is over."""
    await tenant.execute("DELETE FROM responses WHERE expires_at < now()")


def refuse(wanted: Wanted, builtin: str) -> None:
    """Raises `Malformed` for a built-in model that does something else than what the route is for."""
    if wanted.model.partition("/")[0] == builtin:
        raise Malformed(f"the model {wanted.model!r} is not for this route", param="model")
