"""Tenants' keys of the object store: each opens that tenant's bucket and no other. Rows of the control database.

A key is made when a process of one tenant alone first needs it, and is that tenant's until it is deleted. It is kept in
the transaction that asks for the process. Who dies between making and keeping leaves a key that nobody knows: making
another takes it away.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from shared.errors import Conflict, Invalid, NotFound, Unavailable
from shared.ids import TenantId
from shared.objects import ObjectKey, bucket_of
from shared.postgres import ControlDatabase, ControlTransaction
from shared.secrets import DataKey
from shared.secrets.envelope import seal, unseal

if TYPE_CHECKING:
    from shared.tenancy.saga import Ground

PURPOSE = "object-key"
IN_FORCE_LOOKS = 40
"""AWS lets a new key in after some seconds; the others do at once."""
POLL_S = 0.5


async def ensure(ground: Ground, transaction: ControlTransaction, tenant: TenantId) -> None:
    """Let there be a key that the store accepts. Whoever calls holds the tenant's row, so nobody makes another now.

    Raises `Conflict` with what to do where the store makes none, `Fault` and `Unavailable` when it fails to.
    """
    found = await transaction.fetchrow("SELECT sealed, brought FROM object_keys WHERE tenant = $1", tenant)
    if found is not None and await ground.buckets.accepts(tenant, opened(ground, tenant, bytes(found["sealed"]))):
        return
    if found is not None and found["brought"]:
        raise Conflict(
            f"the object store refuses the key that was brought for tenant {tenant!r}. "
            f"Make one that opens bucket {bucket_of(tenant)!r} alone, and bring it: dcoder tenant objects-key {tenant}"
        )
    made = await ground.buckets.make_key(tenant)
    if made is None:
        raise Conflict(
            "nobody said how the object store makes keys: set DCODER_OBJECTS_KEYS, or make a key that opens bucket "
            f"{bucket_of(tenant)!r} alone, and bring it: dcoder tenant objects-key {tenant}"
        )
    await wait_until(lambda: ground.buckets.accepts(tenant, made))
    await keep(ground, transaction, tenant, made, brought=False)


async def bring(ground: Ground, transaction: ControlTransaction, tenant: TenantId, key: ObjectKey) -> None:
    """Keep a key that an operator made. Raises `NotFound`, and `Invalid` for one that opens too little or too much."""
    state = await transaction.fetchval("SELECT state FROM tenants WHERE id = $1 FOR UPDATE", tenant)
    if state is None:
        raise NotFound(f"there is no tenant {tenant[:64]!r}")
    if state != "ready":
        raise Conflict(f"tenant {tenant!r} is {state}; a key can be brought for one that is ready")
    if not await ground.buckets.accepts(tenant, key):
        raise Invalid(f"the object store does not let this key into bucket {bucket_of(tenant)!r}")
    if await reaches_further(ground, transaction, tenant, key):
        raise Invalid(f"this key reaches further than bucket {bucket_of(tenant)!r}: make one that does not")
    await keep(ground, transaction, tenant, key, brought=True)


async def reaches_further(ground: Ground, transaction: ControlTransaction, tenant: TenantId, key: ObjectKey) -> bool:
    """Whether the store lists another bucket for the key, or lets it into that of one other tenant, which is tried."""
    if set(await ground.buckets.shown(key)) - {bucket_of(tenant)}:
        return True
    other = await transaction.fetchval("SELECT id FROM tenants WHERE id <> $1 AND state = 'ready' LIMIT 1", tenant)
    return other is not None and await ground.buckets.accepts(TenantId(other), key)


async def keep(
    ground: Ground, transaction: ControlTransaction, tenant: TenantId, key: ObjectKey, *, brought: bool
) -> None:
    await transaction.execute(
        "INSERT INTO object_keys (tenant, sealed, brought) VALUES ($1, $2, $3)"
        " ON CONFLICT (tenant) DO UPDATE SET sealed = $2, brought = $3, made_at = now()",
        tenant,
        seal(DataKey(tenant, ground.root_key), PURPOSE, json.dumps([key.access_key, key.secret_key]).encode()),
        brought,
    )


async def kept(ground: Ground, control: ControlDatabase, tenant: TenantId) -> ObjectKey | None:
    """The tenant's key; None for one that never needed any."""
    sealed = await control.fetchval("SELECT sealed FROM object_keys WHERE tenant = $1", tenant)
    return opened(ground, tenant, bytes(sealed)) if sealed is not None else None


def opened(ground: Ground, tenant: TenantId, sealed: bytes) -> ObjectKey:
    return ObjectKey(*json.loads(unseal(DataKey(tenant, ground.root_key), PURPOSE, sealed)))


async def destroy(ground: Ground, tenant: TenantId) -> None:
    """End every key that was made for the tenant, also one that was never kept. One that was brought is forgotten."""
    await ground.buckets.end_key(tenant)
    await ground.control.execute("DELETE FROM object_keys WHERE tenant = $1", tenant)


async def wait_until(holds: Callable[[], Awaitable[bool]]) -> None:
    for _ in range(IN_FORCE_LOOKS):
        if await holds():
            return
        await asyncio.sleep(POLL_S)
    raise Unavailable(f"the object store does not accept the key that it made {IN_FORCE_LOOKS * POLL_S:g} s ago")
