"""The way into every operation: limits, identity, tenant, permission; and out of it: audit, commit, telemetry.

One ASGI app in front of each route's own. What it refuses never reaches the handler; what the handler changed is
answered for only once it is committed.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from shared.access import permitted
from shared.errors import (
    DeadlineExceeded,
    Fault,
    Forbidden,
    Invalid,
    Malformed,
    NotFound,
    Problem,
    TooLarge,
    Unauthenticated,
    Unavailable,
    UnsupportedMediaType,
)
from shared.function import body, idempotency, problems
from shared.function.call import Call, current_call
from shared.function.forwarding import Forwarder, elsewhere, may_be_elsewhere, target_of
from shared.function.head import Head, read_head
from shared.function.injection import hints_of
from shared.function.tenants import database_of
from shared.function.transaction import ManagedTransaction
from shared.identity import Caller, Identity, TokenVerifier
from shared.ids import PLATFORM, RequestId, TenantId
from shared.telemetry import CallRecord, log, traceparent

if TYPE_CHECKING:
    from starlette.types import ASGIApp, Message, Receive, Scope, Send

    from shared.function.catalog import Deployable
    from shared.function.declaration import Operation, Route
    from shared.function.process import Process

WAITING_PER_SLOT = 10  # as queue-proxy: beyond ten times the concurrency a call is refused, not queued
HELD_BYTES_MAX = 4 * 1024 * 1024
UNSTORABLE = frozenset({"22021", "22P05", "22P02"})
"""PostgreSQL's codes for U+0000 in a text and in JSON, and for a lone surrogate in JSON."""
NOBODY = Caller(PLATFORM, "anonymous", "none", "key")


class Slots:
    """How many calls one function handles at once in this process. Ten times as many may wait; more are refused.

    A block's way in and out; a class and no generator, as every call passes here.
    """

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._semaphore = asyncio.Semaphore(concurrency)
        self._waiting = 0

    async def __aenter__(self) -> None:
        if not self._semaphore.locked():
            await self._semaphore.acquire()
            return
        if self._waiting >= self._concurrency * WAITING_PER_SLOT:
            raise Unavailable(f"{self._waiting} calls are waiting already", retry_after_s=2)
        self._waiting += 1
        try:
            await self._semaphore.acquire()
        finally:
            self._waiting -= 1

    async def __aexit__(self, *ended: object) -> None:
        self._semaphore.release()


SlotsOf = Mapping[str, Slots]


def slots_of(concurrency: int) -> SlotsOf:
    """A function's slots by the kind of its caller. Other functions have as many of their own: if a call from outside
    asks a function that asks this one again (a model over the documents, whose answer a model writes), callers from
    outside could otherwise hold every slot and all wait for one."""
    outside, nested = Slots(concurrency), Slots(concurrency)
    return {"key": outside, "hook": outside, "event": outside, "function": nested}


