"""CloudEvents in: binary, structured or batch, verified, dispatched to the operations that asked for them.

The answer is one of three, and means the same at every broker: 204 done; 503 or 429 try again; 204 and a dead
letter for what will never succeed.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from shared.errors import Busy, DeadlineExceeded, Malformed, Problem, Refusal, Unauthenticated, Unavailable
from shared.events import CloudEvent, ObjectEvent, from_http
from shared.events.dead_letters import PATH as DEAD_LETTERS
from shared.events.dead_letters import Undelivered, undelivered
from shared.events.subjects import MINUTE_PASSED, SCHEDULE_DUE
from shared.function import body, problems
from shared.function.admission import NOBODY, SlotsOf, translate
from shared.function.call import Call, Tick, current_call
from shared.function.declaration import (
    DeadLettered,
    DomainEvent,
    Every,
    Minute,
    ObjectCreated,
    ObjectRemoved,
    Operation,
)
from shared.function.denials import Denial, deny
from shared.function.forwarding import EventRefused, Forwarder, elsewhere, may_be_elsewhere, target_of
from shared.function.head import Head, read_head
from shared.function.injection import Injected
from shared.function.transaction import ManagedTransaction
from shared.identity import Caller, Tokens, TokenVerifier
from shared.ids import PLATFORM, RequestId
from shared.telemetry import log, traceparent

if TYPE_CHECKING:
    from starlette.types import Message, Receive, Scope, Send

    from shared.function.catalog import Deployable
    from shared.function.process import Process

EVENT_BYTES_MAX = 1024 * 1024
RECEIVE_S_MAX = 30.0


class Deliveries:
    """The ASGI app behind `POST /events/<function>`, `/dead-letters/<function>` and, on a Service of its own, `/`."""

    def __init__(self, deployables: Sequence[Deployable], process: Process, slots: Mapping[str, SlotsOf]) -> None:
        self._deployables = [deployable for deployable in deployables if deployable.takes_events]
        self._process = process
        self._slots = slots
        self._asks = {one.name for one in self._deployables if may_be_elsewhere(process, one)}
        self._handlers = {
            operation.handler: Injected(operation.handler)
            for deployable in self._deployables
            for operation in deployable.function.operations
            if not hasattr(operation.trigger, "permission")
        }

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        head = Head()
        try:
            head = read_head(scope["headers"])
            for event in await self._received(scope, receive):
                await self._deliver(event, head, scope["path"])
            answer: list[Message] = [
                {"type": "http.response.start", "status": 204, "headers": []},
                {"type": "http.response.body", "body": b""},
            ]
        except Exception as raised:
            problem = raised if isinstance(raised, Problem) else translate(raised)
            if problem is None:
                raise
            if isinstance(problem, Unauthenticated):
                denied = Denial(NOBODY.tenant, NOBODY.subject, "events.deliver", scope["path"], problem.code)
                await deny(self._process, denied)
            answer = problems.messages(problem, dialect="problem", request_id=head.request_id, path=scope["path"])
        with self._process.in_flight:
            for message in answer:
                await send(message)

    async def _received(self, scope: Scope, receive: Receive) -> list[CloudEvent]:
        """The request's events, each with a token that fits it. Who sends them slowly is not waited for."""
        try:
            async with asyncio.timeout(RECEIVE_S_MAX):
                content = await body.whole(body.bounded(receive, EVENT_BYTES_MAX))
        except TimeoutError as late:
            raise DeadlineExceeded(f"the event did not arrive within {RECEIVE_S_MAX:.0f} s") from late
        events = from_http(dict(scope["headers"]), content)
        await self._verify(events)
        return events

    async def _verify(self, events: Sequence[CloudEvent]) -> None:
        dedicated = self._process.settings.dedicated_tenant
        verifier = await self._process.get(TokenVerifier) if dedicated else (await self._process.get(Tokens)).verifier
        for event in events:
            if event.type != MINUTE_PASSED:  # which gives no authority: only `Minute` operations get to know of it
                verifier.verify_event(event)
            if dedicated and event.tenant != dedicated:
                raise Unauthenticated("there is nothing here for this tenant")

    async def _deliver(self, event: CloudEvent, head: Head, path: str) -> None:
        if path.startswith(DEAD_LETTERS):
            gone = undelivered(path, event)
            for deployable, operation in self._operations():
                if isinstance(operation.trigger, DeadLettered):
                    await self._handle(deployable, operation, event, head, {Undelivered: gone})
            return
        only = path.removeprefix("/events/")
        for deployable in self._deployables:
            wanted = [one for one in deployable.function.operations if subscribed(deployable.name, one, event)]
            if only not in ("/", deployable.name) or not wanted:
                continue
            if address := await self._elsewhere(event, deployable):
                await self._hand_on(address, event, deployable, traceparent(head.traceparent))
                continue
            for operation in wanted:
                await self._handle(deployable, operation, event, head, payload(operation, event))

    async def _elsewhere(self, event: CloudEvent, deployable: Deployable) -> str | None:
        """The process that serves the event's tenant alone, when there is one."""
        asks = deployable.name in self._asks
        return await elsewhere(self._process, event.tenant, deployable) if asks else None

    async def _hand_on(self, address: str, event: CloudEvent, deployable: Deployable, trace: str) -> None:
        forwarder = await self._process.get(Forwarder)
        try:
            await forwarder.deliver(address, event, target_of(deployable), trace=trace)
        except EventRefused as refused:
            await self._bury(deployable.name, event, refused.detail)

    def _operations(self) -> Iterator[tuple[Deployable, Operation]]:
        for deployable in self._deployables:
            for operation in deployable.function.operations:
                yield deployable, operation

    async def _handle(
        self, deployable: Deployable, operation: Operation, event: CloudEvent, head: Head, given: Mapping[type, object]
    ) -> None:
        caller = Caller(event.tenant, f"event:{event.id}"[:120], "system", "function")
        trace = traceparent(head.traceparent)
        call = Call(self._process, deployable.name, operation, RequestId(event.id), trace, caller, event=event)
        call.credential = head.credential
        started = time.perf_counter()
        token = current_call.set(call)
        try:
            with self._process.in_flight:
                async with asyncio.timeout(deployable.function.timeout_s), self._slots[deployable.name]["event"]:
                    await self._run(call, given)
        except Refusal as refusal:
            said = f"{refusal.code}: {refusal.detail}"
            if self._process.settings.dedicated_tenant:  # which has no place for the dead: who handed it on keeps it
                raise EventRefused(said) from refusal
            await self._bury(call.function, event, said)
        except Busy as busy:
            log("event_delayed", call=call.name, event_id=event.id, error=f"{busy.code}: {busy.detail}")
            raise
        except Exception as failure:
            log("event_failed", call=call.name, event_id=event.id, error=repr(failure))
            raise Unavailable(f"{call.name} could not handle event {event.id!r} now", retry_after_s=1) from failure
        finally:
            current_call.reset(token)
            log("event_handled", call=call.name, event_id=event.id, ms=round((time.perf_counter() - started) * 1000, 1))

    async def _run(self, call: Call, given: Mapping[type, object]) -> None:
        """Run the handler; with a transaction of the runtime's, mark the event handled in that same transaction."""
        assert call.event is not None
        injected = self._handlers[call.operation.handler]
        values = await injected.values(call, {CloudEvent: call.event, **given})
        if call.transaction is None:
            await call.operation.handler(**values)
            return
        await self._run_once(call, call.transaction, values)

    async def _run_once(self, call: Call, managed: ManagedTransaction, values: dict[str, Any]) -> None:
        assert call.event is not None
        try:
            transaction = await managed.begin()
            if await transaction.first_time(call.name, call.event.id):
                await call.operation.handler(**values)
        except BaseException as failure:
            await managed.roll_back(failure)
            raise
        await managed.commit()

    async def _bury(self, function: str, event: CloudEvent, reason: str) -> None:
        """Store what will never succeed as a dead letter. If that fails, the event stays with the broker."""
        from shared.events.dead_letters import bury
        from shared.postgres import ControlDatabase

        control = await self._process.get(ControlDatabase)
        await bury(control, event, function=function, reason=reason, attempts=1)
        log("event_buried", function=function, event_id=event.id, reason=reason[:200])


