"""Providers' own routes, as they are: images, speech, rerank. Which are open is told by the provider's kind.

The tenant's key is put in, nothing of the caller's head but the body's type is passed on, and the path is one of a
table: nothing that the caller wrote becomes a part of a URL.
"""

from __future__ import annotations

import re
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from functions.gateway.llm import models
from functions.gateway.llm.bodies import JSON, Wanted, object_in
from functions.gateway.llm.credentials import Offer, Provider, offer_of
from functions.gateway.llm.observing import observe
from functions.gateway.llm.providers import finished, opened
from functions.gateway.llm.reservation import IMAGE_TOKENS_MOST, OUTPUT_MOST, input_most, wish_of
from functions.gateway.llm.settlement import NOTHING, Settlement, begun
from functions.gateway.llm.wires import OpenAi
from shared.errors import Malformed, NotFound, Problem, UnsupportedMediaType
from shared.function import Call
from shared.llm import http, sse
from shared.llm.exchange import failed
from shared.llm.outbound import Providers
from shared.llm.presence import Stream, answered
from shared.llm.usage import json_object, tier_of, tokens_in, whole
from shared.postgres import TenantDatabase
from shared.quotas import Meter
from shared.secrets import TenantSecrets
from shared.usage import Tokens

PREFIX = "/v1/passthrough"
FEATURE = "passthrough"
AUDIO = frozenset({"audio/speech", "audio/transcriptions", "audio/translations"})
IMAGES = frozenset({"images/generations", "images/edits"})
RANKING = frozenset({"rerank", "score"})
OPEN: Mapping[str, frozenset[str]] = {
    "openai": AUDIO | IMAGES | {"moderations"},
    "azure": AUDIO | IMAGES,
    "google": frozenset({"images/generations"}),
    "groq": AUDIO,
    "mistral": frozenset({"fim/completions", "ocr", "audio/transcriptions"}),
    "vllm": AUDIO | RANKING,
    "openai-compatible": AUDIO | IMAGES | RANKING,
}
"""By the provider's kind: paths below its base URL, for POST. No route is here that another of the gateway's governs,
none that keeps something in the provider's account (files, batches), and none of its administration."""
FORM = re.compile(r"multipart/form-data; ?boundary=\"?[A-Za-z0-9'()+_,./:=?-]{1,70}\"?")
MODEL_FIELD = re.compile(rb"name\s*=\s*\"?model", re.IGNORECASE)
MODEL_IN_FORM = re.compile(rb"name=\"model\"\r\n\r\n([\x21-\x7e]{1,200})\r\n")
FILE_FIELD = b"filename="
FORM_TEXT_MOST = 40_000
BYTES_PER_TOKEN_LEAST = 64
"""Of sound: ten tokens a second at the lowest bit rates that codecs have."""
EVENT_BYTES_MAX = 32 * 1024 * 1024


@dataclass(frozen=True)
class Body:
    """What a caller sends on. `kind`: its content type as the provider is told."""

    raw: bytes
    kind: str
    model: str = ""
    most: Tokens = NOTHING


@dataclass(frozen=True)
class Passed:
    """A provider's answer that is no JSON: sound, or events. Passed on as it comes, its usage read on the side."""

    answer: http.Answer
    provider: Provider
    settlement: Settlement
    wire: AnyUsage

    async def pieces(self) -> AsyncGenerator[bytes, None]:
        settlement, is_events = self.settlement, kind_of(self.answer) == "text/event-stream"
        events = sse.Events(bytes_max=EVENT_BYTES_MAX)
        settlement.outcome = "client_gone"
        try:
            await settlement.metered.durable()
            while (chunk := await self._read()) is not None:
                if settlement.observation is not None:
                    settlement.observation.piece(chunk)
                for event in events.feed(chunk) if is_events else ():
                    self.wire.keep(event.data)
                yield chunk
            settlement.outcome = "done"
        except Problem as problem:
            settlement.outcome = "cut"
            if not is_events:
                raise  # the connection ends short, which is all that such an answer can tell
            yield self.wire.error_event(problem)
        finally:
            self.answer.close()
            settlement.used = self.wire.used
            await settlement.settle_stream()

    async def _read(self) -> bytes | None:
        try:
            return await self.answer.read()
        except http.Failure as failure:
            raise failed(self.provider.name, failure) from failure


class AnyUsage(OpenAi):
    """Reads usage in whichever of its forms an answer or event has it."""

    def keep(self, data: bytes) -> bool:
        if b'"usage"' in data:
            self.used = self.told(json_object(data)) or self.used
        return True

    def told(self, content: dict[str, Any]) -> Tokens | None:
        return tokens_in(content) or tokens_named_input(content)


def tokens_named_input(content: dict[str, Any]) -> Tokens | None:
    """`usage` with `input_tokens` and `output_tokens`, as images and transcriptions have it."""
    usage = content.get("usage")
    if not isinstance(usage, dict):
        return None
    sent, written = whole(usage.get("input_tokens")), whole(usage.get("output_tokens"))
    if sent is None or written is None:
        return None
    details = usage.get("input_tokens_details") or usage.get("input_token_details")
    told = details if isinstance(details, dict) else {}
    parts = {"image_input": whole(told.get("image_tokens")), "audio_input": whole(told.get("audio_tokens"))}
    return Tokens(sent, written, tier=tier_of(content), **{name: count for name, count in parts.items() if count})


