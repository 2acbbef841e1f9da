"""The audit log: sealed records, signed checkpoints, proofs and exports that verify offline."""

from __future__ import annotations

from starlette.responses import StreamingResponse

from functions.governance.audit import log
from functions.governance.audit.records import page
from functions.governance.audit.views import CheckpointView, Proof, RecordList
from shared.audit import PENDING
from shared.audit.checkpoint import AuditSigner
from shared.events import CloudEvent
from shared.function import Call, DomainEvent, Function, Scale, Tick
from shared.function.process import Process
from shared.identity import Caller
from shared.ids import PLATFORM

audit = Function(timeout_s=120, scale=Scale(max=5, concurrency=20))


@audit.get("/v1/audit/records", permission="audit:read")
async def list_records(call: Call, after: int = -1, limit: int = 100, action: str = "", actor: str = "") -> RecordList:
    """List sealed records by number, those after `after`, at most 1,000, optionally of one action or actor."""
    filters = {"action": action, "actor": actor}
    return await page(await log.database_of(call), after=after, limit=min(max(limit, 1), 1000), filters=filters)


@audit.get("/v1/audit/checkpoint", permission="audit:read")
async def newest_checkpoint(call: Call, signer: AuditSigner) -> CheckpointView:
    """The newest signed checkpoint, with the public key to check it with. Keep it: it proves what the log held."""
    return await log.newest(await log.database_of(call), call.caller.tenant, signer)


@audit.get("/v1/audit/records/{seq}/proof", permission="audit:read")
async def prove(seq: int, call: Call) -> Proof:
    """The inclusion proof (RFC 6962) of a record against the newest checkpoint."""
    return await log.proof(await log.database_of(call), seq)


@audit.route("/v1/audit/export", method="GET", permission="audit:read")
async def export(call: Call, signer: AuditSigner) -> StreamingResponse:
    """The whole log as JSON Lines, for `dcoder audit verify`."""
    lines = log.export(await log.database_of(call), call.caller.tenant, signer)
    return StreamingResponse(lines, media_type="application/x-ndjson")


@audit.on(DomainEvent(PENDING))
async def seal_pending(event: CloudEvent, process: Process, signer: AuditSigner) -> None:
    """Seal what a commit left in the outboxes."""
    await log.seal_all(process, event.tenant, signer)


@audit.every("* * * * *", per="tenant", catch_up="skip")
async def sweep_tenant(tick: Tick, process: Process, caller: Caller, signer: AuditSigner) -> None:
    """Seal what a killed process did not announce."""
    await log.seal_all(process, caller.tenant, signer)


@audit.every("* * * * *", catch_up="skip")
async def sweep_platform(tick: Tick, process: Process, signer: AuditSigner) -> None:
    """Seal the platform's own records."""
    await log.seal_all(process, PLATFORM, signer)
