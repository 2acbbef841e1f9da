"""What holds for every function there is, derived from the catalog: no function can be forgotten."""

from __future__ import annotations

import asyncio
import re
import subprocess
import sys
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, get_args
from uuid import UUID

import httpx
import pytest
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from shared.access import ROLES, covers
from shared.bundles.manifest import CAPABILITY, PREFIX
from shared.errors import Fault
from shared.events import CloudEvent, to_http
from shared.function import catalog
from shared.function.admission import takes_json
from shared.function.app import Application, build
from shared.function.catalog import Deployable
from shared.function.declaration import Function, Operation, Route
from shared.function.dedication import credentials_of
from shared.function.injection import hints_of, of_no_one_tenant
from shared.function.process import Process
from shared.identity import Caller, Tokens
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.dedicated import dedicated_settings


def handed_on(route: Route) -> bool:
    """Whether the call is a tenant's own function's, which says itself what it takes and what it changes."""
    return route.path.startswith(PREFIX)


DEPLOYABLES = catalog.find()
ROUTES = [(one, operation, route) for one in DEPLOYABLES for operation, route in one.routes()]
CHANGES = [(one, operation, route) for one, operation, route in ROUTES if route.changes]
ITEMS = [(one, operation, route) for one, operation, route in ROUTES if "{" in route.path and route.method != "PUT"]
JSON_ROUTES = [
    (one, operation, route)
    for one, operation, route in ROUTES
    if takes_json(operation) or (route.raw and route.method == "POST" and not handed_on(route))
]
MODELS = [(one, operation, route) for one, operation, route in ROUTES if takes_json(operation)]
NO_JSON_OF_ITS_KIND = [
    (b"{}", "text/plain", {415}),
    (b"{}", "application/x-www-form-urlencoded", {415}),
    (b"", "application/json", {400, 422}),
    (b'{"a": ', "application/json", {400}),
    (b"\xff\xfe", "application/json", {400}),
    (b"[" * 50_000, "application/json", {400, 422}),
    (b"[]", "application/json", {400, 422}),
    (b"7", "application/json", {400, 422}),
]
MIB = 1024 * 1024
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
every_item = pytest.mark.parametrize(("deployable", "operation", "route"), ITEMS, ids=name_of)
every_json_route = pytest.mark.parametrize(("deployable", "operation", "route"), JSON_ROUTES, ids=name_of)
every_model = pytest.mark.parametrize(("deployable", "operation", "route"), MODELS, ids=name_of)
every_listener = pytest.mark.parametrize("deployable", [one for one in DEPLOYABLES if one.takes_events], ids=name_of)
every_change = pytest.mark.parametrize(("deployable", "operation", "route"), CHANGES, ids=name_of)


def path_of(route: Route) -> str:
    """The route's path with something in each parameter."""
    parts = [
        "x" if part.startswith("{") and ":path" in part else "1" if part.startswith("{") else part
        for part in route.path.split("/")
    ]
    return "/".join(parts)


def path_to_nothing(operation: Operation, route: Route) -> str:
    """The route's path with ids that nothing has, of the kinds that the handler takes."""
    nothing = {int: "999999999", UUID: "00000000-0000-4000-8000-000000000000"}
    hints = hints_of(operation.handler)
    return re.sub(r"\{(\w+)(:path)?\}", lambda one: nothing.get(hints.get(one[1], str), "nothing-here"), route.path)


def stand_in(
    deployable: Deployable, route: Route, handler: Any, *, timeout_s: float | None = None, raw: bool = False
) -> Deployable:
    """The same function with the same declaration around another handler: what is tested is the way to it."""
    declared = deployable.function
    function = Function(scale=declared.scale, timeout_s=declared.timeout_s, body_bytes_max=declared.body_bytes_max)
    function.dialect = declared.dialect
    if timeout_s is not None:
        function.timeout_s = timeout_s  # type: ignore[assignment]  # a test need not wait whole seconds
    function.operations.append(Operation(handler, replace(route, raw=raw)))
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
async def test_for_one_tenant_it_knows_no_other_or_does_not_start(
    deployable: Deployable, operation: Operation, route: Route, process: Process, tenant: TenantId, tmp_path: Path
) -> None:
    held = await credentials_of(process.settings, tenant)
    settings = dedicated_settings(process.settings, tenant, held, tmp_path)
    if of_no_one_tenant(deployable.function):
        with pytest.raises(Fault, match="it serves all tenants"):
            build([deployable], settings)
        return
    tokens, answers = await process.get(Tokens), []
    async with client_of(build([deployable], settings)) as client:
        for other in (PLATFORM, TenantId("a-third")):
            caller = Caller(other, "key:contract", role_for(route), "key")
            shown = (
                tokens.mint(caller, audience=deployable.name),
                tokens.mint_forwarded(caller, function=deployable.name),
            )
            for token in shown:
                headers = {"authorization": f"Bearer {token}"}
                answers.append(await client.request(route.method, path_of(route), headers=headers))
    assert [answer.status_code for answer in answers] == [401] * 4