def subscribed(function: str, operation: Operation, event: CloudEvent) -> bool:
    """Whether this operation asked for this event."""
    trigger = operation.trigger
    if event.type == MINUTE_PASSED:
        return isinstance(trigger, Minute)
    if isinstance(trigger, DomainEvent):
        return event.type == trigger.type
    if isinstance(trigger, ObjectCreated):
        return event.type.startswith("com.amazonaws.s3.ObjectCreated:") and event.subject.startswith(
            f"{trigger.prefix}/"
        )
    if isinstance(trigger, ObjectRemoved):
        return event.type.startswith("com.amazonaws.s3.ObjectRemoved:") and event.subject.startswith(
            f"{trigger.prefix}/"
        )
    if isinstance(trigger, Every) and event.type == SCHEDULE_DUE and isinstance(event.data, dict):
        if trigger.per == "platform" and event.tenant != PLATFORM:
            return False
        return event.data.get("function") == function and event.data.get("operation") == operation.name
    return False


def payload(operation: Operation, event: CloudEvent) -> dict[type, object]:
    """The event in the form that the trigger promises: an object's, or a schedule's tick."""
    if isinstance(operation.trigger, ObjectCreated | ObjectRemoved):
        return {ObjectEvent: ObjectEvent.of(event)}
    if isinstance(operation.trigger, Every):
        return {Tick: tick(event)}
    return {}


def tick(event: CloudEvent) -> Tick:
    from datetime import datetime

    data = event.data
    if not isinstance(data, dict) or not isinstance(data.get("nominal"), str):
        raise Malformed(f"event {event.id!r} of type {event.type!r} has no nominal time")
    return Tick(f"{data['function']}.{data['operation']}", datetime.fromisoformat(data["nominal"]))
