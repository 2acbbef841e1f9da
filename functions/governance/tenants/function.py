"""Tenants: create, list, look at and delete them. For operators."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from shared.function import Call, Function, Scale, Tick
from shared.ids import TenantId
from shared.tenancy import Tenant, TenantRegistry

tenants = Function(timeout_s=120, scale=Scale(max=5, concurrency=4))


class NewTenant(BaseModel):
    """The tenant to create. Creating one that exists changes nothing."""

    name: str = Field(max_length=64)


class TenantView(BaseModel):
    name: str
    state: str
    schema_version: int
    created_at: datetime


class TenantList(BaseModel):
    tenants: list[TenantView]


def view(tenant: Tenant) -> TenantView:
    return TenantView(name=tenant.id, state=tenant.state, schema_version=tenant.version, created_at=tenant.created_at)


@tenants.post("/v1/tenants", permission="tenants:write", success=201)
async def create_tenant(body: NewTenant, registry: TenantRegistry, call: Call) -> TenantView:
    """Create a tenant: its database, role, bucket and keys. Completes what a killed creation left."""
    call.note(resource=f"tenant/{body.name}"[:100])
    return view(await registry.create(body.name))


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


@tenants.every("*/5 * * * *")
async def resume_stuck(tick: Tick, registry: TenantRegistry) -> None:
    """Complete creations and deletions that a killed process left behind, and remove what belongs to no tenant."""
    await registry.resume_stuck()
    await registry.sweep_orphans()
