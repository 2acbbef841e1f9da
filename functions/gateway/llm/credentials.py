"""A tenant's providers as stored: read at most once a second, their keys opened for each call and kept nowhere."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

from shared.llm.kinds import KINDS, Kind
from shared.llm.outbound import Providers
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets

PROVIDERS_MAX = 500


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


async def providers_of(tenant: TenantDatabase, providers: Providers, *, afresh: bool = False) -> tuple[Provider, ...]:
    """The tenant's providers by name, as they were less than a second ago, or as they are."""
    asked = providers.remembered.afresh if afresh else providers.remembered.get
    return cast("tuple[Provider, ...]", await asked(tenant.tenant, lambda: stored(tenant)))


async def stored(tenant: TenantDatabase) -> tuple[Provider, ...]:
    rows = await tenant.fetch(
        "SELECT name, base_url, models, sealed, kind FROM provider_credentials ORDER BY name LIMIT $1", PROVIDERS_MAX
    )
    return tuple(
        Provider(row["name"], row["base_url"], tuple(row["models"]), bytes(row["sealed"]), row["kind"]) for row in rows
    )
