"""A tenant's objects, on a real S3-compatible store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.errors import Fault, Invalid, NotFound, TooLarge, Unavailable
from shared.ids import TenantId
from shared.objects import KEY_BYTES_MAX, ObjectStore, TenantObjects, key_flaw
from shared.settings import Settings
from tests.fixtures.servers import ObjectsServer


def settings_of(server: ObjectsServer) -> Settings:
    return Settings(
        postgres_url="", redis_url="", nats_url="", platform_url="", llm_url="", secrets_dir=Path("/nonexistent"),
        objects_url=server.url, objects_access_key=server.access_key, objects_secret_key=server.secret_key,
    )  # fmt: skip


@pytest.fixture
async def store(objects_server: ObjectsServer) -> AsyncIterator[ObjectStore]:
    store = ObjectStore(settings_of(objects_server))
    yield store
    await store.close()


@pytest.fixture
async def objects(store: ObjectStore) -> AsyncIterator[TenantObjects]:
    objects = store.tenant(TenantId(f"t{token_hex(5)}"))
    await objects.ensure_bucket()
    yield objects
    await objects.destroy_bucket()


@pytest.mark.parametrize(
    "key", ["documents/plain.txt", "documents/a b+c/ünï%20&?#.txt", "documents/日本/…", "x" * KEY_BYTES_MAX]
)
async def test_what_is_written_is_read_back(objects: TenantObjects, key: str) -> None:
    if len(key) > 255:
        key = "/".join([key[:200]] * 4)
    written = await objects.put(key, b"hello", "text/plain")
    assert (written.size, written.etag) == (5, "5d41402abc4b2a76b9719d911017c592")
    assert await objects.get(key, 5) == b"hello"
    assert await objects.head(key) == written


async def test_a_file_is_streamed_both_ways(objects: TenantObjects, tmp_path: Path) -> None:
    source, target = tmp_path / "in", tmp_path / "out"
    source.write_bytes(b"0123456789" * 300_000)
    written = await objects.put("documents/big", source, "application/octet-stream")
    assert await objects.get_to_file("documents/big", target, 3_000_000) == written
    assert target.read_bytes() == source.read_bytes()


async def test_more_than_was_asked_for_is_not_read(objects: TenantObjects, tmp_path: Path) -> None:
    await objects.put("documents/a", b"123456", "text/plain")
    with pytest.raises(TooLarge):
        await objects.get("documents/a", 5)
    with pytest.raises(TooLarge):
        await objects.get_to_file("documents/a", tmp_path / "out", 5)
    assert not (tmp_path / "out").exists()


async def test_what_is_not_there_is_not_found_and_deleting_it_is_no_error(objects: TenantObjects) -> None:
    with pytest.raises(NotFound):
        await objects.head("documents/none")
    with pytest.raises(NotFound):
        await objects.get("documents/none", 10)
    await objects.delete("documents/none")


async def test_a_deleted_object_is_gone(objects: TenantObjects) -> None:
    await objects.put("documents/a", b"1", "text/plain")
    await objects.delete("documents/a")
    with pytest.raises(NotFound):
        await objects.head("documents/a")


async def test_a_listing_has_every_key_under_the_prefix(objects: TenantObjects) -> None:
    for key in ("documents/a", "documents/b/c", "other/d"):
        await objects.put(key, b"1", "text/plain")
    assert [head.key async for head in objects.list("documents/")] == ["documents/a", "documents/b/c"]


async def test_a_tenants_bucket_can_be_made_and_destroyed_twice(store: ObjectStore) -> None:
    objects = store.tenant(TenantId(f"t{token_hex(5)}"))
    await objects.ensure_bucket()
    await objects.ensure_bucket()
    await objects.put("documents/a/b", b"1", "text/plain")
    await objects.destroy_bucket()
    await objects.destroy_bucket()
    with pytest.raises(NotFound):
        await objects.put("documents/a", b"1", "text/plain")


async def test_a_store_that_does_not_answer_is_unavailable(objects_server: ObjectsServer) -> None:
    store = ObjectStore(replace(settings_of(objects_server), objects_url="http://127.0.0.1:9"))
    with pytest.raises(Unavailable):
        await store.tenant(TenantId("acme")).head("documents/a")
    await store.close()


async def test_credentials_that_the_store_refuses_are_our_fault(objects_server: ObjectsServer) -> None:
    store = ObjectStore(replace(settings_of(objects_server), objects_secret_key="wrong"))
    with pytest.raises(Fault):
        await store.tenant(TenantId("acme")).get("documents/a", 5)
    await store.close()


@pytest.mark.parametrize(
    "key", ["", "/a", "a//b", "a/../b", "..", "a/.", "a\x00b", "a\nb", "a\x7f", "\ud800", "x" * 901]
)
async def test_a_key_that_means_another_path_is_refused_before_it_is_sent(key: str) -> None:
    objects = TenantObjects(TenantId("acme"), ObjectStore.__new__(ObjectStore))
    with pytest.raises(Invalid):
        await objects.put(key, b"", "text/plain")


@given(st.text(max_size=1000))
def test_a_key_without_a_flaw_is_short_and_climbs_nowhere(key: str) -> None:
    if not key_flaw(key):
        assert 0 < len(key.encode()) <= KEY_BYTES_MAX
        assert not {"", ".", ".."} & set(key.rstrip("/").split("/"))
