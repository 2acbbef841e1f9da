"""The JetStream stream that carries every event, and publishing to it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from shared.errors import TooLarge, Unavailable
from shared.events.cloudevent import CloudEvent
from shared.events.http import BODY_BYTES_MAX
from shared.events.publishing import whole
from shared.events.subjects import ROOT, message_id, subject_of
from shared.ids import TenantId
from shared.telemetry import log

if TYPE_CHECKING:
    from nats.aio.client import Client
    from nats.js.client import JetStreamContext

STREAM = "DCODER_EVENTS"
AGE_S_MAX = 7 * 24 * 3600.0
BYTES_MAX = 1024 * 1024 * 1024
DUPLICATES_S = 600.0  # longer than a relay's crash, restart and sweep
MESSAGE_BYTES_MAX = BODY_BYTES_MAX
CONNECT_TIMEOUT_S = 3.0
PUBLISH_TIMEOUT_S = 3.0
RECONNECT_WAIT_S = 0.25
NAME_IN_USE = 10058


async def connect(url: str) -> Client:
    """A connection that comes back by itself. Raises `Unavailable` when the first attempt fails."""
    import nats

    async def noted(failure: Exception) -> None:
        log("nats_failed", error=repr(failure))

    try:
        return await asyncio.wait_for(
            nats.connect(
                url,
                name="dcoder",
                connect_timeout=2,
                max_reconnect_attempts=-1,
                reconnect_time_wait=RECONNECT_WAIT_S,
                error_cb=noted,
            ),
            CONNECT_TIMEOUT_S,
        )
    except (OSError, TimeoutError, nats.errors.Error) as failure:
        raise Unavailable(f"the event stream does not answer: {type(failure).__name__}") from failure


@asynccontextmanager
async def translated_failures() -> AsyncIterator[None]:
    """NATS's errors as ours."""
    import nats.errors

    try:
        yield
    except nats.errors.MaxPayloadError as failure:
        raise TooLarge("the event is larger than the stream takes") from failure
    except (nats.errors.Error, TimeoutError, OSError) as failure:
        raise Unavailable(f"the event stream refused: {type(failure).__name__} {failure}") from failure


async def ensure_stream(stream: JetStreamContext) -> None:
    """Create the stream, or bring an existing one to this configuration.

    A full stream refuses new events, which then wait in their outboxes, instead of dropping undelivered ones;
    the delivery trims what every function has acknowledged.
    """
    from nats.js.api import DiscardPolicy, RetentionPolicy, StorageType, StreamConfig
    from nats.js.errors import BadRequestError

    config = StreamConfig(
        name=STREAM,
        subjects=[f"{ROOT}.>"],
        retention=RetentionPolicy.LIMITS,
        storage=StorageType.FILE,
        discard=DiscardPolicy.NEW,
        max_age=AGE_S_MAX,
        max_bytes=BYTES_MAX,
        max_msg_size=MESSAGE_BYTES_MAX * 2,
        duplicate_window=DUPLICATES_S,
    )
    try:
        await stream.add_stream(config)
    except BadRequestError as refusal:
        if refusal.err_code != NAME_IN_USE:
            raise
        await stream.update_stream(config)


class Stream:
    """Carries events over NATS JetStream."""

    def __init__(self, nats_url: str) -> None:
        self._url = nats_url
        self._opening = asyncio.Lock()
        self._connection: Client | None = None
        self._stream: JetStreamContext | None = None

    async def store(self, event: CloudEvent) -> bool:
        """Store the event on the stream; False when the stream holds it already. Raises `Unavailable`, `TooLarge`."""
        async with translated_failures():
            stream = await self._opened()
            headers, body = whole(event)
            stored = await stream.publish(
                subject_of(event),
                body,
                timeout=PUBLISH_TIMEOUT_S,
                headers={"Nats-Msg-Id": message_id(event), "Content-Type": headers["content-type"]},
            )
        return not stored.duplicate

    async def forget(self, tenant: TenantId) -> None:
        """Remove what the stream holds of a tenant. Raises `Unavailable`."""
        async with translated_failures():
            await (await self._opened()).purge_stream(STREAM, subject=f"{ROOT}.{tenant}.>")

    async def _opened(self) -> JetStreamContext:
        if self._stream is None:
            async with self._opening:
                if self._stream is None:
                    connection = self._connection or await connect(self._url)
                    self._connection = connection
                    stream = connection.jetstream(timeout=PUBLISH_TIMEOUT_S)
                    await ensure_stream(stream)
                    self._stream = stream
        return self._stream

    async def close(self) -> None:
        connection, self._connection, self._stream = self._connection, None, None
        if connection is not None:
            with suppress(Exception):  # what is closing may be gone
                await asyncio.wait_for(connection.close(), PUBLISH_TIMEOUT_S)