class HeldAnswer:
    """A changing call's answer, kept back until its effect is committed."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self._bytes = 0

    async def __call__(self, message: Message) -> None:
        self._bytes += len(message.get("body", b""))
        if self._bytes > HELD_BYTES_MAX:
            raise Fault("a changing operation answered with more than 4 MiB; declare it as reading, or answer less")
        self.messages.append(message)

    @property
    def status(self) -> int:
        return int(self.messages[0]["status"]) if self.messages else 500


class Outgoing:
    """`send`, with our headers on the first message and the status kept."""

    __slots__ = ("_headers", "_send", "status")

    def __init__(self, send: Send, headers: list[tuple[bytes, bytes]]) -> None:
        self._send = send
        self._headers = headers
        self.status = 0

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = [*message.get("headers", ()), *self._headers]
        await self._send(message)


class Admission:
    """The ASGI app in front of one operation."""

    def __init__(
        self, inner: ASGIApp, deployable: Deployable, operation: Operation, *, process: Process, slots: SlotsOf
    ) -> None:
        assert hasattr(operation.trigger, "permission")
        self.route: Route = operation.trigger  # type: ignore[assignment]  # narrowed by the line above
        self._inner = inner
        self._deployable = deployable
        self._operation = operation
        self._process = process
        self._slots = slots
        self._body_bytes_max = self.route.body_bytes_max or deployable.function.body_bytes_max
        self._control = wants_control(operation)
        self._takes_json = takes_json(operation)
        self._asks = may_be_elsewhere(process, deployable)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        call = Call(self._process, self._deployable.name, self._operation, RequestId(""), "", NOBODY)
        outgoing = Outgoing(send, [])
        token = current_call.set(call)
        try:
            with self._process.in_flight:
                await self._answer(call, scope, receive, outgoing)
        finally:
            current_call.reset(token)
            self._observe(call, outgoing.status)

    async def _answer(self, call: Call, scope: Scope, receive: Receive, outgoing: Outgoing) -> None:
        problem: Problem
        try:
            await self._admitted(call, scope, receive, outgoing)
            return
        except Problem as raised:
            problem = raised
        except Exception as raised:  # noqa: BLE001  the runtime's edge: the caller gets an id, the log the rest
            problem = self._fault(call, raised)
        if outgoing.status:
            log("answer_cut", call=call.name, request_id=call.request_id, error=problem.code)
            raise problem  # the server closes the connection, so that the client sees the cut
        if problem.status in (401, 403) or (problem.status == 404 and isinstance(problem, OtherTenant)):
            # Whoever shows no key chooses no text for the log: the route's path, not the one that was asked for.
            await self._deny(call, problem, self.route.path if problem.status == 401 else scope["path"])
        for message in problems.messages(
            problem, dialect=self._deployable.function.dialect, request_id=call.request_id, path=scope["path"]
        ):
            await outgoing(message)

    async def _admitted(self, call: Call, scope: Scope, receive: Receive, outgoing: Outgoing) -> None:
        head = read_head(scope["headers"])
        call.request_id = RequestId(head.request_id or os.urandom(16).hex())
        call.received_trace, call.traceparent = head.traceparent, traceparent(head.traceparent)
        outgoing._headers.append((b"x-request-id", call.request_id.encode()))
        timeout_s = self._deployable.function.timeout_s
        try:
            async with asyncio.timeout(timeout_s) as limit:
                await self._admit(call, head)
                receive = body.bounded(receive, self._body_bytes_max)
                if address := await self._elsewhere(call.caller):
                    forwarder = await self._process.get(Forwarder)
                    await forwarder.app(address, call, target_of(self._deployable))(scope, receive, outgoing)
                    return
                async with self._slots[call.caller.kind]:
                    if self.route.changes:
                        await self._change(call, head, scope, receive, outgoing)
                    else:
                        await self._inner(scope, receive, outgoing)
        except TimeoutError as late:
            if limit.expired():
                raise DeadlineExceeded(f"{call.name} took longer than its {timeout_s} s") from late
            raise

    async def _admit(self, call: Call, head: Head) -> None:
        if not head.credential:
            raise Unauthenticated("send a virtual key as `Authorization: Bearer dck_…`")
        call.caller = await self._caller(call, head.credential)
        if not permitted(call.caller, self.route.permission):
            raise Forbidden(
                f"{call.caller.subject} as {call.caller.role!r} has no permission {self.route.permission!r}"
            )
        if head.content_length > self._body_bytes_max:
            raise TooLarge(f"the body has {head.content_length} bytes; {call.name} takes {self._body_bytes_max}")
        if self._takes_json and not (head.content_type == "application/json" or head.content_type.endswith("+json")):
            raise UnsupportedMediaType(
                f"send application/json, not {head.content_type[:80] or 'a body without a type'!r}"
            )

    async def _caller(self, call: Call, credential: str) -> Caller:
        """Who calls. A process of one tenant knows only whom the pooled function handed on to it."""
        dedicated = TenantId(self._process.settings.dedicated_tenant)
        if not dedicated:
            identity = self._process.opened(Identity)
            if identity is None:
                identity = await self._process.get(Identity)
            return await identity.caller(credential, audience=self._deployable.name)
        verifier = await self._process.get(TokenVerifier)
        caller = verifier.verify_forwarded(credential, tenant=dedicated, function=self._deployable.name)
        if caller.tenant != dedicated:
            raise OtherTenant("there is nothing here for this tenant")
        call.credential = credential
        return caller

    async def _elsewhere(self, caller: Caller) -> str | None:
        """The process that serves this tenant alone, when there is one."""
        return await elsewhere(self._process, caller.tenant, self._deployable) if self._asks else None

    async def _change(self, call: Call, head: Head, scope: Scope, receive: Receive, outgoing: Outgoing) -> None:
        call.transaction = ManagedTransaction(await self._database(call.caller))
        try:
            answer = await self._changed(call, head, scope, receive)
        except BaseException as failure:
            await call.transaction.roll_back(failure)
            raise
        for message in answer:
            await outgoing(message)

    async def _changed(self, call: Call, head: Head, scope: Scope, receive: Receive) -> list[Message]:
        assert call.transaction is not None
        if not head.idempotency_key:
            return await self._effected(call, scope, receive, None)
        async with body.kept(receive) as kept:
            use = self._claim(call, head, scope, kept.digest)
            saved = await idempotency.take(await call.transaction.begin(), use)
            if saved is None:
                return await self._effected(call, scope, kept.receive, use)
        await call.transaction.roll_back(Replayed())
        return saved

    async def _effected(
        self, call: Call, scope: Scope, receive: Receive, use: idempotency.Claim | None
    ) -> list[Message]:
        held = HeldAnswer()
        await self._inner(scope, receive, held)
        await self._settle(call, held, use, scope["path"])
        return held.messages

    async def _settle(self, call: Call, held: HeldAnswer, use: idempotency.Claim | None, path: str) -> None:
        """Commit the effect with its audit record and its saved answer, or nothing at all."""
        assert call.transaction is not None
        if held.status >= 400:
            await call.transaction.roll_back(Refused())
            return
        transaction = await call.transaction.begin()
        if not transaction.audited:
            await transaction.audit(
                call.name,
                call.audit_resource or path,
                actor=call.caller.subject,
                tenant=call.audit_tenant or call.caller.tenant,
                details={"request_id": call.request_id, **call.audit_details},
            )
        if use is not None:
            await idempotency.keep(transaction, use, held.messages, shown_once=self.route.shown_once)
        await call.transaction.commit()

    def _claim(self, call: Call, head: Head, scope: Scope, digest: bytes) -> idempotency.Claim:
        target = f"{scope['method']} {scope['path']}?{scope['query_string'].decode('latin-1')}"
        return idempotency.claim(
            tenant=call.caller.tenant, operation=call.name, key=head.idempotency_key, target=target, body=digest
        )

    async def _database(self, caller: Caller) -> Any:  # Any: either of the two database types
        from shared.postgres import ControlDatabase

        if self._control or caller.tenant == PLATFORM:
            return await self._process.get(ControlDatabase)
        return await database_of(self._process, caller.tenant)

    async def _deny(self, call: Call, problem: Problem, path: str) -> None:
        from shared.function.denials import Denial, deny

        denied = Denial(call.caller.tenant, call.caller.subject, call.name, path, problem.code)
        await deny(self._process, denied)

    def _fault(self, call: Call, raised: Exception) -> Problem:
        translated = translate(raised)
        if translated is not None:
            return translated
        import traceback

        trace = "".join(traceback.format_exception(raised))[-4000:]
        log("fault", call=call.name, request_id=call.request_id, error=repr(raised), trace=trace)
        return Fault(f"{call.name} failed; the log has it under request id {call.request_id}")

    def _observe(self, call: Call, status: int) -> None:
        if not self._process.observers:
            return
        record = CallRecord(
            call.name, self.route.method, self.route.path, call.caller.tenant, status,
            (time.perf_counter() - call.started) * 1000, time.time_ns(), call.request_id, call.traceparent,
            call.received_trace,
        )  # fmt: skip
        for observer in self._process.observers:
            observer(record)


class OtherTenant(NotFound):
    """A dedicated function was called for another tenant: answered as unknown, audited as denied."""


class Refused(Exception):
    """Why a transaction is rolled back: the handler answered with an error."""


class Replayed(Exception):
    """Why a transaction is rolled back: the answer was saved by an earlier call."""


def wants_control(operation: Operation) -> bool:
    """Whether the handler's own transaction is on the control database."""
    from shared.postgres import ControlTransaction

    return ControlTransaction in hints_of(operation.handler).values()


def takes_json(operation: Operation) -> bool:
    """Whether the handler has a pydantic model for its body."""
    from pydantic import BaseModel

    hints = hints_of(operation.handler)
    return any(
        isinstance(hint, type) and issubclass(hint, BaseModel) for name, hint in hints.items() if name != "return"
    )


def translate(raised: Exception) -> Problem | None:
    """Starlette's refusals as ours, a text that PostgreSQL cannot hold as the caller's fault, and a store that is away
    (refused, reset, lost in mid-call) as 503."""
    from starlette.exceptions import HTTPException
    from starlette.requests import ClientDisconnect

    if isinstance(raised, HTTPException):
        return problems.from_http_exception(raised)
    if isinstance(raised, ClientDisconnect):
        return Malformed("the body ended before it was complete")
    if getattr(raised, "sqlstate", "") in UNSTORABLE or isinstance(raised.__cause__, UnicodeEncodeError):
        return Invalid("a text holds U+0000 or a lone surrogate, which cannot be stored")
    if isinstance(raised, ConnectionError | OSError):
        return Unavailable("a store that this call needs is not reachable; `dcoder doctor` says which", retry_after_s=2)
    return None
