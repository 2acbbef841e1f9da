"""A store's webhook on a cluster: what it tells goes to the Broker, and NATS is not spoken to."""

from __future__ import annotations

from dataclasses import replace

from shared.identity import Tokens, hook_token
from shared.secrets import read_key
from shared.settings import Settings
from tests.fixtures.broker import Sink, listening
from tests.fixtures.runtime import serving_function

RECORD = {
    "eventVersion": "2.1",
    "eventSource": "minio:s3",
    "awsRegion": "",
    "eventTime": "2026-01-01T00:00:00Z",
    "eventName": "s3:ObjectCreated:Put",
    "responseElements": {"x-amz-request-id": "a", "x-amz-id-2": "b"},
    "s3": {"bucket": {"name": "dcoder-acme"}, "object": {"key": "documents/a.md", "eTag": "e", "size": 1}},
}


async def test_an_upload_is_told_to_the_broker_or_told_again_by_the_store(settings: Settings) -> None:
    async with listening(Sink()) as sink:
        placed = replace(settings, broker_url=sink.url, nats_url="not-granted")
        headers = {"authorization": f"Bearer {hook_token(read_key(settings, 'hooks'))}"}
        async with serving_function("integrations-webhooks", placed) as runtime:
            sink.status = 503
            refused = await runtime.client.post("/v1/hooks/s3", json={"Records": [RECORD]}, headers=headers)
            assert (refused.status_code, sink.kept) == (503, [])

            sink.status = 202
            taken = await runtime.client.post("/v1/hooks/s3", json={"Records": [RECORD]}, headers=headers)
            assert taken.status_code == 204

            (event,) = sink.kept
            (await runtime.application.process.get(Tokens)).verify_event(event)
            assert (event.tenant, event.type) == ("acme", "com.amazonaws.s3.ObjectCreated:Put")
