"""What holds for every function there is, derived from the catalog: no function can be forgotten."""

from __future__ import annotations

import asyncio
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import httpx
import pytest

from shared.access import ROLES, covers
from shared.function import catalog
from shared.function.app import Application, build
from shared.function.catalog import Deployable
from shared.function.declaration import Function, Operation, Route
from shared.identity import Caller, Tokens
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry

DEPLOYABLES = catalog.find()
ROUTES = [(one, operation, route) for one in DEPLOYABLES for operation, route in one.routes()]
CHANGES = [(one, operation, route) for one, operation, route in ROUTES if route.changes]
HEAVY = (
    *("asyncpg", "redis", "boto3", "botocore", "nats", "numpy", "onnxruntime", "tokenizers", "cryptography", "jwt"),
    *("httpx", "lxml", "docx", "pptx", "openpyxl", "pypdfium2", "litellm", "temporalio", "fastapi"),
)


def name_of(value: object) -> str:
    if isinstance(value, Deployable):
        return value.name
    return value.name if isinstance(value, Operation) else ""


every_function = pytest.mark.parametrize("deployable", DEPLOYABLES, ids=name_of)
every_route = pytest.mark.parametrize(("deployable", "operation", "route"), ROUTES, ids=name_of)
every_change = pytest.mark.parametrize(("deployable", "operation", "route"), CHANGES, ids=name_of)


def path_of(route: Route) -> str:
    """The route's path with something in each parameter."""
    parts = [
        "x" if part.startswith("{") and ":path" in part else "1" if part.startswith("{") else part
        for part in route.path.split("/")
    ]
    return "/".join(parts)


def stand_in(deployable: Deployable, route: Route, handler: Any, timeout_s: float | None = None) -> Deployable:
    """The same function with the same declaration around another handler: what is tested is the way to it."""
    declared = deployable.function
    function = Function(scale=declared.scale, timeout_s=declared.timeout_s, body_bytes_max=declared.body_bytes_max)
    function.dialect = declared.dialect
    if timeout_s is not None:
        function.timeout_s = timeout_s  # type: ignore[assignment]  # a test need not wait whole seconds
    function.operations.append(Operation(handler, replace(route, raw=False)))
    return replace(deployable, function=function)


@asynccontextmanager
async def client_of(application: Application) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    async with httpx.AsyncClient(transport=transport, base_url="http://platform") as client:
        yield client
    await application.process.close()


async def token(application: Application, tenant: TenantId, *, audience: str, role: str) -> dict[str, str]:
    tokens = await application.process.get(Tokens)
    caller = Caller(tenant, "key:contract", role, "key")
    return {"authorization": f"Bearer {tokens.mint(caller, audience=audience)}"}


def role_for(route: Route) -> str:
    roles = ("admin", "operator", "hook")
    return next((role for role in roles if covers(ROLES[role], route.permission)), "system")


@pytest.fixture(scope="module")
def loaded() -> dict[str, list[str]]:
    """For each function, the heavy modules that importing its declaration loads, each in a fresh interpreter."""
    found: dict[str, list[str]] = {}
    for deployable in DEPLOYABLES:
        code = f"import sys, {deployable.module}; print(*[m for m in {HEAVY!r} if m in sys.modules])"
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=catalog.ROOT, check=True)
        found[deployable.name] = ran.stdout.split()
    return found


@every_function
def test_importing_it_loads_no_vendor(deployable: Deployable, loaded: dict[str, list[str]]) -> None:
    assert loaded[deployable.name] == []


@every_function
def test_every_handler_says_what_it_does(deployable: Deployable) -> None:
    assert deployable.summary, f"{deployable.module} has no docstring"
    silent = [one.name for one in deployable.function.operations if not one.handler.__doc__]
    assert not silent, f"{deployable.name}: no docstring on {silent}"


@every_route
async def test_it_rejects_a_call_without_credentials(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings
) -> None:
    async with client_of(build([deployable], settings)) as client:
        answer = await client.request(route.method, path_of(route))
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Bearer")


@every_route
async def test_it_rejects_a_token_minted_for_another_function(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings
) -> None:
    application = build([deployable], settings)
    async with client_of(application) as client:
        headers = await token(application, PLATFORM, audience="some-other-function", role=role_for(route))
        answer = await client.request(route.method, path_of(route), headers=headers)
    assert answer.status_code == 401


@every_route
async def test_it_rejects_a_caller_without_the_permission(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings
) -> None:
    application = build([deployable], settings)
    async with client_of(application) as client:
        headers = await token(application, PLATFORM, audience=deployable.name, role="no-such-role")
        answer = await client.request(route.method, path_of(route), headers=headers)
    assert answer.status_code == 403


@every_route
async def test_dedicated_to_one_tenant_it_knows_no_other(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings
) -> None:
    application = build([deployable], replace(settings, dedicated_tenant="somebody-else"))
    async with client_of(application) as client:
        headers = await token(application, PLATFORM, audience=deployable.name, role=role_for(route))
        answer = await client.request(route.method, path_of(route), headers=headers)
    assert answer.status_code == 404


@every_route
async def test_it_refuses_a_body_over_its_limit(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings
) -> None:
    limit = route.body_bytes_max or deployable.function.body_bytes_max
    application = build([deployable], settings)
    async with client_of(application) as client:
        headers = await token(application, PLATFORM, audience=deployable.name, role=role_for(route))
        headers |= {"content-length": str(limit + 1), "content-type": "application/json"}
        answer = await client.request(route.method, path_of(route), headers=headers, content=b"{}")
    assert answer.status_code == 413


@every_route
async def test_it_ends_a_call_that_takes_too_long(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings
) -> None:
    async def sleeper() -> None:
        await asyncio.sleep(60)

    application = build([stand_in(deployable, route, sleeper, timeout_s=0.2)], settings)
    async with client_of(application) as client:
        headers = await token(application, PLATFORM, audience=deployable.name, role=role_for(route))
        answer = await client.request(route.method, path_of(route), headers=headers)
    assert answer.status_code in (503, 504)
    assert "retry-after" in answer.headers


@every_change
async def test_it_audits_its_changes(
    deployable: Deployable,
    operation: Operation,
    route: Route,
    settings: Settings,
    registry: TenantRegistry,
    control: ControlDatabase,
    tenant: TenantId,
) -> None:
    async def changed() -> None:
        """Change something."""

    changed.__name__ = operation.name
    role = role_for(route)
    acting_for = PLATFORM if role in ("operator", "hook") else tenant
    application = build([stand_in(deployable, replace(route, success=204), changed)], settings)
    async with client_of(application) as client:
        headers = await token(application, acting_for, audience=deployable.name, role=role)
        headers["x-request-id"] = f"contract-{deployable.name}-{operation.name}"
        answer = await client.request(route.method, path_of(route), headers=headers)
    assert answer.status_code == 204
    database = control if acting_for == PLATFORM else await registry.database(acting_for)
    records = await database.fetch("SELECT record FROM audit_outbox")
    wanted = f"contract-{deployable.name}-{operation.name}".encode()
    assert [row for row in records if wanted in bytes(row["record"])]
