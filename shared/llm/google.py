"""Access tokens for Google service accounts: a signed assertion against a token (RFC 7523), as Vertex AI wants it."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
import time
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlencode, urlsplit

from shared.errors import Problem
from shared.llm import http
from shared.llm.outbound import NotConnected, Providers
from shared.llm.usage import json_object

SCOPE = "https://www.googleapis.com/auth/cloud-platform"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_URI = "https://oauth2.googleapis.com/token"  # noqa: S105  where tokens are had
ASSERTED_S = 3600
FETCH_TIMEOUT_S = 10.0
ANSWER_BYTES_MAX = 64 * 1024
EARLY_S = 60.0
"""So long before its end a token is not used any more."""
KEPT_MAX = 1000


class NoAccess(Problem):
    """Google grants the service account no access token: its key was revoked, or is of somebody else."""

    status, code, title = 502, "provider_access_refused", "No access to the provider"


@dataclass(frozen=True)
class ServiceAccount:
    """What is needed of a key file."""

    email: str
    key_id: str
    token_uri: str
    private_key: str = field(repr=False)


@dataclass(frozen=True)
class AccessToken:
    """`until`: seconds of the monotonic clock."""

    value: str = field(repr=False)
    until: float


def service_account(text: str) -> ServiceAccount:
    """The account in a key file's JSON. Raises `ValueError`, without the text."""
    told = json_object(text.encode())
    found = ServiceAccount(
        str(told.get("client_email") or ""),
        str(told.get("private_key_id") or ""),
        str(told.get("token_uri") or TOKEN_URI),
        str(told.get("private_key") or ""),
    )
    parts = urlsplit(found.token_uri)
    if not found.email or not found.private_key or parts.scheme not in ("https", "http") or not parts.hostname:
        raise ValueError("it is not the JSON key of a service account, with client_email and private_key")
    private_key_of(found)
    return found


def private_key_of(account: ServiceAccount) -> Any:  # Any: cryptography's RSA key
    """Raises `ValueError` for what is no RSA key in PEM."""
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    try:
        key = load_pem_private_key(account.private_key.encode(), password=None)
    except Exception:  # noqa: BLE001  its messages may hold what it read
        raise ValueError("its private_key is not a key in PEM") from None
    if not isinstance(key, RSAPrivateKey):
        raise ValueError("its private_key is not an RSA key")
    return key


def assertion(account: ServiceAccount, *, now_s: int) -> str:
    """A JSON Web Token, signed with RS256 (RFC 7518 §3.3), in which the account asks for access for itself."""
    from cryptography.hazmat.primitives.asymmetric.padding import PKCS1v15
    from cryptography.hazmat.primitives.hashes import SHA256

    claims = {
        "iss": account.email, "scope": SCOPE, "aud": account.token_uri, "iat": now_s, "exp": now_s + ASSERTED_S,
    }  # fmt: skip
    head = {"alg": "RS256", "typ": "JWT", **({"kid": account.key_id} if account.key_id else {})}
    signed = b".".join(encoded(json.dumps(part).encode()) for part in (head, claims))
    signature = private_key_of(account).sign(signed, PKCS1v15(), SHA256())
    return b".".join((signed, encoded(signature))).decode()


def encoded(data: bytes) -> bytes:
    return base64.urlsafe_b64encode(data).rstrip(b"=")


async def fetched(account: ServiceAccount, providers: Providers) -> AccessToken:
    """A new token. Raises `NoAccess`, `NotConnected` or `ForbiddenAddress`."""
    body = urlencode({"grant_type": GRANT, "assertion": assertion(account, now_s=int(time.time()))}).encode()
    headers = {
        b"content-type": b"application/x-www-form-urlencoded",
        b"accept": b"application/json",
        b"user-agent": b"dcoder",
    }
    host = urlsplit(account.token_uri).hostname
    try:
        async with asyncio.timeout(FETCH_TIMEOUT_S):
            answer = await providers.client.send(b"POST", account.token_uri, headers, body)
            content = await body_of(answer)
    except (http.Failure, TimeoutError) as failure:
        raise NotConnected(f"{host!r}, where access tokens are had, does not answer", retry_after_s=5) from failure
    told = json_object(content)
    value, lasts_s = told.get("access_token"), told.get("expires_in")
    if answer.status != 200 or not isinstance(value, str) or not value.isascii() or not isinstance(lasts_s, int):
        raise NoAccess(f"{host!r} grants {account.email[:100]!r} no access token (status {answer.status})")
    return AccessToken(value, time.monotonic() + lasts_s - EARLY_S)


async def body_of(answer: http.Answer) -> bytes:
    pieces: list[bytes] = []
    try:
        while (piece := await answer.read()) is not None and sum(map(len, pieces)) < ANSWER_BYTES_MAX:
            pieces.append(piece)
    finally:
        answer.close()
    return b"".join(pieces)


class AccessTokens:
    """A process's tokens, each kept until shortly before it ends. Who ask for the same one at once wait for one."""

    def __init__(self) -> None:
        self._kept: dict[bytes, AccessToken] = {}
        self._coming: dict[bytes, asyncio.Task[AccessToken]] = {}

    async def of_provider(self, place: str, sealed: bytes, key: str, providers: Providers) -> str:
        """The token for a provider's service account. `place` is the tenant and the provider's name, `sealed` the key
        as it is stored: with another one, a new token is fetched. Raises `NoAccess` also for a key that is none, and
        what `fetched` raises."""
        try:
            account = service_account(key)
        except ValueError as flaw:
            raise NoAccess(f"the key of provider {place.rpartition('/')[2]!r} cannot be used: {flaw}") from None
        return await self.get(hashlib.sha256(f"{place}/".encode() + sealed).digest(), account, providers)

    async def get(self, key: bytes, account: ServiceAccount, providers: Providers) -> str:
        """`key`: what no other account has. Raises as `fetched` does."""
        kept = self._kept.get(key)
        if kept is not None and kept.until > time.monotonic():
            return kept.value
        coming = self._coming.get(key)
        if coming is None:
            coming = self._coming[key] = asyncio.create_task(fetched(account, providers))
            coming.add_done_callback(lambda task: self._came(key, task))
        return (await asyncio.shield(coming)).value

    def _came(self, key: bytes, task: asyncio.Task[AccessToken]) -> None:
        self._coming.pop(key, None)
        if not task.cancelled() and task.exception() is None:
            self._kept.pop(key, None)
            if len(self._kept) >= KEPT_MAX:
                del self._kept[next(iter(self._kept))]
            self._kept[key] = task.result()
