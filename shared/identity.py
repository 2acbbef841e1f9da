"""Who is calling: virtual keys of people and programs, tenant-bound tokens of functions, tokens of store webhooks.

A token is a JSON Web Token (RFC 7519) signed with Ed25519 (RFC 8037). Its audience is one function, its tenant is
a claim, and it lives for minutes. An event carries a token over its own content, so that whoever delivers it
(JetStream, a Knative Broker) cannot alter or forge it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, Protocol

from shared.clock import Clock
from shared.errors import Unauthenticated
from shared.ids import KeyId, TenantId

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

    from shared.events import CloudEvent

ISSUER = "dcoder"
EVENTS_AUDIENCE = "events"
TOKEN_LIFE = timedelta(minutes=5)
EVENT_TOKEN_LIFE = timedelta(days=8)  # outlives the stream's retention; a re-driven dead letter is signed again
TOKEN_CHARS_MAX = 4096
TOKEN_EXTENSION = "dcodertoken"  # noqa: S105  the name of a CloudEvents attribute
HOOK_PREFIX = "dch_"
CallerKind = Literal["key", "function", "hook"]
LINEAGE = "key:"
"""Begins the tag of keys that were rotated from one another: it goes on with the first one's id."""


@dataclass(frozen=True, slots=True)
class Caller:
    """An authenticated caller, bound to one tenant.

    `permissions` and `models` narrow what the role grants; None means that they do not.
    """

    tenant: TenantId
    subject: str
    role: str
    kind: CallerKind
    permissions: frozenset[str] | None = None
    models: frozenset[str] | None = None
    key_id: KeyId | None = None
    tags: frozenset[str] = frozenset()
    """To whom or what the key's usage is put down; quotas and reports go by them."""

    @property
    def owner(self) -> str:
        """Whose what it keeps is: the same for keys that were rotated from one another."""
        lineage = next((tag.removeprefix(LINEAGE) for tag in sorted(self.tags) if tag.startswith(LINEAGE)), "")
        return lineage or self.key_id or self.subject


class KeyVerifier(Protocol):
    """What identity needs of `shared.virtual_keys`."""

    async def caller(self, text: str) -> Caller | None: ...


def hook_token(key: bytes) -> str:
    """The bearer token that an object store's webhook sends, derived from the platform's `hooks` key."""
    return HOOK_PREFIX + hmac.new(key, b"object-store-webhook", hashlib.sha256).hexdigest()


class TokenVerifier:
    """Verifies the platform's tokens with the public half of its key, which mints none."""

    def __init__(self, public: bytes, clock: Clock | None = None) -> None:
        self._bytes = public
        self._clock = clock or Clock()

    @cached_property
    def _public(self) -> Ed25519PublicKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        return Ed25519PublicKey.from_public_bytes(self._bytes)

    def verify(self, token: str, *, audience: str) -> Caller:
        """The caller that a token stands for. Raises `Unauthenticated` for every flaw, without saying which."""
        return caller_of(self._claims(token, audience), "function")

    def verify_forwarded(self, token: str, *, tenant: TenantId, function: str) -> Caller:
        """The caller whom the pooled function let in, as the caller that it was there. Raises `Unauthenticated`."""
        claims = self._claims(token, forwarded_audience(tenant, function))
        kind = claims.get("kind")
        if kind not in ("key", "function", "hook"):
            raise Unauthenticated("the token lacks a required claim")
        return caller_of(claims, kind)

    def verify_event(self, event: CloudEvent) -> None:
        """Raise `Unauthenticated` unless the event carries our token over exactly this content."""
        claims = self._claims(str(event.extensions.get(TOKEN_EXTENSION, "")), EVENTS_AUDIENCE)
        expected = event_claims(event)
        if any(claims.get(name) != value for name, value in expected.items()):
            raise Unauthenticated(f"event {event.id[:80]!r} does not match its token")

    def _claims(self, token: str, audience: str) -> dict[str, Any]:
        import jwt

        if not token or len(token) > TOKEN_CHARS_MAX:
            raise Unauthenticated("no usable token")
        try:
            claims: dict[str, Any] = jwt.decode(
                token,
                self._public,
                algorithms=["EdDSA"],
                audience=audience,
                issuer=ISSUER,
                leeway=5,
                options={"require": ["exp", "iat", "aud", "iss"], "verify_exp": False, "verify_iat": False},
            )
        except jwt.InvalidTokenError as flaw:
            raise Unauthenticated("the token is not valid here") from flaw
        if float(claims["exp"]) <= self._clock.now().timestamp():
            raise Unauthenticated("the token has expired")
        return claims


