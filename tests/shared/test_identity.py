"""Tokens bind a caller to a tenant, a function and minutes; event tokens bind an event to its content."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from shared.clock import Clock
from shared.errors import Unauthenticated
from shared.events import CloudEvent
from shared.identity import TOKEN_EXTENSION, Caller, Identity, Tokens, TokenVerifier, hook_token
from shared.ids import KeyId, TenantId

SEED = bytes(range(32))
ACME = Caller(TenantId("acme"), "key:k1", "member", "key", frozenset({"documents:read"}), None, KeyId("k1"))


class StoppedClock(Clock):
    def __init__(self, at: datetime) -> None:
        self.at = at

    def now(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock(datetime.now(UTC))


def event() -> CloudEvent:
    return CloudEvent(
        id="e1",
        source="/test",
        type="dcoder.test",
        subject="thing",
        tenant=TenantId("acme"),
        time=datetime.now(UTC),
        data={"n": 1},
    )


def test_a_token_gives_back_the_caller_it_was_minted_for(clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    assert tokens.verify(tokens.mint(ACME, audience="knowledge-search"), audience="knowledge-search") == replace(
        ACME, kind="function"
    )


def test_a_token_is_refused_by_every_other_function(clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    with pytest.raises(Unauthenticated):
        tokens.verify(tokens.mint(ACME, audience="knowledge-search"), audience="governance-keys")


def test_a_token_ends_after_five_minutes(clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    token = tokens.mint(ACME, audience="f")
    clock.at += timedelta(minutes=5, seconds=1)
    with pytest.raises(Unauthenticated):
        tokens.verify(token, audience="f")


def test_a_token_of_another_key_is_refused(clock: StoppedClock) -> None:
    forged = Tokens(bytes(32), clock).mint(ACME, audience="f")
    with pytest.raises(Unauthenticated):
        Tokens(SEED, clock).verify(forged, audience="f")


@pytest.mark.parametrize("algorithm", ["none", "HS256"])
def test_no_other_algorithm_is_accepted(algorithm: str, clock: StoppedClock) -> None:
    claims = {"sub": "x", "tenant": "acme", "role": "admin", "aud": "f", "iss": "dcoder", "iat": 0, "exp": 2**40}
    public = Ed25519PrivateKey.from_private_bytes(SEED).public_key().public_bytes_raw()
    key = public.hex() if algorithm == "HS256" else ""
    with pytest.raises(Unauthenticated):
        Tokens(SEED, clock).verify(jwt.encode(claims, key, algorithm=algorithm), audience="f")


@pytest.mark.parametrize(
    "change", [{"tenant": "other"}, {"role": "system"}, {"aud": "g"}, {"exp": 2**40}, {"sub": "x"}]
)
def test_a_token_whose_claims_were_exchanged_is_refused(change: dict[str, object], clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    head, claims, signature = tokens.mint(ACME, audience="f").split(".")
    content = json.loads(base64.urlsafe_b64decode(claims + "==")) | change
    forged = base64.urlsafe_b64encode(json.dumps(content).encode()).decode().rstrip("=")
    with pytest.raises(Unauthenticated):
        tokens.verify(f"{head}.{forged}.{signature}", audience=str(change.get("aud", "f")))


@pytest.mark.parametrize("audience", ["governance-keys", "gateway-llm", ""])
async def test_an_events_token_opens_no_door(audience: str, clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    token = str(tokens.sign_event(event()).extensions[TOKEN_EXTENSION])
    with pytest.raises(Unauthenticated):
        await Identity(NoKeys(), tokens, bytes(32)).caller(token, audience=audience)


def test_an_events_token_ends_and_is_then_no_more_to_be_replayed(clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    signed = tokens.sign_event(event())
    clock.at += timedelta(days=8, seconds=1)
    with pytest.raises(Unauthenticated):
        tokens.verify_event(signed)


def test_a_signed_event_verifies(clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    tokens.verify_event(tokens.sign_event(event()))


@pytest.mark.parametrize(
    "change",
    [
        {"tenant": TenantId("other")},
        {"id": "e2"},
        {"type": "dcoder.other"},
        {"subject": "other"},
        {"data": {"n": 2}},
        {"extensions": {}},
        {"extensions": {TOKEN_EXTENSION: "eyJ.x.y"}},
    ],
    ids=lambda change: next(iter(change)),
)
def test_an_event_that_was_altered_is_refused(change: dict[str, object], clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    altered = replace(tokens.sign_event(event()), **change)  # type: ignore[arg-type]  # one field at a time
    with pytest.raises(Unauthenticated):
        tokens.verify_event(altered)


class NoKeys:
    async def caller(self, text: str) -> Caller | None:
        return None


@pytest.mark.parametrize("credential", ["", "dck_unknown", "dch_wrong", "eyJhbGciOiJub25lIn0.e30.", "Basic x", "\x00"])
async def test_every_unusable_credential_is_refused(credential: str, clock: StoppedClock) -> None:
    identity = Identity(NoKeys(), Tokens(SEED, clock), bytes(32))
    with pytest.raises(Unauthenticated):
        await identity.caller(credential, audience="f")


async def test_the_hook_token_is_a_hook_and_nothing_more(clock: StoppedClock) -> None:
    identity = Identity(NoKeys(), Tokens(SEED, clock), bytes(32))
    caller = await identity.caller(hook_token(bytes(32)), audience="integrations-webhooks")
    assert (caller.kind, caller.role) == ("hook", "hook")


def test_a_forwarded_call_keeps_its_caller_and_opens_one_function_of_one_tenant(clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    token = tokens.mint_forwarded(ACME, function="knowledge-search")
    verifier = TokenVerifier(tokens.public, clock)

    assert verifier.verify_forwarded(token, tenant=ACME.tenant, function="knowledge-search") == ACME
    for tenant, function in ((TenantId("other"), "knowledge-search"), (ACME.tenant, "knowledge-answers")):
        with pytest.raises(Unauthenticated):
            verifier.verify_forwarded(token, tenant=tenant, function=function)
    with pytest.raises(Unauthenticated):
        verifier.verify(token, audience="knowledge-search")


def test_a_forwarded_calls_token_is_good_for_the_functions_that_are_named_and_no_other(clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    token = tokens.mint_forwarded(ACME, function="knowledge-answers", onward=["gateway-llm"])

    assert tokens.verify(token, audience="gateway-llm") == replace(ACME, kind="function")
    with pytest.raises(Unauthenticated):
        tokens.verify(token, audience="governance-keys")


def test_a_functions_token_is_no_forwarded_one(clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    token = tokens.mint(ACME, audience="acme/knowledge-search")

    with pytest.raises(Unauthenticated):
        tokens.verifier.verify_forwarded(token, tenant=ACME.tenant, function="knowledge-search")


def test_the_public_half_verifies_events_and_calls_and_mints_nothing(clock: StoppedClock) -> None:
    tokens = Tokens(SEED, clock)
    verifier = TokenVerifier(tokens.public, clock)

    verifier.verify_event(tokens.sign_event(event()))

    assert not {"mint", "mint_forwarded", "sign_event"} & set(dir(verifier))
    assert tokens.public != SEED
