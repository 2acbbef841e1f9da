"""A gateway whose provider's dialect is another than the caller's, with the real translator beside it."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest

from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.provider import ScriptedProvider
from tests.fixtures.translator import translator
from tests.functions.gateway.conftest import CLAUDES, MODELS, Gateway, make_key, serving, store

GEMINIS = ["gemini-2.5-flash"]


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
