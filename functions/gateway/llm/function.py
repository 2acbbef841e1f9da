"""The LLM gateway: OpenAI's routes over a tenant's own providers and the built-in models."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from functions.gateway.llm import builtin, chat, embeddings, models
from shared.function import Call, Function, Scale
from shared.function.invoke import Invoke
from shared.identity import Caller
from shared.llm.outbound import Providers
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets
from shared.usage import Ledger

MIB = 1024 * 1024

llm = Function(
    timeout_s=600,
    body_bytes_max=16 * MIB,
    dialect="openai",
    scale=Scale(max=20, concurrency=200, reason="calls wait for providers, they do not compute"),
)


@llm.route("/v1/models", method="GET", permission="models:use")
async def list_models(caller: Caller, tenant: TenantDatabase) -> Response:
    """The models that the key may use."""
    return models.listing(caller, await models.providers_of(tenant))


@llm.route("/v1/chat/completions", permission="models:use")
async def chat_completions(
    request: Request,
    call: Call,
    tenant: TenantDatabase,
    sealing: TenantSecrets,
    ledger: Ledger,
    invoke: Invoke,
    providers: Providers,
) -> Response:
    """A chat completion, whole or as a stream, by a provider or by `doc-chat`."""
    wanted = await chat.parse(request)
    target = models.resolve(call.caller, wanted.model, await models.providers_of(tenant))
    if target.builtin:
        return await builtin.doc_chat(call, wanted, ledger, invoke)
    return await chat.relay(call, wanted, target, providers, sealing, ledger)


@llm.route("/v1/embeddings", permission="models:use")
async def create_embeddings(
    request: Request,
    call: Call,
    tenant: TenantDatabase,
    sealing: TenantSecrets,
    ledger: Ledger,
    invoke: Invoke,
    providers: Providers,
) -> Response:
    """Vectors of texts, by a provider or by the built-in model."""
    wanted = await embeddings.parse(request)
    target = models.resolve(call.caller, wanted.model, await models.providers_of(tenant))
    if target.builtin:
        return await builtin.embed(call, wanted, ledger, invoke)
    return await embeddings.relay(call, wanted, target, providers, sealing, ledger)
