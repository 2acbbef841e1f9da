"""One call of a function, from its first byte to its last."""

from __future__ import annotations

import time
from contextvars import ContextVar
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any

from shared.identity import Caller
from shared.ids import RequestId, TenantId

if TYPE_CHECKING:
    from starlette.requests import Request

    from shared.events import CloudEvent
    from shared.function.declaration import Operation
    from shared.function.process import Process
    from shared.function.transaction import ManagedTransaction


@dataclass(frozen=True)
class Tick:
    """A schedule has come due: `nominal` is the time it was due (aware, UTC), however late it is delivered."""

    schedule: str
    nominal: datetime


@dataclass(slots=True)
class Call:
    """What is known of a call. Handlers that need more than their parameters may ask for it by type."""

    process: Process
    function: str
    operation: Operation
    request_id: RequestId
    traceparent: str
    caller: Caller
    request: Request | None = None
    event: CloudEvent | None = None
    transaction: ManagedTransaction | None = None
    credential: str = field(default="", repr=False)
    """In a process of one tenant: the token with which the pooled function handed the call on."""
    received_trace: str = ""
    """The trace context that its caller sent; `traceparent` is what is passed on."""
    audit_tenant: TenantId | None = None
    audit_resource: str = ""
    audit_details: dict[str, Any] = field(default_factory=dict)  # Any: JSON, checked when made canonical
    started: float = field(default_factory=time.perf_counter)
    """By `time.perf_counter`."""

    @property
    def name(self) -> str:
        """`knowledge-search.search_documents`: the operation's name in logs, audit records and OpenAPI."""
        return f"{self.function}.{self.operation.name}"

    def note(self, *, resource: str = "", tenant: TenantId | None = None, **details: object) -> None:
        """Say more in this call's audit record than its path tells: what came to be or changed, and in whose log."""
        self.audit_resource = resource or self.audit_resource
        self.audit_tenant = tenant or self.audit_tenant
        self.audit_details.update(details)


current_call: ContextVar[Call] = ContextVar("dcoder_call")
