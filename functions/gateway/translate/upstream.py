"""The provider: where it is, the tenant's key to it, one request, and what becomes of its answer."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from shared.errors import NotFound
from shared.llm import http
from shared.llm.dialect import message_in, refusal_in
from shared.llm.exchange import ASKED, failed
from shared.llm.google import AccessTokens
from shared.llm.kinds import KINDS, Kind
from shared.llm.outbound import Providers
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets

SAID_CHARS_MAX = 500
PASSED_HEADERS = ("retry-after", "retry-after-ms", "x-should-retry")

tokens = AccessTokens()
"""This process's, of all tenants' service accounts."""


@dataclass(frozen=True)
class Endpoint:
    """A tenant's provider, with its key opened for one call."""

    name: str
    base_url: str
    kind: Kind
    credential: Mapping[bytes, bytes] = field(repr=False)
    secrets: tuple[str, ...] = field(repr=False)

    def hidden(self, text: str) -> str:
        """The text, cut, without the key."""
        for secret in self.secrets:
            text = text.replace(secret, "[key]")
        return text[:SAID_CHARS_MAX]


async def endpoint(name: str, tenant: TenantDatabase, sealing: TenantSecrets, providers: Providers) -> Endpoint:
    """The provider as it is stored at this moment. Raises `NotFound`, and what asking for an access token raises."""
    row = await tenant.fetchrow("SELECT base_url, kind, sealed FROM provider_credentials WHERE name = $1", name)
    if row is None:
        raise NotFound(f"there is no provider {name[:64]!r}")
    kind, sealed = KINDS[row["kind"]], bytes(row["sealed"])
    key = (await sealing.open(f"provider:{name}", sealed)).decode()
    if kind.service_account:
        key = await tokens.of_provider(f"{tenant.tenant}/{name}", sealed, key, providers)
    return Endpoint(name, row["base_url"], kind, kind.credential(key), (key,) if key else ())


async def opened(
    providers: Providers, endpoint: Endpoint, path: str, body: bytes, headers: Mapping[bytes, bytes]
) -> http.Answer:
    """The answer with its head read. Raises what `failed` says, or `ForbiddenAddress`."""
    try:
        return await providers.client.send(b"POST", endpoint.base_url + path, {**ASKED, **headers}, body)
    except http.Failure as failure:
        raise failed(endpoint.name, failure) from failure


async def read(answer: http.Answer, endpoint: Endpoint) -> bytes | None:
    """The next bytes, None at the end."""
    try:
        return await answer.read()
    except http.Failure as failure:
        raise failed(endpoint.name, failure) from failure


def said(content: bytes, endpoint: Endpoint) -> str:
    """A provider's words of an error, in whichever shape they come."""
    message = message_in(refusal_in(content))
    return endpoint.hidden(message if isinstance(message, str) else content.decode("utf-8", "replace").strip())