class Tokens:
    """Mints and verifies the platform's own tokens with one Ed25519 seed."""

    def __init__(self, seed: bytes, clock: Clock | None = None) -> None:
        self._seed = seed
        self._clock = clock or Clock()

    @cached_property
    def _private(self) -> Ed25519PrivateKey:
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

        return Ed25519PrivateKey.from_private_bytes(self._seed)

    @cached_property
    def public(self) -> bytes:
        """The key with which anybody verifies what this one signs: 32 bytes."""
        return self._private.public_key().public_bytes_raw()

    @cached_property
    def verifier(self) -> TokenVerifier:
        return TokenVerifier(self.public, self._clock)

    def mint(self, caller: Caller, *, audience: str, issued_for: str = "") -> str:
        """A token with which a function acts for `caller` towards the function `audience`, for five minutes."""
        more = {"azp": issued_for} if issued_for else {}
        return self._sign({**claims_of(caller), **more}, audience, TOKEN_LIFE)

    def mint_forwarded(self, caller: Caller, *, function: str, onward: Iterable[str] = ()) -> str:
        """A token with which `caller` is handed on to the process that serves `function` to that tenant alone.

        For five minutes. The process may show it, for the caller, to the functions of `onward` too, and to no other.
        """
        audience = [forwarded_audience(caller.tenant, function), *sorted(onward)]
        return self._sign({**claims_of(caller), "kind": caller.kind}, audience, TOKEN_LIFE)

    def verify(self, token: str, *, audience: str) -> Caller:
        """See `TokenVerifier.verify`."""
        return self.verifier.verify(token, audience=audience)

    def sign_event(self, event: CloudEvent) -> CloudEvent:
        """The event with a token over its tenant, id, type, subject and data."""
        token = self._sign(event_claims(event), EVENTS_AUDIENCE, EVENT_TOKEN_LIFE)
        return replace(event, extensions={**event.extensions, TOKEN_EXTENSION: token})

    def verify_event(self, event: CloudEvent) -> None:
        """See `TokenVerifier.verify_event`."""
        self.verifier.verify_event(event)

    def _sign(self, claims: Mapping[str, Any], audience: str | list[str], life: timedelta) -> str:
        import jwt

        issued = self._clock.now()
        envelope = {"iss": ISSUER, "aud": audience, "iat": issued, "exp": issued + life, "jti": secrets.token_hex(8)}
        return jwt.encode({**claims, **envelope}, self._private, algorithm="EdDSA")


def forwarded_audience(tenant: TenantId, function: str) -> str:
    """No function's name has a slash: such a token opens no pooled function, and no other tenant's process."""
    return f"{tenant}/{function}"


def claims_of(caller: Caller) -> dict[str, Any]:
    """What a token says of a caller."""
    claims: dict[str, Any] = {"sub": caller.subject, "tenant": caller.tenant, "role": caller.role}
    if caller.permissions is not None:
        claims["permissions"] = sorted(caller.permissions)
    if caller.models is not None:
        claims["models"] = sorted(caller.models)
    if caller.key_id is not None:
        claims["key"] = caller.key_id
    if caller.tags:
        claims["tags"] = sorted(caller.tags)
    return claims


def caller_of(claims: Mapping[str, Any], kind: CallerKind) -> Caller:
    """Raises `Unauthenticated` for claims that are not those of a caller."""
    try:
        return Caller(
            tenant=TenantId(str(claims["tenant"])),
            subject=str(claims["sub"]),
            role=str(claims["role"]),
            kind=kind,
            permissions=frozenset(claims["permissions"]) if "permissions" in claims else None,
            models=frozenset(claims["models"]) if "models" in claims else None,
            key_id=KeyId(str(claims["key"])) if "key" in claims else None,
            tags=frozenset(claims.get("tags", ())),
        )
    except (KeyError, TypeError) as flaw:
        raise Unauthenticated("the token lacks a required claim") from flaw


def event_claims(event: CloudEvent) -> dict[str, str]:
    """What an event's token fixes."""
    return {
        "tenant": str(event.tenant),
        "event": event.id,
        "type": event.type,
        "subject": event.subject,
        "digest": event.data_digest(),
    }


class Identity:
    """Turns the credentials of an HTTP call into a `Caller`."""

    def __init__(self, keys: KeyVerifier, tokens: Tokens, hooks_key: bytes) -> None:
        self._keys = keys
        self._tokens = tokens
        self._hook_token = hook_token(hooks_key).encode()

    async def caller(self, credential: str, *, audience: str) -> Caller:
        """Verify a bearer credential presented to the function `audience`. Raises `Unauthenticated`."""
        if credential.startswith("dck_"):
            caller = await self._keys.caller(credential)
            if caller is None:
                raise Unauthenticated("the key is unknown, expired or revoked. `dcoder key ls` lists the valid ones")
            return caller
        if credential.startswith(HOOK_PREFIX):
            if not hmac.compare_digest(credential.encode(), self._hook_token):
                raise Unauthenticated("the webhook's token is not the platform's")
            return Caller(TenantId("platform"), "hook:object-store", "hook", "hook")
        if credential.startswith("eyJ"):
            return self._tokens.verify(credential, audience=audience)
        raise Unauthenticated("send a virtual key as `Authorization: Bearer dck_…`")
