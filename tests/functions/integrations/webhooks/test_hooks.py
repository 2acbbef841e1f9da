"""The webhook routes, with a real SeaweedFS on the other side."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest

from shared.events import ObjectEvent
from shared.identity import hook_token
from shared.ids import TenantId
from shared.objects import ObjectStore
from shared.secrets import read_key
from shared.settings import Settings
from tests.fixtures.hooks import Hooks, serving_hooks
from tests.fixtures.runtime import serving_function
from tests.fixtures.servers import seaweed_server

RECORDED = Path(__file__).parents[3] / "fixtures" / "notifications"
AWKWARD = "documents/a b+c/ünï%20&.txt"


@pytest.fixture
async def hooks(nats_url: str) -> AsyncIterator[Hooks]:
    async with serving_hooks(nats_url) as hooks:
        yield hooks


async def post(hooks: Hooks, store: str, payload: object) -> int:
    async with httpx.AsyncClient(trust_env=False) as client:
        content = payload if isinstance(payload, bytes) else json.dumps(payload).encode()
        return (await client.post(f"{hooks.origin}/v1/hooks/{store}", content=content)).status_code


async def test_a_change_of_an_object_becomes_an_event_on_the_stream(hooks: Hooks) -> None:
    for payload in json.loads((RECORDED / "seaweedfs.json").read_text())["put"]:
        assert await post(hooks, "seaweedfs", payload) == 204
    [told] = hooks.objects()
    assert (told.event.tenant, told.key) == ("acme", "documents/a b+c/ünï%20.txt")


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"event_type": "create"}', b"null"])
async def test_what_is_no_notification_is_refused(hooks: Hooks, body: bytes) -> None:
    assert await post(hooks, "seaweedfs", body) == 400


async def test_a_configuration_test_of_s3_is_accepted(hooks: Hooks) -> None:
    assert await post(hooks, "s3", {"Service": "Amazon S3", "Event": "s3:TestEvent"}) == 204


async def test_seaweedfs_tells_of_put_overwrite_and_delete_once_each(nats_url: str) -> None:
    async with serving_hooks(nats_url) as hooks:
        told = await asyncio.wait_for(changes_in_seaweedfs(hooks), 60)
    assert [(one.key, one.size, one.removed) for one in told] == [
        (AWKWARD, 5, False),
        (AWKWARD, 11, False),
        (AWKWARD, 11, True),
    ]
    assert len({one.event.id for one in told}) == 3


async def changes_in_seaweedfs(hooks: Hooks) -> list[ObjectEvent]:
    loop = asyncio.get_running_loop()
    server_context = seaweed_server(hook_url=f"{hooks.origin}/v1/hooks/seaweedfs", hook_token="token")
    server = await loop.run_in_executor(None, server_context.__enter__)
    store = ObjectStore(
        Settings(
            postgres_url="",
            redis_url="",
            nats_url="",
            platform_url="",
            llm_url="",
            secrets_dir=Path("/nonexistent"),
            objects_url=server.url,
            objects_access_key=server.access_key,
            objects_secret_key=server.secret_key,
        )
    )
    try:
        objects = store.tenant(TenantId("acme"))
        await objects.ensure_bucket()
        await objects.put(AWKWARD, b"hello", "text/plain")
        await hooks.wait_for(1)
        await objects.put(AWKWARD, b"hello again", "text/plain")
        await hooks.wait_for(2)
        await objects.delete(AWKWARD)
        return await hooks.wait_for(3)
    finally:
        await store.close()
        await loop.run_in_executor(None, lambda: server_context.__exit__(None, None, None))


async def test_only_the_stores_own_token_opens_the_hook(settings: Settings) -> None:
    [payload] = json.loads((RECORDED / "seaweedfs.json").read_text())["copy"]
    async with serving_function("integrations-webhooks", settings) as runtime:
        path, body = "/v1/hooks/seaweedfs", json.dumps(payload).encode()
        right = {"authorization": f"Bearer {hook_token(read_key(settings, 'hooks'))}"}
        assert (await runtime.client.post(path, content=body, headers=right)).status_code == 204
        assert (await runtime.client.head("/v1/hooks/s3", headers=right)).status_code == 204
        wrong = {"authorization": "Bearer dch_wrong"}
        assert (await runtime.client.post(path, content=body, headers=wrong)).status_code == 401
        assert (await runtime.call("POST", path, tenant="acme", role="admin", content=body)).status_code == 403
        assert (await runtime.client.post(path, content=b"x" * 5_000_000, headers=right)).status_code == 413
