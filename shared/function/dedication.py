"""What a process of one tenant is told and given: the same from the local host and on a cluster."""

from __future__ import annotations

from dataclasses import dataclass

from shared.errors import Fault
from shared.function.process import Process
from shared.identity import Tokens
from shared.ids import TenantId
from shared.settings import NOT_GRANTED, Settings
from shared.tenancy import TenantRegistry
from shared.tenancy.dedications import Credentials

NEVER_GRANTED = ("DCODER_NATS_URL", "DCODER_REDIS_URL")
"""What no process of one tenant gets: each serves all tenants."""
OBJECTS_URL = "DCODER_OBJECTS_URL"
OBJECT_KEY = ("DCODER_OBJECTS_ACCESS_KEY", "DCODER_OBJECTS_SECRET_KEY")
"""The two halves of a key. A process of one tenant has that of its tenant's bucket, or none."""


@dataclass(frozen=True)
class Origins:
    """Where functions reach functions, and the object store."""

    platform: str
    llm: str
    objects: str


def variables(tenant: TenantId, function: str, grants: frozenset[str], origins: Origins) -> dict[str, str]:
    """Its environment, but for the folder of its keys and for what is secret: the address of its database, and the key
    of its bucket where it is granted."""
    calls, stores = "functions" in grants, "objects" in grants
    return {
        "DCODER_FUNCTION": function,
        "DCODER_TENANT": str(tenant),
        "DCODER_PLATFORM_URL": origins.platform if calls else NOT_GRANTED,
        "DCODER_LLM_URL": origins.llm if calls else NOT_GRANTED,
        **dict.fromkeys(NEVER_GRANTED, NOT_GRANTED),
        OBJECTS_URL: origins.objects if stores else NOT_GRANTED,
        **({} if stores else dict.fromkeys(OBJECT_KEY, NOT_GRANTED)),
    }


def object_key_of(tenant: TenantId, held: Credentials, grants: frozenset[str]) -> dict[str, str]:
    """The rest of its environment where it is granted. Raises `Fault` for a tenant that has no key of its bucket."""
    if "objects" not in grants:
        return {}
    if held.object_key is None:
        raise Fault(
            f"tenant {tenant!r} has no key of its bucket; dedicate or deploy the function again, which makes it"
        )
    return dict(zip(OBJECT_KEY, (held.object_key.access_key, held.object_key.secret_key), strict=True))


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
