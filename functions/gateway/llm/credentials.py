"""A tenant's providers as stored: read at most once a second, their keys opened for each call and kept nowhere."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, cast
from urllib.parse import urlsplit

from shared.llm.allowed import is_allowed
from shared.llm.google import AccessTokens
from shared.llm.kinds import KINDS, Kind
from shared.llm.outbound import Providers
from shared.llm.transforms import Transform
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets

tokens = AccessTokens()
"""This process's, of all tenants' service accounts."""
PROVIDERS_MAX, ALIASES_MAX, GROUPS_MAX = 500, 500, 500


@dataclass(frozen=True)
class Provider:
    """An endpoint in one of the two dialects and the tenant's key to it, still sealed."""

    name: str
    base_url: str
    models: tuple[str, ...]
    sealed: bytes = field(repr=False)
    kind: str = "openai-compatible"

    @property
    def of(self) -> Kind:
        """What is known of its kind."""
        return KINDS[self.kind]

    async def key(self, sealing: TenantSecrets) -> str:
        """Empty when it has none."""
        return (await sealing.open(f"provider:{self.name}", self.sealed)).decode()

    async def access(self, sealing: TenantSecrets, key: str, providers: Providers) -> str:
        """What is sent in the key's place: for a service account its access token. Raises as `of_provider` does."""
        if not self.of.service_account:
            return key
        return await tokens.of_provider(f"{sealing.tenant}/{self.name}", self.sealed, key, providers)


@dataclass(frozen=True)
class Alias:
    """A name of the tenant's own for a model of a provider. `defaults`: what a body has of which the caller says
    nothing; `request` and `answer`: what becomes of the bodies."""

    provider: str
    model: str
    defaults: Mapping[str, Any]  # Any: JSON
    request: Transform
    answer: Transform


@dataclass(frozen=True)
class Offer:
    """What a tenant has: providers by name, aliases and groups of models by theirs. `allowed`: what it may use, as
    `<host>/<model>` with `*` for anything; None when that is everything."""

    providers: tuple[Provider, ...] = ()
    aliases: Mapping[str, Alias] = field(default_factory=dict)
    groups: Mapping[str, frozenset[str]] = field(default_factory=dict)
    allowed: tuple[str, ...] | None = None

    def allows(self, provider: Provider, model: str) -> bool:
        """Whether the tenant may use a model of that name at the host of this provider."""
        return self.allowed is None or is_allowed(self.allowed, urlsplit(provider.base_url).hostname or "", model)


async def offer_of(tenant: TenantDatabase, providers: Providers, *, afresh: bool = False) -> Offer:
    """The tenant's providers and aliases, as they were less than a second ago, or as they are."""
    asked = providers.remembered.afresh if afresh else providers.remembered.get
    return cast("Offer", await asked(tenant.tenant, lambda: stored(tenant, providers)))


async def stored(tenant: TenantDatabase, providers: Providers) -> Offer:
    rows = await tenant.fetch(
        "SELECT name, base_url, models, sealed, kind FROM provider_credentials ORDER BY name LIMIT $1", PROVIDERS_MAX
    )
    named = await tenant.fetch(
        "SELECT name, provider, model, defaults, request, answer FROM model_aliases LIMIT $1", ALIASES_MAX
    )
    groups = await tenant.fetch("SELECT name, models FROM model_groups LIMIT $1", GROUPS_MAX)
    return Offer(
        tuple(
            Provider(row["name"], row["base_url"], tuple(row["models"]), bytes(row["sealed"]), row["kind"])
            for row in rows
        ),
        {
            row["name"]: Alias(
                row["provider"], row["model"], row["defaults"], transform(row["request"]), transform(row["answer"])
            )
            for row in named
        },
        {row["name"]: frozenset(row["models"]) for row in groups},
        await providers.allowed(tenant.tenant),
    )


def transform(stored: Mapping[str, Any]) -> Transform:  # Any: JSON
    return Transform(stored.get("set", {}), tuple(stored.get("without", ())))
