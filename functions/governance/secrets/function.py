"""Secrets: a tenant's own provider keys, sealed with its data key and never shown again."""

from __future__ import annotations

import re
from datetime import datetime
from typing import Literal
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator

from shared.errors import Invalid, NotFound
from shared.function import Call, Function, Scale
from shared.postgres import TenantDatabase, TenantTransaction
from shared.secrets import TenantSecrets

secrets = Function(scale=Scale(max=5))

NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
PRINTABLE = re.compile(r"[\x21-\x7e]+")
COLUMNS = "name, kind, base_url, models, created_at, updated_at"


class Provider(BaseModel):
    """A model provider that speaks OpenAI's or Anthropic's wire format, and the key to it. `base_url` is what that
    dialect's SDK takes: with `/v1` for OpenAI's, without it for Anthropic's."""

    kind: Literal["openai-compatible", "anthropic"] = "openai-compatible"
    base_url: str = Field(max_length=500)
    api_key: SecretStr = Field(min_length=1, max_length=4000)
    models: list[str] = Field(min_length=1, max_length=500)

    @field_validator("base_url")
    @classmethod
    def is_a_url(cls, value: str) -> str:
        parts = urlsplit(value)
        if parts.scheme not in ("https", "http") or not parts.hostname or set("@?#") & set(value) or parts.port == 0:
            raise ValueError("must be http(s)://host/path without user, query or fragment")
        if not PRINTABLE.fullmatch(value):
            raise ValueError("must be visible ASCII; write an international host name in its xn-- form")
        return value.rstrip("/")

    @field_validator("api_key")
    @classmethod
    def fits_in_a_header(cls, value: SecretStr) -> SecretStr:
        """The blanks and line ends that come along when a key is pasted are taken off."""
        stripped = value.get_secret_value().strip()
        if not PRINTABLE.fullmatch(stripped):
            raise ValueError("must be visible ASCII characters")
        return SecretStr(stripped)


class ProviderView(BaseModel):
    """A stored provider. Its key is never shown."""

    name: str
    kind: str
    base_url: str
    models: list[str]
    created_at: datetime
    updated_at: datetime


class ProviderList(BaseModel):
    providers: list[ProviderView]


@secrets.put("/v1/secrets/providers/{name}", permission="secrets:write")
async def put_provider(
    name: str, body: Provider, transaction: TenantTransaction, sealing: TenantSecrets, call: Call
) -> ProviderView:
    """Store a provider and its key, or replace them."""
    if not NAME.fullmatch(name):
        raise Invalid(f"{name[:64]!r} is not a provider name: 1 to 63 of a-z, 0-9 and hyphens")
    sealed = await sealing.seal(f"provider:{name}", body.api_key.get_secret_value().encode())
    row = await transaction.fetchrow(
        "INSERT INTO provider_credentials (name, kind, base_url, models, sealed) VALUES ($1, $2, $3, $4, $5)"
        " ON CONFLICT (name) DO UPDATE SET kind = excluded.kind, base_url = excluded.base_url,"
        f" models = excluded.models, sealed = excluded.sealed, updated_at = now() RETURNING {COLUMNS}",
        name,
        body.kind,
        body.base_url,
        body.models,
        sealed,
    )
    assert row is not None
    call.note(resource=f"provider/{name}", base_url=body.base_url)
    return ProviderView(**row)


@secrets.get("/v1/secrets/providers", permission="secrets:read")
async def list_providers(tenant: TenantDatabase) -> ProviderList:
    """List the tenant's providers, without their keys."""
    rows = await tenant.fetch(f"SELECT {COLUMNS} FROM provider_credentials ORDER BY name LIMIT 500")
    return ProviderList(providers=[ProviderView(**row) for row in rows])


@secrets.get("/v1/secrets/providers/{name}", permission="secrets:read")
async def get_provider(name: str, tenant: TenantDatabase) -> ProviderView:
    """Look at one provider, without its key."""
    row = await tenant.fetchrow(f"SELECT {COLUMNS} FROM provider_credentials WHERE name = $1", name)
    if row is None:
        raise NotFound(f"there is no provider {name[:64]!r}")
    return ProviderView(**row)


@secrets.delete("/v1/secrets/providers/{name}", permission="secrets:write")
async def delete_provider(name: str, transaction: TenantTransaction, call: Call) -> None:
    """Forget a provider and its key."""
    if not await transaction.fetchval("DELETE FROM provider_credentials WHERE name = $1 RETURNING true", name):
        raise NotFound(f"there is no provider {name[:64]!r}")
    call.note(resource=f"provider/{name}")
