"""A gateway whose provider's dialect is another than the caller's, with the real translator beside it."""

from __future__ import annotations

import json
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.translator import translator
from tests.functions.gateway.conftest import CLAUDES, MODELS, Gateway, make_key, question, serving, store

GEMINIS = ["gemini-2.5-flash", "gemini-embedding-001"]
VERTEX_CLAUDE = "claude-sonnet-4-5@20250929"
VERTEX_MODELS = ["gemini-2.5-flash", VERTEX_CLAUDE, "text-embedding-005", "gemini-embedding-2"]
PROJECT = "/v1/projects/p-1/locations/europe-west4"
KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)


@pytest.fixture(scope="session")
def translators_log(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("translate") / "translate.log"


@pytest.fixture(scope="session")
async def translated(settings: Settings, provider: ScriptedProvider, translators_log: Path) -> AsyncIterator[Gateway]:
    """A tenant with a provider of each dialect."""
    async with (
        translator(settings, translators_log) as found,
        serving(replace(settings, translate_url=found.url)) as (application, served),
    ):
        tenant = TenantId(f"tr-{secrets.token_hex(4)}")
        registry = await application.process.get(TenantRegistry)
        await registry.create(tenant)
        key = await make_key(application, tenant)
        headers = {"authorization": f"Bearer {key}"}
        async with httpx.AsyncClient(base_url=served.llm_url, headers=headers, timeout=60) as client:
            await store(client, "scripted", provider.base_url, MODELS)
            await store(client, "claudes", provider.origin, CLAUDES, kind="anthropic")
            await store(client, "geminis", f"{provider.origin}/v1beta", GEMINIS, kind="gemini")
            control = await application.process.get(ControlDatabase)
            yield Gateway(served.llm_url, tenant, key, client, provider, control, application, datetime.now(UTC))
        await registry.delete(tenant)


@pytest.fixture
def crossing(translated: Gateway) -> Gateway:
    """The tenant's gateway, as if nothing had been called yet."""
    translated.provider.reset()
    return replace(translated, since=datetime.now(UTC))


def account(origin: str, **more: str) -> str:
    """A service account's key file, whose tokens are had at the scripted provider."""
    pem = KEY.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
    told = {"type": "service_account", "client_email": "sa@p-1.iam", "private_key_id": "k1", "private_key": pem}
    return json.dumps({**told, "token_uri": f"{origin}/token", **more}, indent=1)


async def store_vertex(
    gateway: Gateway, key: str, *, name: str = "vertex", check: bool = False, base_url: str = ""
) -> Any:  # Any: an answer
    body = {
        "kind": "vertex",
        "base_url": base_url or f"{gateway.provider.origin}{PROJECT}",
        "api_key": key,
        "models": VERTEX_MODELS,
        "check": check,
    }
    return await gateway.client.put(f"/v1/secrets/providers/{name}", json=body)


@pytest.fixture
async def vertex(crossing: Gateway) -> AsyncIterator[Gateway]:
    stored = await store_vertex(crossing, account(crossing.provider.origin))
    assert stored.status_code == 200, stored.text
    assert "PRIVATE" not in stored.text
    yield crossing
    await crossing.client.delete("/v1/secrets/providers/vertex")


@pytest.fixture(scope="session")
async def asked_before(translated: Gateway) -> Gateway:
    """A provider of Vertex AI for which both processes have an access token."""
    stored = await store_vertex(translated, account(translated.provider.origin), name="known")
    assert stored.status_code == 200, stored.text
    for path in ("/v1/messages", "/v1/chat/completions"):
        body = question(f"known/{VERTEX_CLAUDE}", max_tokens=9)
        answer = await translated.client.post(path, json=body)
        assert answer.status_code == 200, answer.text
    await translated.ledger(2)
    return translated


@pytest.fixture
def known(asked_before: Gateway) -> Gateway:
    """As if nothing had been called yet but for the access tokens."""
    asked_before.provider.reset()
    return replace(asked_before, since=datetime.now(UTC))
