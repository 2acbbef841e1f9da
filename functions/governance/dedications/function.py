"""Dedications: functions that serve a tenant from a process of its own. For operators, and for who starts processes."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field

from shared.errors import Fault, Invalid, NotFound
from shared.function import Call, Function, Scale, catalog
from shared.function.injection import dedicated_grants_of, of_no_one_tenant
from shared.function.schema import Body
from shared.ids import TenantId
from shared.postgres import ControlDatabase, ControlTransaction
from shared.tenancy import TenantRegistry
from shared.tenancy.dedications import Dedication, ask, end, forget, listed, serve_at

dedications = Function(scale=Scale(max=5))


class Address(Body):
    """Where the process answers: an origin, `http://host[:port]`."""

    address: str = Field("", max_length=300)


class DedicationView(BaseModel):
    tenant: str
    function: str
    state: str
    """`asked`: not served from there yet. `serving`. `ending`: served together with all tenants again."""
    address: str | None
    asked_at: datetime
    changed_at: datetime


class DedicationList(BaseModel):
    dedications: list[DedicationView]


def view(one: Dedication) -> DedicationView:
    return DedicationView(
        tenant=one.tenant,
        function=one.function,
        state=one.state,
        address=one.address,
        asked_at=one.asked_at,
        changed_at=one.changed_at,
    )


def note(call: Call, tenant: str, function: str) -> None:
    call.note(resource=f"tenant/{tenant}/dedication/{function}"[:200])


def grants_of(name: str) -> frozenset[str]:
    """What a process of it takes for one tenant. Raises `NotFound`, or `Invalid` with the types because of which the
    function serves all tenants only."""
    try:
        (deployable,) = catalog.select([name])
    except Fault as unknown:
        raise NotFound(f"there is no function {name[:64]!r}") from unknown
    if beyond := of_no_one_tenant(deployable.function):
        raise Invalid(f"{name} cannot be dedicated: it asks for {', '.join(beyond)}, which reaches beyond one tenant")
    return dedicated_grants_of(deployable.function)


@dedications.get("/v1/dedications", permission="tenants:read")
async def list_dedications(control: ControlDatabase, tenant: str = "") -> DedicationList:
    """List them, of one tenant or of all."""
    return DedicationList(dedications=[view(one) for one in await listed(control, tenant)])


@dedications.put("/v1/dedications/{tenant}/{function}", permission="tenants:write")
async def dedicate(
    tenant: str, function: str, transaction: ControlTransaction, registry: TenantRegistry, call: Call
) -> DedicationView:
    """Wish that a function serves a tenant from a process of its own. Who starts processes makes it so."""
    note(call, tenant, function)
    grants = grants_of(function)
    wished = await ask(transaction, TenantId(tenant), function)
    if "objects" in grants:
        await registry.ensure_object_key(transaction, wished.tenant)
    return view(wished)


@dedications.put("/v1/dedications/{tenant}/{function}/address", permission="tenants:write")
async def serve(
    tenant: str, function: str, body: Address, transaction: ControlTransaction, call: Call
) -> DedicationView:
    """Say that the process answers, and where. From the next second on it gets the tenant's calls and events."""
    note(call, tenant, function)
    return view(await serve_at(transaction, TenantId(tenant), function, body.address))


@dedications.delete("/v1/dedications/{tenant}/{function}", permission="tenants:write", success=202)
async def undedicate(tenant: str, function: str, transaction: ControlTransaction, call: Call) -> DedicationView:
    """Let the function serve the tenant together with all others again, from the next second on."""
    note(call, tenant, function)
    return view(await end(transaction, TenantId(tenant), function))


@dedications.delete("/v1/dedications/{tenant}/{function}/address", permission="tenants:write")
async def gone(tenant: str, function: str, transaction: ControlTransaction, call: Call) -> None:
    """Say that the process of a dedication that is ending is gone. Nothing of it is left then."""
    note(call, tenant, function)
    await forget(transaction, TenantId(tenant), function)
