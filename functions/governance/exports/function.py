"""Exports: all that is a tenant's own as one signed archive that verifies offline."""

from __future__ import annotations

from datetime import UTC
from functools import partial
from uuid import uuid4

from functions.governance.exports.response import ArchiveResponse
from shared.audit.checkpoint import AuditSigner
from shared.errors import NotFound
from shared.function import Call, Function, Scale
from shared.ids import PLATFORM, TenantId
from shared.objects import ObjectStore
from shared.postgres import ControlDatabase
from shared.tenancy import TenantRegistry
from shared.tenancy.export import Source, write_export

exports = Function(timeout_s=600, scale=Scale(max=5, concurrency=4))


@exports.route("/v1/exports/{tenant}", method="GET", permission="tenants:export")
async def export_tenant(
    tenant: str, call: Call, registry: TenantRegistry, control: ControlDatabase, signer: AuditSigner
) -> ArchiveResponse:
    """The whole of a tenant as one tar archive, for `dcoder tenant verify`. Operators name any, others their own.

    The audit record is committed before the first byte is read: an export that was cut short has left data, too.
    """
    if call.caller.tenant not in (PLATFORM, tenant):
        raise NotFound(f"there is no tenant {tenant!r}")
    owner, export_id = TenantId(tenant), uuid4()
    database = await registry.database(owner)
    async with database.transaction() as transaction:
        details = {"export": str(export_id), "request_id": call.request_id}
        await transaction.audit("tenancy.export", f"tenant/{owner}", actor=call.caller.subject, details=details)
    source = Source(
        owner,
        database,
        control,
        (await call.process.get(ObjectStore)).tenant(owner),
        signer,
    )
    at = call.process.clock.now().astimezone(UTC)
    return ArchiveResponse(partial(write_export, source, export_id=export_id, at=at), filename=f"{owner}.tar")
