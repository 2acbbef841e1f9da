"""Delivery: takes events from the stream and posts them to the functions that asked for them, as a broker would.

Each function has one durable consumer. 2xx is done; 408, 425, 429, 5xx and no answer are tried again, later each time;
any other status, or the last attempt, makes a dead letter, but 401 makes none: the event is not ours. A message is
acknowledged only when its outcome is on disk somewhere, so whatever dies here is delivered again.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from contextlib import suppress
from typing import TYPE_CHECKING

from shared.errors import Problem, Unauthenticated, Unavailable
from shared.events.cloudevent import CloudEvent
from shared.events.dead_letters import bury
from shared.events.http import to_http
from shared.events.stream import BYTES_MAX, STREAM, connect, ensure_stream
from shared.host.fairness import TenantQueue
from shared.host.subscriptions import Retry, Subscription, retry_after_s, verdict
from shared.telemetry import log

if TYPE_CHECKING:
    import httpx
    from nats.aio.client import Client
    from nats.aio.msg import Msg
    from nats.js.client import JetStreamContext

    from shared.postgres import ControlDatabase

HELD_MAX = 1000
"""Messages of one function in memory; beyond that a flooding tenant does hold others up."""
FETCH_MAX = 100
FETCH_S = 5.0
ACK_WAIT_S = 20.0
"""A killed host's messages come again after this long. A running one says `in progress` well before."""
PROGRESS_S = 6.0
PAUSE_S = 1.0
TRIM_S = 60.0
ANSWER_GRACE_S = 5.0
CRASHES_MAX = 5
"""Deliveries beyond the attempts, which ended without an answer: the event kills whoever handles it."""


class Delivery:
    """Delivers to every function of `subscriptions` until it is cancelled, then finishes what is in flight."""

    def __init__(
        self,
        nats_url: str,
        control: ControlDatabase,
        subscriptions: Sequence[Subscription],
        *,
        retry: Retry | None = None,
        grace_s: float = 5.0,
    ) -> None:
        self._nats_url = nats_url
        self._control = control
        self._subscriptions = subscriptions
        self._retry = retry or Retry()
        self._grace_s = grace_s

    async def run(self) -> None:
        """Deliver. NATS may be away at any time; work goes on when it is back."""
        import httpx

        connection = await self._connected()
        stream = connection.jetstream(timeout=3.0)
        limits = httpx.Limits(max_connections=200, max_keepalive_connections=20)
        async with httpx.AsyncClient(limits=limits, follow_redirects=False, trust_env=False) as client:
            consumers = [
                Consumer(one, stream, client, self._control, self._retry, self._grace_s) for one in self._subscriptions
            ]
            try:
                async with asyncio.TaskGroup() as tasks:
                    tasks.create_task(trim_for_ever(stream))
                    for consumer in consumers:
                        tasks.create_task(consumer.run(), name=f"deliver-{consumer.subscription.function}")
            finally:
                with suppress(Exception):  # the server may be gone, and its messages come again
                    await asyncio.wait_for(connection.drain(), self._grace_s)

    async def _connected(self) -> Client:
        while True:
            try:
                return await connect(self._nats_url)
            except Unavailable as failure:
                log("delivery_waits", error=failure.detail)
                await asyncio.sleep(PAUSE_S)


