"""Secrets: a tenant's own provider keys, sealed with its data key and never shown again."""

from __future__ import annotations

import asyncio
import re
from datetime import datetime
from typing import Self
from urllib.parse import urlsplit

from pydantic import BaseModel, Field, SecretStr, field_validator, model_validator

from shared.errors import Invalid, NotFound, Refusal
from shared.function import Call, Function, Scale
from shared.function.schema import Body
from shared.llm import http
from shared.llm.google import NoAccess, fetched, service_account
from shared.llm.kinds import ANTHROPIC_VERSION, KINDS, Kind, KindName
from shared.llm.outbound import NotConnected, Providers
from shared.postgres import TenantDatabase, TenantTransaction
from shared.secrets import TenantSecrets

secrets = Function(scale=Scale(max=5))

CHECK_TIMEOUT_S = 5.0
NAME = re.compile(r"[a-z0-9][a-z0-9-]{0,62}")
PRINTABLE = re.compile(r"[\x21-\x7e]+")
COLUMNS = "name, kind, base_url, models, created_at, updated_at"


class Provider(Body):
    """A model provider and the key to it. `base_url` is what its dialect's SDK takes: with `/v1` for OpenAI's, without
    it for Anthropic's, down to the location for Vertex AI; left out, it is the usual one of its kind. For Vertex AI,
    `api_key` is the JSON key of a service account. `check`: ask it once, for its models, before it is stored."""

    kind: KindName = "openai-compatible"
    base_url: str = Field(default="", max_length=500)
    api_key: SecretStr = Field(default=SecretStr(""), max_length=8000)
    models: list[str] = Field(min_length=1, max_length=500)
    check: bool = True

    @field_validator("base_url")
    @classmethod
    def is_a_url(cls, value: str) -> str:
        if not value:
            return value
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
        if stripped and not PRINTABLE.fullmatch(stripped) and not stripped.startswith("{"):
            raise ValueError("must be visible ASCII characters")
        return SecretStr(stripped)

    @model_validator(mode="after")
    def is_complete(self) -> Self:
        kind = KINDS[self.kind]
        self.base_url = self.base_url or kind.base_url
        if not self.base_url:
            raise ValueError(f"a provider of the kind {self.kind} needs a base_url")
        if not self.api_key.get_secret_value() and not kind.keyless:
            raise ValueError(f"a provider of the kind {self.kind} needs an api_key")
        key = self.api_key.get_secret_value()
        if kind.service_account:
            service_account(key)
        elif key.startswith("{"):
            raise ValueError(f"a provider of the kind {self.kind} takes no service account for its api_key")
        return self


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


class NotAccepted(Refusal):
    """The provider does not answer, or refuses the key: it was not stored."""

    status, code, title = 422, "provider_not_accepted", "Provider not accepted"


async def check(providers: Providers, kind: Kind, base_url: str, key: str) -> None:
    """Ask the provider for its models, which costs nothing. Raises `NotAccepted`, or `ForbiddenAddress`.

    Whatever else it answers is taken: not every provider has that route.
    """
    if kind.service_account:
        await check_account(providers, key)
        return
    path = "/v1/models" if kind.dialect == "anthropic" else "/models"
    more = {b"anthropic-version": ANTHROPIC_VERSION} if kind.dialect == "anthropic" else {}
    headers = {**kind.credential(key), **more, b"accept": b"application/json", b"user-agent": b"dcoder"}
    try:
        async with asyncio.timeout(CHECK_TIMEOUT_S):
            answer = await providers.client.send(b"GET", base_url + path, headers)
    except (http.Failure, NotConnected, TimeoutError) as failure:
        raise NotAccepted('the provider does not answer; with "check": false it is stored all the same') from failure
    answer.close()
    if answer.status in (401, 403):
        raise NotAccepted(f"the provider refuses the key ({answer.status})")
    if 300 <= answer.status < 400:
        raise NotAccepted("the provider answers with a redirect, which is not followed; is the base_url right?")


async def check_account(providers: Providers, key: str) -> None:
    """Have an access token granted, which costs nothing. Raises as `check` does."""
    try:
        await fetched(service_account(key), providers)
    except NotConnected as failure:
        raise NotAccepted(f'{failure.detail}; with "check": false it is stored all the same') from failure
    except NoAccess as refused:
        raise NotAccepted(refused.detail) from refused


@secrets.put("/v1/secrets/providers/{name}", permission="secrets:write")
async def put_provider(
    name: str,
    body: Provider,
    transaction: TenantTransaction,
    sealing: TenantSecrets,
    providers: Providers,
    call: Call,
) -> ProviderView:
    """Store a provider and its key, or replace them. One that cannot be reached or refuses the key is not stored."""
    if not NAME.fullmatch(name):
        raise Invalid(f"{name[:64]!r} is not a provider name: 1 to 63 of a-z, 0-9 and hyphens")
    key = body.api_key.get_secret_value()
    if body.check:
        await check(providers, KINDS[body.kind], body.base_url, key)
    sealed = await sealing.seal(f"provider:{name}", key.encode())
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
