"""What a process of one tenant is told and given: the same from the local host and on a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from shared.function.process import Process
from shared.identity import Tokens
from shared.ids import TenantId
from shared.settings import NOT_GRANTED, Settings
from shared.tenancy import TenantRegistry
from shared.tenancy.dedications import Credentials

NEVER_GRANTED = (
    "DCODER_NATS_URL", "DCODER_REDIS_URL", "DCODER_OBJECTS_URL", "DCODER_OBJECTS_ACCESS_KEY",
    "DCODER_OBJECTS_SECRET_KEY",
)  # fmt: skip
"""What no process of one tenant gets: each serves all tenants."""


@dataclass(frozen=True)
class Origins:
    """Where functions reach functions."""

    platform: str
    llm: str


def variables(tenant: TenantId, function: str, grants: frozenset[str], origins: Origins) -> dict[str, str]:
    """Its environment, but for the address of its database, which is secret, and the folder of its keys."""
    calls = "functions" in grants
    return {
        "DCODER_FUNCTION": function,
        "DCODER_TENANT": str(tenant),
        "DCODER_PLATFORM_URL": origins.platform if calls else NOT_GRANTED,
        "DCODER_LLM_URL": origins.llm if calls else NOT_GRANTED,
        **dict.fromkeys(NEVER_GRANTED, NOT_GRANTED),
    }


def key_names(grants: frozenset[str]) -> list[str]:
    """The key files among the grants: `data-key` is `data.key`."""
    return sorted(f"{grant.removesuffix('-key')}.key" for grant in grants if grant.endswith("-key"))


def keys_of(held: Credentials) -> dict[str, bytes]:
    """Key file → content."""
    return {"data.key": held.data_key, "issuer.key": held.issuer_key}


async def credentials_of(settings: Settings, tenant: TenantId) -> Credentials:
    """All that the tenant's own processes hold, by the platform's settings and keys. Raises `NotFound`."""
    from shared.function.resources import OPENERS

    process = Process(settings, OPENERS)
    try:
        tokens, registry = await process.get(Tokens), await process.get(TenantRegistry)
        return await registry.credentials(tenant, tokens.public)
    finally:
        await process.close()