@every_item
async def test_what_is_not_the_callers_is_not_found(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings, other_tenant: TenantId
) -> None:
    role = role_for(route)
    application = build([deployable], settings)
    async with client_of(application) as client:
        acting_for = PLATFORM if role == "operator" else other_tenant
        headers = await token(application, acting_for, audience=deployable.name, role=role)
        body: dict[str, str] | None = {} if takes_json(operation) else None
        answer = await client.request(route.method, path_to_nothing(operation, route), json=body, headers=headers)
    assert answer.status_code == 404, answer.text


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
async def test_it_refuses_a_body_without_a_length_once_that_is_over_its_limit(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings, tenant: TenantId
) -> None:
    async def reader(request: Request) -> Response:
        async for _ in request.stream():
            pass
        return Response(status_code=204)

    async def piecewise(size: int) -> AsyncIterator[bytes]:
        for start in range(0, size, MIB):
            yield bytes(min(MIB, size - start))

    limit, role = route.body_bytes_max or deployable.function.body_bytes_max, role_for(route)
    application = build([stand_in(deployable, route, reader, raw=True)], settings)
    async with client_of(application) as client:
        acting_for = PLATFORM if role in ("operator", "hook") else tenant
        headers = await token(application, acting_for, audience=deployable.name, role=role)
        statuses = [
            (await client.request(route.method, path_of(route), headers=headers, content=piecewise(size))).status_code
            for size in (limit, limit + 1)
        ]
    assert statuses == [204, 413]


@every_json_route
async def test_it_refuses_what_is_no_json_of_its_kind_with_a_reason(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings, tenant: TenantId
) -> None:
    role = role_for(route)
    application = build([deployable], settings)
    async with client_of(application) as client:
        acting_for = PLATFORM if role in ("operator", "hook") else tenant
        headers = await token(application, acting_for, audience=deployable.name, role=role)
        for content, content_type, statuses in NO_JSON_OF_ITS_KIND:
            if role == "hook" and content_type != "application/json":
                continue  # object stores name the type of their notifications as they like
            answer = await client.request(
                route.method, path_of(route), headers={**headers, "content-type": content_type}, content=content
            )
            assert answer.status_code in statuses, (content[:9], content_type, answer.text)
            told = answer.json()
            assert told["error"]["message"] if deployable.function.dialect == "openai" else told["detail"]


@every_model
async def test_it_refuses_a_member_that_its_body_does_not_have(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings, tenant: TenantId
) -> None:
    role = role_for(route)
    application = build([deployable], settings)
    async with client_of(application) as client:
        headers = await token(
            application, PLATFORM if role == "operator" else tenant, audience=deployable.name, role=role
        )
        answer = await client.request(route.method, path_of(route), headers=headers, json={"no_such_member": 1})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid")
    assert ("body.no_such_member", "extra_forbidden") in [(one["at"], one["kind"]) for one in answer.json()["flaws"]]


@every_model
def test_nor_does_it_take_one_in_what_is_nested(deployable: Deployable, operation: Operation, route: Route) -> None:
    (body,) = (hint for name, hint in hints_of(operation.handler).items() if name == "body")
    assert [model.__name__ for model in models_in(body) if model.model_config.get("extra") != "forbid"] == []


def models_in(hint: object) -> set[type[BaseModel]]:
    """The pydantic models of which a value consists."""
    inside = {model for part in get_args(hint) for model in models_in(part)}
    if isinstance(hint, type) and issubclass(hint, BaseModel):
        inside |= {hint} | {one for field in hint.model_fields.values() for one in models_in(field.annotation)}
    return inside


@every_route
async def test_it_ends_a_call_that_takes_too_long(
    deployable: Deployable, operation: Operation, route: Route, settings: Settings
) -> None:
    async def sleeper() -> None:
        await asyncio.sleep(60)

    application = build([stand_in(deployable, route, sleeper, timeout_s=0.2, raw=route.raw)], settings)
    async with client_of(application) as client:
        headers = await token(application, PLATFORM, audience=deployable.name, role=role_for(route))
        answer = await client.request(route.method, path_of(route), headers=headers)
    assert answer.status_code == 504
    assert "retry-after" in answer.headers


@every_listener
async def test_it_takes_no_event_without_a_token_of_the_platforms(deployable: Deployable, settings: Settings) -> None:
    event = CloudEvent("e1", "/test", "dcoder.test", "x", TenantId("acme"), datetime.now(UTC), {})
    headers, content = to_http(event)
    async with client_of(build([deployable], settings)) as client:
        paths = ("/", f"/events/{deployable.name}")
        answers = [await client.post(path, headers=headers, content=content) for path in paths]
    assert [answer.status_code for answer in answers] == [401, 401]


@every_listener
async def test_it_refuses_an_event_over_the_limit(deployable: Deployable, settings: Settings) -> None:
    async with client_of(build([deployable], settings)) as client:
        answer = await client.post(f"/events/{deployable.name}", content=bytes(MIB + 1))
    assert answer.status_code == 413


def test_no_two_operations_share_a_route() -> None:
    routes = [(route.method, route.path) for _, _, route in ROUTES]
    assert [route for route, count in Counter(routes).items() if count > 1] == []


@every_route
def test_what_writes_by_its_method_is_declared_as_a_change(
    deployable: Deployable, operation: Operation, route: Route
) -> None:
    assert route.changes or handed_on(route) or route.method not in ("PUT", "PATCH", "DELETE")


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


def test_only_calls_of_tenants_own_functions_are_below_their_prefix() -> None:
    """So no path that a tenant's function may declare is the platform's, now or later."""
    assert {one.name for one, _, route in ROUTES if handed_on(route)} == {"integrations-plugins"}
    assert not [one.name for one in DEPLOYABLES if one.capability == CAPABILITY]
