"""Embeddings: over a provider, or by the built-in model."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.gateway.llm.bodies import Wanted, for_provider, parsed
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.models import OWN
from functions.gateway.llm.neighbours import SEARCH, content_of
from functions.gateway.llm.providers import finished, opened
from functions.gateway.llm.reservation import input_most
from functions.gateway.llm.settlement import NOTHING, Settlement, begun, cost_header
from functions.gateway.llm.wires import OpenAi
from shared.errors import Malformed
from shared.function import Call
from shared.function.invoke import Invoke
from shared.llm.outbound import Providers
from shared.llm.vectors import base64_of
from shared.quotas import Meter
from shared.secrets import TenantSecrets
from shared.usage import Tokens

PATH = "/embeddings"
FEATURE = "embeddings"
TEXTS_MAX = 256
DIMENSIONS = 384


async def parse(request: Request) -> Wanted:
    """Raises `Malformed`."""
    return await parsed(request, required="input")


async def relay(
    call: Call,
    wanted: Wanted,
    provider: Provider,
    model: str,
    *,
    providers: Providers,
    sealing: TenantSecrets,
    meter: Meter,
) -> Response:
    """Ask the provider, once. `model` is what the provider calls it."""
    key = await provider.key(sealing)
    settlement = await begun(
        meter,
        call,
        provider,
        model,
        FEATURE,
        most=Tokens(input=input_most(wanted)),
    )
    with settlement.or_settled():
        body = for_provider(wanted, model, ask_usage=False)
        answer = await settlement.waiting(opened(providers, provider, PATH, body, provider.of.credential(key)))
    return await finished(answer, settlement, provider, key, OpenAi())


async def built_in(call: Call, wanted: Wanted, meter: Meter, invoke: Invoke) -> Response:
    """Vectors by the built-in model, in OpenAI's form."""
    texts = texts_of(wanted)
    metered = await meter.begin(
        call.caller,
        request_id=call.request_id,
        model=wanted.model,
        provider=OWN,
        feature=FEATURE,
        most=Tokens(input=input_most(wanted)),
    )
    settlement = Settlement(meter, metered, used=NOTHING)
    with settlement.or_settled():
        asked = await settlement.waiting(
            invoke.request(SEARCH, "POST", "/v1/knowledge/embeddings", json={"input": texts}, timeout_s=120)
        )
        answer = content_of(asked)
        await metered.durable()
        settlement.outcome, settlement.used = "done", Tokens(input=int(answer["tokens"]))
    cost = settlement.settle()
    packed = wanted.content.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": base64_of(vector) if packed else vector}
        for index, vector in enumerate(answer["vectors"])
    ]
    counted = {"prompt_tokens": settlement.used.input, "total_tokens": settlement.used.input}
    body = {"object": "list", "model": wanted.model, "data": data, "usage": counted}
    return JSONResponse(body, headers=settlement.headers | {"x-dcoder-provider": OWN} | cost_header(cost))


def texts_of(wanted: Wanted) -> list[str]:
    """Raises `Malformed` for anything but a text or a list of texts."""
    given = wanted.content["input"]
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise Malformed(
            f"{wanted.model} takes a text or a list of texts, none empty; token ids are another model's"
            " (langchain: check_embedding_ctx_length=False)",
            param="input",
        )
    if len(texts) > TEXTS_MAX:
        raise Malformed(f"'input' has {len(texts)} texts; {wanted.model} takes {TEXTS_MAX}", param="input")
    if wanted.content.get("dimensions") not in (None, DIMENSIONS):
        raise Malformed(f"{wanted.model} has {DIMENSIONS} dimensions", param="dimensions")
    return texts