async def pass_through(
    provider: str,
    path: str,
    request: Request,
    call: Call,
    tenant: TenantDatabase,
    sealing: TenantSecrets,
    meter: Meter,
    providers: Providers,
) -> Response:
    """What a provider's own route makes of a body: images, speech, rerank. Metered and audited like every call."""
    body = await body_of(request)
    offer, target = await named(provider, tenant, providers)
    if target is None or not is_open(target, request, path):
        raise NotFound(f"there is no provider {provider[:63]!r} with an open route {path[:100]!r}")
    check(models.scope_of(call.caller, offer), request, body, target)
    if not offer.allows(target, body.model):
        raise unknown(body, target)
    async with tenant.transaction() as transaction:
        details = {"request_id": call.request_id, "model": body.model}
        await transaction.audit(call.name, f"provider/{provider}/{path}", actor=call.caller.subject, details=details)
    key = await target.key(sealing)
    observe(call, FEATURE, provider=target, model=body.model, content={})
    settlement = await begun(
        meter,
        call,
        target,
        body.model,
        FEATURE,
        most=body.most,
    )

    async def work() -> Response:
        with settlement.or_settled():
            headers = {**target.of.credential(key), b"content-type": body.kind.encode(), b"accept": b"*/*"}
            answer = await settlement.waiting(opened(providers, target, f"/{path}", body.raw, headers))
        if answer.status != 200 or kind_of(answer) == JSON:
            return await finished(answer, settlement, target, key, AnyUsage())
        stream = Passed(answer, target, settlement, AnyUsage())
        told = settlement.headers | {"x-dcoder-provider": provider, "x-content-type-options": "nosniff"}
        return Stream(stream.pieces(), media_type=kind_of(answer) or "application/octet-stream", headers=told)

    return await answered(request, work())


async def named(name: str, tenant: TenantDatabase, providers: Providers) -> tuple[Offer, Provider | None]:
    """The provider of that name, and what else the tenant has. One not known is looked for once more in the database
    itself."""
    for afresh in (False, True):
        offer = await offer_of(tenant, providers, afresh=afresh)
        if found := next((one for one in offer.providers if one.name == name), None):
            return offer, found
    return offer, None


async def body_of(request: Request) -> Body:
    """The body with its model and the most that it can take. Raises `Malformed` or `UnsupportedMediaType`."""
    said = request.headers.get("content-type", "").strip()
    if not said and not (raw := await request.body()):
        return Body(raw, "")
    if not said or said.partition(";")[0].strip().lower() == JSON:
        return of_json(await request.body())
    if not FORM.fullmatch(said):
        raise UnsupportedMediaType(f"send {JSON} or multipart/form-data, not {said[:80]!r}")
    return of_form(await request.body(), said)


def of_json(raw: bytes) -> Body:
    content = object_in(raw)
    model = content.get("model")
    if not isinstance(model, str) or not model:
        raise Malformed("'model' is missing or not a string", param="model")
    wanted = Wanted(model, content, raw)
    wish = wish_of(wanted)
    return Body(raw, JSON, model, Tokens(input=input_most(wanted), output=wish.most.output))


def of_form(raw: bytes, kind: str) -> Body:
    """A form's model has to be plain to every reader: the one field of that name, in its usual form."""
    found = MODEL_IN_FORM.findall(raw)
    if len(found) != 1 or len(MODEL_FIELD.findall(raw)) != 1:
        raise Malformed("the form needs one field 'model', without anything unusual about it", param="model")
    files = raw.count(FILE_FIELD)
    most = files * IMAGE_TOKENS_MOST + min(len(raw), FORM_TEXT_MOST) + len(raw) // BYTES_PER_TOKEN_LEAST
    return Body(raw, kind, found[0].decode(), Tokens(input=most, output=OUTPUT_MOST))


def is_open(provider: Provider, request: Request, path: str) -> bool:
    """Whether the table has it, and the caller wrote it plainly: no encoded character, no second way to say it."""
    raw = bytes(request.scope.get("raw_path") or request.scope["path"].encode())
    plain = raw.partition(b"?")[0] == f"{PREFIX}/{provider.name}/{path}".encode()
    return plain and path in OPEN.get(provider.kind, frozenset())


def check(scope: frozenset[str] | None, request: Request, body: Body, provider: Provider) -> None:
    """Raises `NotFound` for a model that the provider does not list or that is not in the key's scope.

    A key with a list of models sends no forms, whose model two readers could take differently.
    """
    if request.query_params:
        raise Malformed("this route passes no query on", param=next(iter(request.query_params))[:60])
    if not body.kind:
        raise UnsupportedMediaType(f"send {JSON} or multipart/form-data")
    named = {body.model, f"{provider.name}/{body.model}"}
    may = scope is None or (body.kind == JSON and bool(named & scope))
    if body.model not in provider.models or not may:
        raise unknown(body, provider)


def unknown(body: Body, provider: Provider) -> NotFound:
    return NotFound(
        f"the model {body.model[:100]!r} does not exist at {provider.name!r}, or this key may not use it here",
        openai_code="model_not_found",
        param="model",
    )


def kind_of(answer: http.Answer) -> str:
    return answer.headers.get("content-type", "").partition(";")[0].strip().lower()
