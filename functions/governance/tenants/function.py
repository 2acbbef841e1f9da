"""Tenants: create, list, look at, move and delete them. For operators."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field, SecretStr, field_validator

from shared.errors import Busy, Forbidden, Invalid, Problem
from shared.events import CloudEvent
from shared.function import Call, DomainEvent, Function, Scale, Tick
from shared.function.schema import Body
from shared.ids import PLATFORM, TenantId
from shared.llm.allowed import PATTERN, PATTERNS_MAX, allow_all_models, allow_models, allowed_models
from shared.objects import ObjectKey
from shared.postgres import ControlDatabase, ControlTransaction
from shared.telemetry import log
from shared.tenancy import MOVE_ASKED, Tenant, TenantRegistry

tenants = Function(timeout_s=600, scale=Scale(max=5, concurrency=4))


class NewTenant(Body):
    """The tenant to create. Creating one that exists changes nothing."""

    name: str = Field(max_length=64)
    server: str = Field("", max_length=64)
    """The PostgreSQL server to create it on; empty means the control database's."""


class Destination(Body):
    """Where to move a tenant: the name of a PostgreSQL server."""

    server: str = Field("", max_length=64)


class AllowedModels(Body):
    """Which models a tenant may use: `<host>/<model>`, with `*` for anything; null for all. The host is that of the
    provider's URL."""

    models: list[str] | None = Field(max_length=PATTERNS_MAX)

    @field_validator("models")
    @classmethod
    def are_patterns(cls, value: list[str] | None) -> list[str] | None:
        if wrong := [one for one in value or () if not PATTERN.fullmatch(one)]:
            raise ValueError(f"has {wrong[0][:100]!r}; write <host>/<model>, such as api.openai.com/gpt-4o*")
        return value


class ObjectsKey(Body):
    """A key of the object store that opens the tenant's bucket and no other."""

    access_key: str = Field(min_length=1, max_length=200, pattern=r"^[\x21-\x7e]+$")
    secret_key: SecretStr = Field(min_length=1, max_length=200)


class TenantView(BaseModel):
    name: str
    state: str
    schema_version: int
    created_at: datetime
    server: str
    """The PostgreSQL server that it is on."""
    moving_to: str | None
    """The server that it is being moved to. The one that it is on: the move is being called off."""
    leftover: str | None
    """The server on which an old copy is still to be dropped."""
    move_failure: str | None
    """Why the last attempt to move it failed. It is tried again."""


class TenantList(BaseModel):
    tenants: list[TenantView]


def view(tenant: Tenant) -> TenantView:
    return TenantView(
        name=tenant.id,
        state=tenant.state,
        schema_version=tenant.version,
        created_at=tenant.created_at,
        server=tenant.server,
        moving_to=tenant.moving_to,
        leftover=tenant.leftover,
        move_failure=tenant.move_failure,
    )


@tenants.post("/v1/tenants", permission="tenants:write", success=201)
async def create_tenant(body: NewTenant, registry: TenantRegistry, call: Call) -> TenantView:
    """Create a tenant: its database, role, bucket and keys. Completes what a killed creation left."""
    call.note(resource=f"tenant/{body.name}"[:100])
    return view(await registry.create(body.name, body.server))


@tenants.get("/v1/tenants", permission="tenants:read")
async def list_tenants(registry: TenantRegistry, after: str = "", limit: int = 200) -> TenantList:
    """List tenants by name, a page at a time."""
    return TenantList(tenants=[view(one) for one in await registry.page(after=after, limit=min(max(limit, 1), 1000))])


@tenants.get("/v1/tenants/{tenant}", permission="tenants:read")
async def get_tenant(tenant: str, registry: TenantRegistry) -> TenantView:
    """Look at one tenant."""
    return view(await registry.get(TenantId(tenant)))


@tenants.delete("/v1/tenants/{tenant}", permission="tenants:write")
async def delete_tenant(tenant: str, registry: TenantRegistry, call: Call) -> None:
    """Delete a tenant with its database, objects, keys and secrets, for good."""
    call.note(resource=f"tenant/{tenant}"[:100])
    await registry.delete(TenantId(tenant))


@tenants.get("/v1/tenants/{tenant}/models", permission="tenants:read")
async def get_allowed_models(tenant: str, registry: TenantRegistry, control: ControlDatabase) -> AllowedModels:
    """Which models the tenant may use."""
    found = await allowed_models(control, (await registry.get(TenantId(tenant))).id)
    return AllowedModels(models=None if found is None else list(found))


@tenants.put("/v1/tenants/{tenant}/models", permission="tenants:write")
async def put_allowed_models(
    tenant: str, body: AllowedModels, registry: TenantRegistry, transaction: ControlTransaction, call: Call
) -> AllowedModels:
    """Say which models the tenant may use. In force everywhere within a second; calls in flight go on."""
    known = (await registry.get(TenantId(tenant))).id
    if body.models is None:
        await allow_all_models(transaction, known)
    else:
        await allow_models(transaction, known, body.models)
    call.note(resource=f"tenant/{known}/models", models=body.models if body.models is None else len(body.models))
    return body


@tenants.put("/v1/tenants/{tenant}/objects-key", permission="tenants:write", success=204)
async def bring_objects_key(
    tenant: str, body: ObjectsKey, registry: TenantRegistry, transaction: ControlTransaction, call: Call
) -> None:
    """Bring the key that opens the tenant's bucket to the tenant's own processes, for a store that makes none itself.

    It is tried first: it must open that bucket, and the store must list no other for it. Nobody is shown it again.
    """
    call.note(resource=f"tenant/{tenant}/objects-key"[:100])
    if body.access_key == call.process.settings.objects_access_key:
        raise Invalid("this is the platform's own key, which opens every bucket; make one for the tenant's alone")
    key = ObjectKey(body.access_key, body.secret_key.get_secret_value())
    await registry.bring_object_key(transaction, TenantId(tenant), key)


@tenants.post("/v1/tenants/{tenant}/move", permission="tenants:write", success=202)
async def move_tenant(
    tenant: str, body: Destination, registry: TenantRegistry, transaction: ControlTransaction, call: Call
) -> TenantView:
    """Ask for a tenant's move to another PostgreSQL server. It takes no writes until that is done."""
    call.note(resource=f"tenant/{tenant}"[:100])
    return view(await registry.begin_move(transaction, TenantId(tenant), body.server))


@tenants.delete("/v1/tenants/{tenant}/move", permission="tenants:write", success=202)
async def call_off_move(
    tenant: str, registry: TenantRegistry, transaction: ControlTransaction, call: Call
) -> TenantView:
    """Ask that a tenant stays on its server. Possible until the move has switched over."""
    call.note(resource=f"tenant/{tenant}"[:100])
    return view(await registry.call_off_move(transaction, TenantId(tenant)))


@tenants.on(DomainEvent(MOVE_ASKED))
async def carry_out_move(event: CloudEvent, registry: TenantRegistry) -> None:
    """Move the tenant, or take its move back. What fails for good stands in the tenant's row."""
    if event.tenant != PLATFORM:
        raise Forbidden("a tenant's event moves nobody")
    try:
        await registry.move(TenantId(event.subject))
    except Busy:
        raise
    except Problem as failure:
        log("tenant_not_moved", tenant=event.subject, error=failure.detail)


@tenants.every("*/5 * * * *")
async def resume_stuck(tick: Tick, registry: TenantRegistry) -> None:
    """Complete creations, moves and deletions that a killed process left behind. Remove what is of no tenant."""
    await registry.resume_stuck()
    await registry.sweep_orphans()
