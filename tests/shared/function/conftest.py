"""Functions made up for the runtime's own tests, served in process over real stores."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import httpx
import pytest

from shared.function.app import Application, build
from shared.function.catalog import Deployable
from shared.function.declaration import Function
from shared.identity import Caller, Tokens
from shared.ids import TenantId
from shared.settings import Settings

Serve = Callable[[Function], "Served"]


class Served:
    """A function in process: `async with served as client` gives a client with an administrator's credentials."""

    def __init__(self, function: Function, settings: Settings, tenant: TenantId) -> None:
        self.application: Application = build([Deployable("test-made-up", __name__, function)], settings)
        self._tenant = tenant

    @asynccontextmanager
    async def client(self, role: str = "admin") -> AsyncIterator[httpx.AsyncClient]:
        tokens = await self.application.process.get(Tokens)
        caller = Caller(self._tenant, "key:test", role, "key")
        headers = {"authorization": f"Bearer {tokens.mint(caller, audience='test-made-up')}"}
        transport = httpx.ASGITransport(self.application, raise_app_exceptions=False)
        async with httpx.AsyncClient(transport=transport, base_url="http://platform", headers=headers) as client:
            yield client
        await self.application.process.close()


@pytest.fixture
def serve(settings: Settings, tenant: TenantId) -> Serve:
    return lambda function: Served(function, settings, tenant)
