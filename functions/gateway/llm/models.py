"""Which models there are for a tenant, and which provider serves the one that is asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from starlette.responses import JSONResponse

from shared.errors import NotFound
from shared.identity import Caller
from shared.postgres import TenantDatabase

DOC_CHAT = "doc-chat"
EMBEDDING = "all-minilm-l6-v2"
BUILTIN = (DOC_CHAT, EMBEDDING)
SINCE = 1_730_000_000  # OpenAI's clients expect a creation time; it means nothing here


@dataclass(frozen=True)
class Provider:
    """A tenant's provider as stored: its key is still sealed."""

    name: str
    base_url: str
    models: tuple[str, ...]
    sealed: bytes = field(repr=False)


@dataclass(frozen=True)
class Target:
    """Where a model is served. `model` is what the provider calls it; without a provider it is built in."""

    model: str
    provider: Provider | None = None

    @property
    def builtin(self) -> bool:
        return self.provider is None


async def providers_of(tenant: TenantDatabase) -> list[Provider]:
    rows = await tenant.fetch("SELECT name, base_url, models, sealed FROM provider_credentials ORDER BY name LIMIT 500")
    return [Provider(row["name"], row["base_url"], tuple(row["models"]), bytes(row["sealed"])) for row in rows]


def resolve(caller: Caller, model: str, providers: Sequence[Provider]) -> Target:
    """Who serves the model. A model that the key may not use looks as if it did not exist. Raises `NotFound`."""
    target = find(model, providers)
    if target is None or not may_use(caller, model):
        raise NotFound(
            f"the model {model[:100]!r} does not exist or this key may not use it; GET /v1/models lists those it may",
            openai_code="model_not_found",
            param="model",
        )
    return target


def find(model: str, providers: Sequence[Provider]) -> Target | None:
    if model in BUILTIN:
        return Target(model)
    head, _, tail = model.partition("/")
    if head == DOC_CHAT and tail:
        return Target(model) if find(tail, providers) else None
    for provider in providers:
        if model in provider.models:
            return Target(model, provider)
    for provider in providers:
        if provider.name == head and tail in provider.models:
            return Target(tail, provider)
    return None


def may_use(caller: Caller, model: str) -> bool:
    return caller.models is None or model in caller.models


def listing(caller: Caller, providers: Sequence[Provider]) -> JSONResponse:
    """In OpenAI's form, the built-in ones first."""
    owned = [(name, "dcoder") for name in BUILTIN]
    owned += [(model, provider.name) for provider in providers for model in provider.models]
    names: dict[str, str] = {}
    for name, owner in owned:
        names.setdefault(name, owner)
    data = [
        {"id": name, "object": "model", "created": SINCE, "owned_by": owner}
        for name, owner in names.items()
        if may_use(caller, name)
    ]
    return JSONResponse({"object": "list", "data": data})