class Consumer:
    """One function's deliveries: a bounded number at once, of which no tenant takes more than its share."""

    def __init__(
        self,
        subscription: Subscription,
        stream: JetStreamContext,
        client: httpx.AsyncClient,
        control: ControlDatabase,
        retry: Retry,
        grace_s: float,
    ) -> None:
        self.subscription = subscription
        self._stream = stream
        self._client = client
        self._control = control
        self._retry = retry
        self._grace_s = grace_s
        self._queue: TenantQueue[Msg] = TenantQueue(subscription.concurrency)
        self._held: dict[int, Msg] = {}
        self._running: set[asyncio.Task[None]] = set()
        self._freed = asyncio.Event()

    async def run(self) -> None:
        """Consume until cancelled; what is in flight then has `grace_s` to end, the rest goes back to the stream."""
        progress = asyncio.create_task(self._report_progress())
        consuming = asyncio.create_task(self._consume_for_ever())
        try:
            await asyncio.wait({consuming})
        finally:
            while not consuming.done():  # `asyncio.wait_for`, which NATS's client uses, can lose a cancellation
                consuming.cancel()
                await asyncio.wait({consuming}, timeout=0.5)
            await self._stop()
            progress.cancel()

    async def _consume_for_ever(self) -> None:
        while True:
            await self._consume_until_failure()
            await asyncio.sleep(PAUSE_S)

    async def _consume_until_failure(self) -> None:
        import nats.errors

        try:
            await ensure_stream(self._stream)
            await self._ensure_consumer()
            await self._consume()
        except (nats.errors.Error, OSError, TimeoutError) as failure:
            log("delivery_interrupted", function=self.subscription.function, error=repr(failure))

    async def _ensure_consumer(self) -> None:
        """Create the durable, or bring an existing one to this configuration, which subscribing alone never does."""
        from nats.js.api import AckPolicy, ConsumerConfig, DeliverPolicy

        await self._stream.add_consumer(
            STREAM,
            ConsumerConfig(
                durable_name=self.subscription.function,
                filter_subjects=list(self.subscription.filters),
                deliver_policy=DeliverPolicy.ALL,
                ack_policy=AckPolicy.EXPLICIT,
                ack_wait=ACK_WAIT_S,
                max_deliver=-1,
                max_ack_pending=HELD_MAX * 4,  # messages that back off count too and must not stop the others
            ),
        )

    async def _consume(self) -> None:
        subscribed = await self._stream.pull_subscribe_bind(self.subscription.function, STREAM)
        try:
            while True:
                while len(self._held) >= HELD_MAX:
                    self._freed.clear()
                    await self._freed.wait()
                room = min(FETCH_MAX, HELD_MAX - len(self._held))
                with suppress(TimeoutError):  # nothing came
                    for message in await subscribed.fetch(room, timeout=FETCH_S):
                        self._accept(message)
        finally:
            with suppress(Exception):  # the connection may be gone
                await subscribed.unsubscribe()

    def _accept(self, message: Msg) -> None:
        sequence = message.metadata.sequence.stream
        if sequence in self._held:  # delivered again while we hold it: the progress report was late
            self._held[sequence] = message
            return
        self._held[sequence] = message
        self._queue.push(tenant_of(message), message)
        self._dispatch()

    def _dispatch(self) -> None:
        while (taken := self._queue.take()) is not None:
            task = asyncio.create_task(self._deliver(*taken))
            self._running.add(task)
            task.add_done_callback(self._running.discard)

    async def _deliver(self, tenant: str, message: Msg) -> None:
        try:
            await self._settle(message)
        except Exception as failure:  # noqa: BLE001  nobody awaits this task; unacknowledged, the message comes again
            log("delivery_failed", function=self.subscription.function, error=repr(failure))
        finally:
            self._held.pop(message.metadata.sequence.stream, None)
            self._queue.done(tenant)
            self._freed.set()
            self._dispatch()

    async def _settle(self, message: Msg) -> None:
        attempts = message.metadata.num_delivered
        try:
            event = CloudEvent.from_json(message.data)
        except Problem as flaw:
            log("event_unreadable", function=self.subscription.function, subject=message.subject, error=flaw.detail)
            await message.term()
            return
        if attempts > self._retry.attempts_max + CRASHES_MAX:
            await self._give_up(message, event, "delivered again and again without an answer", None)
            return
        status, wait_s = await self._post(event)
        if status == Unauthenticated.status:
            await self._forged(message, event)
            return
        outcome = verdict(status)
        if outcome == "done":
            await message.ack()
        elif outcome == "never" or attempts >= self._retry.attempts_max:
            said = f"answered {status}" if status else "did not answer"
            await self._give_up(message, event, f"{self.subscription.function} {said}", status)
        else:
            delay_s = max(wait_s, self._retry.delay_s(attempts, random.random()))  # noqa: S311  jitter
            log("event_delayed", function=self.subscription.function, event_id=event.id, status=status, delay_s=delay_s)
            await message.nak(delay=delay_s)

    async def _forged(self, message: Msg, event: CloudEvent) -> None:
        """Drop what we did not sign: a dead letter of it could be re-driven, and what is re-driven gets our signature.
        The function's refusal is in the audit log."""
        log("event_forged", function=self.subscription.function, event_id=event.id)
        await message.term()

    async def _give_up(self, message: Msg, event: CloudEvent, reason: str, status: int | None) -> None:
        """Acknowledge only once the dead letter is written; until then the message stays with the stream."""
        function, attempts = self.subscription.function, message.metadata.num_delivered
        try:
            await bury(self._control, event, function=function, reason=reason, attempts=attempts, last_status=status)
        except Exception as failure:  # noqa: BLE001  whatever kept it from being written, the message must stay
            log("dead_letter_not_written", function=function, event_id=event.id, error=repr(failure))
            await message.nak(delay=self._retry.delay_s(self._retry.attempts_max, 0.5))
            return
        log("event_buried", function=function, event_id=event.id, reason=reason)
        await message.ack()

    async def _post(self, event: CloudEvent) -> tuple[int | None, float]:
        """The answer's status and how long it asks to wait; None when there was no answer."""
        import httpx

        headers, body = to_http(event)
        timeout = httpx.Timeout(self.subscription.timeout_s + ANSWER_GRACE_S, connect=2.0)
        try:
            answer = await self._client.post(self.subscription.url, headers=headers, content=body, timeout=timeout)
        except httpx.HTTPError as failure:
            log("function_silent", function=self.subscription.function, event_id=event.id, error=repr(failure))
            return None, 0.0
        return answer.status_code, retry_after_s(answer.headers.get("retry-after", ""), self._retry.delay_s_max)

    async def _report_progress(self) -> None:
        while True:
            await asyncio.sleep(PROGRESS_S)
            for message in list(self._held.values()):
                with suppress(Exception):  # without a connection the message comes again, which is harmless
                    await message.in_progress()

    async def _stop(self) -> None:
        self._queue.close()
        if self._running:
            await asyncio.wait(set(self._running), timeout=self._grace_s)
        for task in self._running:
            task.cancel()
        for message in list(self._held.values()):
            with suppress(Exception):  # without a connection the message comes again after `ACK_WAIT_S`
                await message.nak()


def tenant_of(message: Msg) -> str:
    return message.subject.split(".", 2)[1]


async def trim_for_ever(stream: JetStreamContext) -> None:
    """Drop what every function has acknowledged once the stream is half full: a full one refuses new events."""
    import nats.errors

    while True:
        await asyncio.sleep(TRIM_S)
        with suppress(nats.errors.Error, OSError, TimeoutError):
            await trim(stream, bytes_max=BYTES_MAX // 2)


async def trim(stream: JetStreamContext, *, bytes_max: int) -> None:
    """Purge up to the lowest acknowledged message when the stream holds more than `bytes_max`."""
    if (await stream.stream_info(STREAM)).state.bytes <= bytes_max:
        return
    floors = [
        consumer.ack_floor.stream_seq
        for consumer in await stream.consumers_info(STREAM)
        if consumer.ack_floor is not None
    ]
    if floors and min(floors) > 0:
        await stream.purge_stream(STREAM, seq=min(floors) + 1)
