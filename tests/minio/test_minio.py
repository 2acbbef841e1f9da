"""A real MinIO tells our webhook what happens to its objects. Run with `--with minio`."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from shared.ids import TenantId
from shared.objects import ObjectStore, TenantObjects
from shared.settings import Settings
from tests.fixtures.hooks import Hooks, serving_hooks
from tests.minio.server import Minio, minio_server

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

pytestmark = [pytest.mark.minio, pytest.mark.timeout(1500)]
ACME = TenantId("acme")
AWKWARD = "documents/a b+c/ünï%20&.txt"


@pytest.fixture(scope="module")
async def hooks(nats_url: str) -> AsyncIterator[Hooks]:
    async with serving_hooks(nats_url) as hooks:
        yield hooks


@pytest.fixture(scope="module")
def minio(hooks: Hooks) -> Iterator[Minio]:
    with minio_server(f"{hooks.origin}/v1/hooks/s3", "token") as server:
        yield server


@pytest.fixture(scope="module")
async def store(minio: Minio) -> AsyncIterator[ObjectStore]:
    store = ObjectStore(
        Settings(
            postgres_url="",
            redis_url="",
            nats_url="",
            platform_url="",
            llm_url="",
            secrets_dir=Path("/nonexistent"),
            objects_url=minio.url,
            objects_access_key=minio.access_key,
            objects_secret_key=minio.secret_key,
        )
    )
    yield store
    await store.close()


@pytest.fixture
async def objects(store: ObjectStore, hooks: Hooks) -> AsyncIterator[TenantObjects]:
    objects = store.tenant(ACME)
    await objects.ensure_bucket()
    await store.call(announce)
    hooks.published.clear()
    yield objects
    await objects.destroy_bucket()
    await asyncio.sleep(0.5)


def announce(client: S3Client) -> None:
    """Ask MinIO to announce what is created and removed in the tenant's bucket."""
    client.put_bucket_notification_configuration(
        Bucket="dcoder-acme",
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "QueueArn": "arn:minio:sqs::DCODER:webhook",
                    "Events": ["s3:ObjectCreated:*", "s3:ObjectRemoved:*"],
                }
            ]
        },
    )


async def test_put_overwrite_and_delete_are_one_event_each(objects: TenantObjects, hooks: Hooks) -> None:
    first = await objects.put(AWKWARD, b"hello", "text/plain")
    await hooks.wait_for(1)
    second = await objects.put(AWKWARD, b"hello again", "text/plain")
    await hooks.wait_for(2)
    await objects.delete(AWKWARD)
    told = await hooks.wait_for(3)
    assert [(one.key, one.removed) for one in told] == [(AWKWARD, False), (AWKWARD, False), (AWKWARD, True)]
    assert [(one.etag, one.size) for one in told[:2]] == [(first.etag, 5), (second.etag, 11)]
    assert len({one.event.id for one in told}) == 3
    assert {one.event.tenant for one in told} == {ACME}


async def test_objects_deleted_together_are_one_event_each(
    objects: TenantObjects, store: ObjectStore, hooks: Hooks
) -> None:
    for name in "abc":
        await objects.put(f"documents/{name}", b"1", "text/plain")
    await hooks.wait_for(3)
    hooks.published.clear()
    keys = [{"Key": f"documents/{name}"} for name in "abc"]
    await store.call(lambda client: client.delete_objects(Bucket="dcoder-acme", Delete={"Objects": keys}))  # type: ignore[typeddict-item]
    told = await hooks.wait_for(3)
    assert sorted(one.key for one in told) == ["documents/a", "documents/b", "documents/c"]
    assert len({one.event.id for one in told}) == 3


async def test_tags_are_no_event_and_a_copy_is_one(objects: TenantObjects, store: ObjectStore, hooks: Hooks) -> None:
    await objects.put("documents/a", b"1", "text/plain")
    await hooks.wait_for(1)
    tags = {"TagSet": [{"Key": "k", "Value": "v"}]}
    await store.call(
        lambda client: client.put_object_tagging(Bucket="dcoder-acme", Key="documents/a", Tagging=tags)  # type: ignore[arg-type]
    )
    source = {"Bucket": "dcoder-acme", "Key": "documents/a"}
    await store.call(
        lambda client: client.copy_object(Bucket="dcoder-acme", Key="documents/b", CopySource=source)  # type: ignore[arg-type]
    )
    told = await hooks.wait_for(2)
    assert [one.key for one in told] == ["documents/a", "documents/b"]
    assert told[1].event.type.endswith(":Copy")


async def test_a_multipart_upload_is_one_event(objects: TenantObjects, store: ObjectStore, hooks: Hooks) -> None:
    def upload(client: S3Client) -> None:
        place = {"Bucket": "dcoder-acme", "Key": "documents/big"}
        upload_id = client.create_multipart_upload(**place)["UploadId"]  # type: ignore[arg-type]
        part = client.upload_part(**place, UploadId=upload_id, PartNumber=1, Body=b"x" * 100)  # type: ignore[arg-type]
        parts = {"Parts": [{"PartNumber": 1, "ETag": part["ETag"]}]}
        client.complete_multipart_upload(**place, UploadId=upload_id, MultipartUpload=parts)  # type: ignore[arg-type]

    await store.call(upload)
    [told] = await hooks.wait_for(1)
    assert (told.key, told.size) == ("documents/big", 100)
    assert told.etag.endswith("-1")
