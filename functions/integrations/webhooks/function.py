"""Webhooks of object stores: SeaweedFS, and whatever sends S3's notifications, as events."""

from __future__ import annotations

from collections.abc import Callable

from starlette.requests import Request
from starlette.responses import Response

from shared.events import CloudEvent, Events
from shared.events.cloudevent import JSON, parsed_json
from shared.events.notifications import from_s3, from_seaweedfs
from shared.function import Function

webhooks = Function(body_bytes_max=4 * 1024 * 1024)

Normalise = Callable[[JSON], list[CloudEvent]]


@webhooks.route("/v1/hooks/seaweedfs", permission="hooks:use")
async def seaweedfs(request: Request, events: Events) -> Response:
    """What SeaweedFS's filer tells of a change. The answer is 204 once the event is stored."""
    return await publish(request, events, from_seaweedfs)


@webhooks.route("/v1/hooks/s3", permission="hooks:use")
async def s3(request: Request, events: Events) -> Response:
    """A notification in S3's form, from S3, MinIO or another store. The answer is 204 once all events are stored."""
    return await publish(request, events, from_s3)


@webhooks.route("/v1/hooks/s3", method="HEAD", permission="hooks:use")
async def s3_is_up(request: Request) -> Response:
    """MinIO asks for this before it sends."""
    return Response(status_code=204)


async def publish(request: Request, events: Events, normalise: Normalise) -> Response:
    """Answer only when everything is on the stream: a store that is told otherwise sends again, under the same ids."""
    for event in normalise(parsed_json(await request.body())):
        await events.publish(event)
    return Response(status_code=204)
