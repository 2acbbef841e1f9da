"""A tenant's own functions: deployed and shared out by operators, called by the tenant."""

from __future__ import annotations

import json
import random

from starlette.requests import Request
from starlette.types import ASGIApp

from functions.integrations.plugins.passing import handed_on
from functions.integrations.plugins.views import (
    Address,
    FunctionDetails,
    FunctionList,
    FunctionView,
    NewRevision,
    Sharing,
    SignedBundle,
    details,
    signed,
    view,
)
from shared.access import permitted
from shared.bundles import archive as archives
from shared.bundles import revisions as own
from shared.bundles.grants import grants_of
from shared.bundles.manifest import parsed
from shared.bundles.serving import OwnFunctions, chosen, route_of
from shared.errors import Forbidden, NotFound
from shared.function import Call, Function, Scale
from shared.identity import Caller
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase, ControlTransaction
from shared.secrets import read_key
from shared.tenancy import TenantRegistry

plugins = Function(timeout_s=65, scale=Scale(concurrency=100))


def owner(caller: Caller, tenant: str) -> TenantId:
    """The tenant whose functions are meant: the caller's own, or for operators any. Raises `NotFound`."""
    if caller.tenant not in (tenant, PLATFORM):
        raise NotFound(f"there is no tenant {tenant[:64]!r}")
    return TenantId(tenant)


def named(tenant: str, name: str) -> str:
    return f"tenant/{tenant}/function/{name}"[:200]


@plugins.post("/v1/functions/{tenant}", permission="functions:write", success=201)
async def deploy(
    tenant: str, body: NewRevision, transaction: ControlTransaction, registry: TenantRegistry, call: Call
) -> FunctionDetails:
    """Take a function's sources as its next revision, and sign them. Nothing of them is run here."""
    place, seed = owner(call.caller, tenant), read_key(call.process.settings, "tokens")
    await own.lock(transaction, place)
    manifest, archive = parsed(json.dumps(body.manifest)), body.archive_bytes()
    archives.unpacked(archive)
    revision = await own.add(transaction, place, manifest, archive, seed=seed, by=call.caller.subject)
    if "objects" in grants_of(manifest):
        await registry.ensure_object_key(transaction, place)
    if body.traffic:
        await own.share(transaction, place, manifest.slug, {revision: 100})
    call.note(resource=named(tenant, manifest.slug), revision=revision, asks=list(manifest.asks))
    return details(
        await own.found(transaction, place, manifest.slug), await own.revisions(transaction, place, manifest.slug)
    )


@plugins.get("/v1/functions/{tenant}", permission="functions:read")
async def list_functions(tenant: str, control: ControlDatabase, caller: Caller) -> FunctionList:
    """List a tenant's own functions."""
    return FunctionList(functions=[view(one) for one in await own.listed(control, owner(caller, tenant))])


@plugins.get("/v1/functions/{tenant}/{name}", permission="functions:read")
async def get_function(tenant: str, name: str, control: ControlDatabase, caller: Caller) -> FunctionDetails:
    """Look at one function and its revisions, the newest first."""
    place = owner(caller, tenant)
    return details(await own.found(control, place, name), await own.revisions(control, place, name))


@plugins.put("/v1/functions/{tenant}/{name}/traffic", permission="functions:write")
async def share_traffic(
    tenant: str, name: str, body: Sharing, transaction: ControlTransaction, caller: Caller, call: Call
) -> FunctionView:
    """Share calls out among revisions. It becomes so once each of them answers."""
    call.note(resource=named(tenant, name), traffic=own.as_json(body.traffic))
    return view(await own.share(transaction, owner(caller, tenant), name, body.traffic))


@plugins.post("/v1/functions/{tenant}/{name}/rollback", permission="functions:write")
async def roll_back(
    tenant: str, name: str, transaction: ControlTransaction, caller: Caller, call: Call
) -> FunctionView:
    """Send all calls to the revision before the newest one that has calls."""
    place = owner(caller, tenant)
    there = [one.revision for one in await own.revisions(transaction, place, name)]
    revision = own.before((await own.found(transaction, place, name)).traffic, there)
    call.note(resource=named(tenant, name), revision=revision)
    return view(await own.share(transaction, place, name, {revision: 100}))


@plugins.delete("/v1/functions/{tenant}/{name}", permission="functions:write")
async def delete(tenant: str, name: str, transaction: ControlTransaction, caller: Caller, call: Call) -> None:
    """Delete a function with all its revisions."""
    call.note(resource=named(tenant, name))
    await own.delete(transaction, owner(caller, tenant), name)


@plugins.get("/v1/functions/{tenant}/{name}/revisions/{revision}", permission="functions:export")
async def get_bundle(tenant: str, name: str, revision: int, control: ControlDatabase, caller: Caller) -> SignedBundle:
    """A revision's signed bundle, for who starts its process."""
    return signed(await own.kept(control, owner(caller, tenant), name, revision))


@plugins.put("/v1/functions/{tenant}/{name}/revisions/{revision}/address", permission="functions:write")
async def serve(
    tenant: str,
    name: str,
    revision: int,
    body: Address,
    transaction: ControlTransaction,
    caller: Caller,
    call: Call,
) -> FunctionView:
    """Say where a revision's process answers."""
    call.note(resource=named(tenant, name), revision=revision)
    place = owner(caller, tenant)
    await own.answers(transaction, place, name, revision, body.address)
    return view(await own.found(transaction, place, name))


@plugins.route("/v1/own/{path:path}", method="GET", permission="functions:use")
@plugins.route("/v1/own/{path:path}", method="POST", permission="functions:use")
@plugins.route("/v1/own/{path:path}", method="PUT", permission="functions:use")
@plugins.route("/v1/own/{path:path}", method="PATCH", permission="functions:use")
@plugins.route("/v1/own/{path:path}", method="DELETE", permission="functions:use")
async def call_own(path: str, request: Request, functions: OwnFunctions, call: Call) -> ASGIApp:
    """Let a call of the tenant's own function in, as that declares it, and hand it on to the function's process."""
    targets = await functions.targets(call.caller.tenant, path.partition("/")[0])
    target = chosen(targets, random.random())  # noqa: S311  which revision gets a call is no secret
    route = route_of(target.manifest, request.method, request.scope["path"])
    if not permitted(call.caller, route.permission):
        raise Forbidden(f"{call.caller.subject} as {call.caller.role!r} has no permission {route.permission!r}")
    return await handed_on(call, target)
