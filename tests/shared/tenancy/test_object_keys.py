"""A tenant's key of the object store: made once, kept sealed, made again when it must be, and gone with its tenant."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sys
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from secrets import token_hex

import pytest

from shared.errors import Conflict, Invalid
from shared.function.process import Process
from shared.function.resources import OPENERS
from shared.ids import TenantId
from shared.object_keys import Iam, accepted
from shared.objects import ObjectKey, bucket_of
from shared.postgres import ControlDatabase
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.platform import environment_of

ROOT = Path(__file__).resolve().parents[3]


@pytest.fixture
async def fresh(registry: TenantRegistry) -> TenantId:
    """A tenant that nobody else uses."""
    return (await registry.create(f"keyed-{token_hex(4)}")).id


@pytest.fixture
async def closed(settings: Settings) -> AsyncIterator[Process]:
    """A platform of whose store nobody said that it makes keys."""
    process = Process(replace(settings, objects_keys=""), OPENERS)
    yield process
    await process.close()


async def ensured(registry: TenantRegistry, control: ControlDatabase, tenant: TenantId) -> ObjectKey:
    async with control.transaction() as transaction:
        await transaction.fetchval("SELECT state FROM tenants WHERE id = $1 FOR UPDATE", tenant)
        await registry.ensure_object_key(transaction, tenant)
    held = await registry.credentials(tenant, b"public")
    assert held.object_key is not None
    return held.object_key


async def brought(registry: TenantRegistry, control: ControlDatabase, tenant: TenantId, key: ObjectKey) -> None:
    async with control.transaction() as transaction:
        await registry.bring_object_key(transaction, tenant, key)


def platform_key(settings: Settings) -> ObjectKey:
    return ObjectKey(settings.objects_access_key, settings.objects_secret_key)


async def opens(settings: Settings, key: ObjectKey, tenant: TenantId) -> bool:
    return await asyncio.to_thread(accepted, settings.objects_url, key, bucket_of(tenant))


async def test_who_asks_again_gets_the_same_key_and_nobody_without_asking(
    registry: TenantRegistry, control: ControlDatabase, settings: Settings, fresh: TenantId
) -> None:
    assert (await registry.credentials(fresh, b"public")).object_key is None

    first = await ensured(registry, control, fresh)

    assert await ensured(registry, control, fresh) == first
    assert await opens(settings, first, fresh)
    await registry.delete(fresh)


async def test_ten_who_ask_at_once_get_one_key(
    registry: TenantRegistry, control: ControlDatabase, settings: Settings, fresh: TenantId
) -> None:
    found = await asyncio.gather(*(ensured(registry, control, fresh) for _ in range(10)))

    assert len({one.access_key for one in found}) == 1
    assert await opens(settings, found[0], fresh)
    await registry.delete(fresh)


async def test_it_is_kept_sealed_and_does_not_show_itself(
    registry: TenantRegistry, control: ControlDatabase, fresh: TenantId
) -> None:
    key = await ensured(registry, control, fresh)

    row = await control.fetchrow("SELECT * FROM object_keys WHERE tenant = $1", fresh)
    assert row is not None
    for secret in (key.access_key, key.secret_key):
        assert secret.encode() not in bytes(row["sealed"])
        assert secret not in str(dict(row))
    assert key.secret_key not in repr(await registry.credentials(fresh, b"public"))
    await registry.delete(fresh)


async def test_a_deleted_tenants_key_is_refused_by_the_store(
    registry: TenantRegistry, control: ControlDatabase, settings: Settings, fresh: TenantId, tenant: TenantId
) -> None:
    key, others = await ensured(registry, control, fresh), await ensured(registry, control, tenant)

    await registry.delete(fresh)

    again = await registry.create(fresh)
    assert not await opens(settings, key, again.id), "nor does it open the bucket of who has the name next"
    assert await opens(settings, others, tenant)
    assert not await control.fetchval("SELECT true FROM object_keys WHERE tenant = $1", fresh)
    await registry.delete(fresh)


async def killed(settings: Settings, tenant: TenantId) -> ObjectKey:
    """The key that a process made before it was killed."""
    script = Path(__file__).with_name("killed_key.py")
    environment = {**os.environ, **environment_of(settings), "PYTHONPATH": str(ROOT)}
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), tenant, cwd=ROOT, env=environment, stdout=asyncio.subprocess.PIPE
    )
    told, _ = await process.communicate()
    assert process.returncode == -signal.SIGKILL
    return ObjectKey(*json.loads(told))


async def test_who_is_killed_before_it_keeps_the_key_leaves_none_that_opens_anything_once_another_is_made(
    registry: TenantRegistry, control: ControlDatabase, settings: Settings, fresh: TenantId
) -> None:
    lost = await killed(settings, fresh)
    assert await opens(settings, lost, fresh)
    assert (await registry.credentials(fresh, b"public")).object_key is None

    kept = await ensured(registry, control, fresh)

    assert not await opens(settings, lost, fresh)
    assert await opens(settings, kept, fresh)
    await registry.delete(fresh)


async def test_a_key_that_nobody_kept_goes_with_its_tenant_too(
    registry: TenantRegistry, settings: Settings, fresh: TenantId
) -> None:
    lost = await killed(settings, fresh)

    await registry.delete(fresh)

    again = await registry.create(fresh)
    assert not await opens(settings, lost, again.id)
    await registry.delete(fresh)


async def test_a_key_that_the_store_no_longer_knows_is_made_anew(
    registry: TenantRegistry, control: ControlDatabase, settings: Settings, fresh: TenantId
) -> None:
    first = await ensured(registry, control, fresh)
    Iam(settings.objects_keys, platform_key(settings)).end(bucket_of(fresh))

    second = await ensured(registry, control, fresh)

    assert second != first
    assert await opens(settings, second, fresh)
    await registry.delete(fresh)


async def test_where_the_store_makes_none_it_says_what_to_do_and_takes_one_that_is_brought(
    registry: TenantRegistry, closed: Process, control: ControlDatabase, settings: Settings, fresh: TenantId
) -> None:
    here = await closed.get(TenantRegistry)
    with pytest.raises(Conflict, match=f"set DCODER_OBJECTS_KEYS, or .* dcoder tenant objects-key {fresh}"):
        await ensured(here, control, fresh)
    made = Iam(settings.objects_keys, platform_key(settings)).make(bucket_of(fresh))

    await brought(here, control, fresh, made)

    assert await ensured(here, control, fresh) == made
    Iam(settings.objects_keys, platform_key(settings)).end(bucket_of(fresh))
    with pytest.raises(Conflict, match=f"refuses the key that was brought .* dcoder tenant objects-key {fresh}"):
        await ensured(here, control, fresh)
    await registry.delete(fresh)


async def test_a_key_that_opens_too_little_or_too_much_is_not_taken(
    registry: TenantRegistry, control: ControlDatabase, settings: Settings, fresh: TenantId, tenant: TenantId
) -> None:
    others = await ensured(registry, control, tenant)

    with pytest.raises(Invalid, match="does not let this key into bucket"):
        await brought(registry, control, fresh, others)
    with pytest.raises(Invalid, match="reaches further than bucket") as refused:
        await brought(registry, control, fresh, platform_key(settings))

    assert settings.objects_secret_key not in str(refused.value)
    assert (await registry.credentials(fresh, b"public")).object_key is None
    await registry.delete(fresh)
