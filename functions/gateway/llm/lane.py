"""A model's call on its way through the gateway, the same for every route: who serves it, whether it was answered
before, what guardrails are shown."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from functools import partial

from starlette.requests import Request
from starlette.responses import Response

from functions.gateway.llm import aliased, models, translated
from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.caching import Caching
from functions.gateway.llm.compressing import Compressing
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.models import Target
from functions.gateway.llm.observing import observe
from functions.gateway.llm.watching import Watch
from shared.compression.stored import Compression
from shared.errors import Malformed
from shared.function import Call
from shared.function.invoke import Invoke
from shared.guardrails import Guardrails
from shared.llm.answers import Answers
from shared.llm.kinds import Dialect
from shared.llm.outbound import Providers
from shared.llm.presence import answered
from shared.postgres import TenantDatabase
from shared.quotas import Meter
from shared.secrets import TenantSecrets

Relayed = Callable[[Wanted, Provider, str], Coroutine[None, None, Response]]
"""Asks the provider for what is wanted, by the provider's own name of the model."""
IN_OTHER_WORDS = frozenset({"chat", "messages", "responses"})
"""Whose questions are compared by what they say. A count of tokens is of those very words."""
BuiltIn = Callable[[Target], Awaitable[Response]]


@dataclass(frozen=True)
class Lane:
    """One call's."""

    request: Request
    call: Call
    tenant: TenantDatabase
    sealing: TenantSecrets
    meter: Meter
    providers: Providers
    guardrails: Guardrails
    answers: Answers
    compression: Compression
    invoke: Invoke

    async def answer(
        self, wanted: Wanted, dialect: Dialect, feature: str, relay: Relayed, built_in: BuiltIn | None = None
    ) -> Response:
        """The model's answer, by its provider or built in. Work for a caller who has gone is ended.

        Raises `Problem`.
        """
        watch = Watch(self.guardrails, self.call, self.tenant, self.sealing)
        watch.asked(wanted)

        async def work() -> Response:
            target = await models.chosen(self.call.caller, wanted.model, self.tenant, self.providers)
            models.check_dialect(target, wanted.model, dialect, feature)
            provider = target.provider
            observe(self.call, feature, provider=provider, model=wanted.model, content=wanted.content)
            if provider is None:
                if built_in is None:
                    raise Malformed(f"the model {wanted.model!r} is not for this route", param="model")
                return await built_in(target)
            ask = self.translating(feature) if models.dialect_of(target) != dialect else relay
            answer = await self.kept_or_asked(aliased.asked(wanted, target), target, provider, feature, ask)
            return aliased.answered(answer, target)

        response = await answered(self.request, work())
        return response if feature == "embeddings" else watch.answered(response)  # vectors say nothing

    async def kept_or_asked(
        self, wanted: Wanted, target: Target, provider: Provider, feature: str, ask: Relayed, *, again: bool = True
    ) -> Response:
        """An answer that was given before, or what `ask` says to the prompt as short as it shall be. `again`: whether
        another's answer will do for such a request."""
        compressing = Compressing(self.request, self.compression, self.call, self.tenant, self.sealing)
        modes = await compressing.modes(feature)
        relayed = compressing.relayed(ask, modes, feature) if modes else ask
        invoke = self.invoke if feature in IN_OTHER_WORDS else None
        caching = Caching(self.answers, self.call, self.tenant, self.sealing, self.meter, modes, invoke, again)
        return await caching.answer(
            self.request, wanted, target, feature, lambda: relayed(wanted, provider, target.model)
        )

    def translating(self, feature: str) -> Relayed:
        return partial(translated.relay, self.call, feature=feature, meter=self.meter, invoke=self.invoke)
