"""Translation: a model's call in one dialect, asked of a provider that speaks another.

The gateway's own, behind it: nobody else may call. What a call takes and costs is the gateway's to know; here it is
asked, once, and what the provider says it used is told.
"""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from functions.gateway.translate import engine, exchange, routes
from functions.gateway.translate.asked import parsed
from shared.errors import Forbidden, Problem, UnsupportedMediaType
from shared.function import Call, Function, Scale
from shared.llm.outbound import Providers
from shared.llm.presence import answered
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets

MIB = 1024 * 1024
JSON = "application/json"

translate = Function(
    timeout_s=600,
    body_bytes_max=17 * MIB,  # the gateway's 16, and what it says besides
    image="translate",
    scale=Scale(max=10, concurrency=100, reason="calls wait for providers; each frame of a stream is translated"),
)


@translate.route("/v1/translate", permission="models:use")
async def translate_call(
    request: Request, call: Call, tenant: TenantDatabase, sealing: TenantSecrets, providers: Providers
) -> Response:
    """Ask a provider, once, what was asked in another dialect: whole or as a stream. For the gateway only."""
    if call.caller.kind != "function":
        raise Forbidden("this route is the gateway's: call /v1/chat/completions or /v1/messages")
    kind = request.headers.get("content-type", JSON)
    if kind != JSON:
        raise UnsupportedMediaType(f"send {JSON}, not {kind[:80]!r}")
    asked = parsed(await request.body())

    async def work() -> Response:
        try:
            await engine.loaded()
        except Problem as problem:
            return exchange.told(problem, asked=False)
        return await routes.held(asked, tenant, sealing, providers)

    return await answered(request, work())
