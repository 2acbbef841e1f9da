"""The gateway behind a real server, with the functions it asks, and a tenant whose provider is scripted."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from copy import copy
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
import uvicorn

from functions.gateway.llm.semantic import lookup
from shared.function import Scale, catalog
from shared.function.app import Application, build
from shared.function.catalog import Deployable
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.secrets import read_key
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from shared.virtual_keys import insert_key, new_key
from tests.fixtures.ports import free_port
from tests.fixtures.provider import ScriptedProvider, serving_provider
from tests.fixtures.waiting import until

FUNCTIONS = (
    "gateway-llm",
    "knowledge-answers",
    "knowledge-search",
    "governance-secrets",
    "governance-usage",
    "governance-quotas",
    "governance-prices",
    "gateway-guardrails",
    "gateway-cache",
    "gateway-compression",
    "gateway-aliases",
)
PROVIDER_KEY = "sk-provider-0123456789abcdef"
CLAUDES = ["claude-sonnet-4-5"]
MODELS = ["gpt-4o-mini", "house-model", "text-embedding-3-small"]


@asynccontextmanager
async def serving(settings: Settings, *, concurrency: int = 0) -> AsyncIterator[tuple[Application, Settings]]:
    """The functions on one loopback port, as the platform and as the gateway; each with that concurrency, if any."""
    port = free_port()
    origin = f"http://127.0.0.1:{port}"
    settings = replace(settings, platform_url=origin, llm_url=origin, private_provider_urls=True)
    found = catalog.select(FUNCTIONS)
    application = build([scaled(one, concurrency) for one in found] if concurrency else found, settings)
    config = uvicorn.Config(application, port=port, log_level="error", lifespan="off")
    server = uvicorn.Server(config)
    running = asyncio.create_task(server._serve())
    await until(lambda: server.started)
    try:
        yield application, settings
    finally:
        server.should_exit = True
        await running
        await application.process.close()


def scaled(deployable: Deployable, concurrency: int) -> Deployable:
    function = copy(deployable.function)
    function.scale = Scale(concurrency=concurrency)
    return replace(deployable, function=function)


@dataclass
class Gateway:
    """One tenant's view of a served gateway."""

    url: str
    tenant: TenantId
    key: str = field(repr=False)
    client: httpx.AsyncClient
    provider: ScriptedProvider
    control: ControlDatabase
    application: Application
    since: datetime

    def at(self, url: str) -> httpx.AsyncClient:
        """A client with the tenant's key for a gateway elsewhere."""
        return httpx.AsyncClient(base_url=url, headers=self.client.headers, timeout=30)

    def with_key(self, key: str) -> httpx.AsyncClient:
        return httpx.AsyncClient(base_url=self.url, headers={"authorization": f"Bearer {key}"}, timeout=30)

    async def chat(self, model: str = "gpt-4o-mini", **more: Any) -> httpx.Response:  # Any: JSON
        return await self.client.post("/v1/chat/completions", json=question(model, **more))

    async def ledger(self, count: int = 1) -> list[dict[str, Any]]:  # Any: a database row
        """The rows of this test, once there are that many and no call is open."""

        async def settled() -> bool:
            is_open = await self.control.fetchval("SELECT count(*) FROM usage_open WHERE tenant = $1", self.tenant)
            return is_open == 0 and len(await self.rows()) >= count

        await until(settled)
        return await self.rows()

    async def ledger_open(self, count: int) -> None:
        """Return once that many calls are open on disk."""

        async def opened() -> bool:
            is_open = await self.control.fetchval("SELECT count(*) FROM usage_open WHERE tenant = $1", self.tenant)
            return bool(is_open == count)

        await until(opened)

    async def rows(self) -> list[dict[str, Any]]:  # Any: a database row
        sql = "SELECT * FROM usage_ledger WHERE tenant = $1 AND started_at >= $2 ORDER BY started_at"
        return [dict(row) for row in await self.control.fetch(sql, self.tenant, self.since)]


def question(model: str = "gpt-4o-mini", text: str = "Hi", **more: Any) -> dict[str, Any]:  # Any: JSON
    return {"model": model, "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture(scope="session")
async def served(settings: Settings) -> AsyncIterator[tuple[Application, Settings]]:
    async with serving(settings) as both:
        yield both


@pytest.fixture(scope="session")
async def provider() -> AsyncIterator[ScriptedProvider]:
    async with serving_provider() as provider:
        yield provider


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lookup of the semantic cache takes what time it takes: a busy machine makes no miss of a hit."""
    monkeypatch.setattr(lookup, "LOOKUP_S", 20.0)


async def make_key(application: Application, tenant: TenantId, **scope: Any) -> str:  # Any: a key's scope
    key = new_key(read_key(application.process.settings, "pepper"))
    control = await application.process.get(ControlDatabase)
    role = scope.pop("role", "admin")
    async with control.transaction() as transaction:
        await insert_key(transaction, key, tenant=tenant, name="test", role=role, created_by="test", **scope)
    return key.text


@pytest.fixture(scope="session")
async def chatter(served: tuple[Application, Settings], provider: ScriptedProvider) -> AsyncIterator[Gateway]:
    """A tenant with the scripted provider stored the real way."""
    application, settings = served
    registry = await application.process.get(TenantRegistry)
    tenant = TenantId(f"llm-{secrets.token_hex(4)}")
    await registry.create(tenant)
    key = await make_key(application, tenant)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=settings.llm_url, headers=headers, timeout=30) as client:
        await store(client, "scripted", provider.base_url, MODELS)
        await store(client, "claudes", provider.origin, CLAUDES, kind="anthropic")
        control = await application.process.get(ControlDatabase)
        yield Gateway(settings.llm_url, tenant, key, client, provider, control, application, datetime.now(UTC))
    await registry.delete(tenant)


@pytest.fixture
def gateway(chatter: Gateway) -> Gateway:
    """The tenant's gateway, as if nothing had been called yet."""
    chatter.provider.reset()
    return replace(chatter, since=datetime.now(UTC))


async def store(
    client: httpx.AsyncClient, name: str, base_url: str, models: list[str], *, kind: str = "openai-compatible"
) -> None:
    content = {"kind": kind, "base_url": base_url, "api_key": PROVIDER_KEY, "models": models, "check": False}
    answer = await client.put(f"/v1/secrets/providers/{name}", json=content)
    assert answer.status_code == 200, answer.text


@pytest.fixture
async def limited(gateway: Gateway) -> AsyncIterator[Gateway]:
    """A gateway whose limits go with the test."""
    yield gateway
    await gateway.control.execute("DELETE FROM quotas WHERE tenant = $1", gateway.tenant)
    await asyncio.sleep(0.5)  # no process remembers a quota for longer


async def limit(gateway: Gateway, *, scope: str = "tenant", name: str = "", hard: bool = True, **what: Any) -> int:
    """Store a limit as it would be half a second after it was made. Returns its id."""
    sql = (
        "INSERT INTO quotas (tenant, scope, name, metric, span, amount, hard, at_limit, by_operator, created_by,"
        " created_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, false, 'test', now() - interval '1 minute') RETURNING id"
    )
    made = await gateway.control.fetchval(
        sql, gateway.tenant, scope, name, what["metric"], what["span"], what["amount"], hard,
        what.get("at_limit", "finish"),
    )  # fmt: skip
    await asyncio.sleep(0.45)  # what was read before is remembered for so long
    return int(made)
