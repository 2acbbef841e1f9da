"""Reconciliation: a tenant's ledger, the counters in Redis and the mirror in its database, compared and mended.

The ledger is the truth. Calls go on meanwhile, so no two of the three can be read at one moment: a counter is read
before the ledger and again after it, a moment later. In between it only grows, as calls are settled after their rows
are written. What the ledger has of a bucket must lie between the two; what does not, three times in a row, differs.

A counter that differs is built again from the ledger, as one that Redis lost is: with the reservations of open calls,
exact whatever is settled meanwhile. The mirror is told again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Literal
from uuid import uuid4

from pydantic import BaseModel

from shared.events import CloudEvent
from shared.ids import TenantId
from shared.postgres import ControlDatabase, TenantDatabase
from shared.quotas import Meter
from shared.quotas.counters import Inside
from shared.quotas.limits import Quota, Scope
from shared.quotas.stored import sums_of
from shared.quotas.telling import SOURCE, event_of, quota_of
from shared.telemetry import log

DIFFERED = "dcoder.quota.differed"
SETTLED_S = 1.0
"""After its row a call is settled within milliseconds."""
TRIES = 3
TOLD_MAX = 50
ROLLING_BUCKETS = 61
ON_ITS_WAY = timedelta(seconds=60)
"""An event may be that long on its way to the mirror."""
QUOTAS = """
SELECT q.id, q.scope, q.name, q.metric, q.span, q.amount, q.hard, s.version, s.standing, s.told_at
  FROM quotas q LEFT JOIN quota_states s ON s.quota = q.id WHERE q.tenant = $1 ORDER BY q.id
"""
MIRROR = "SELECT id, version, scope, name, metric, span, amount, hard, standing FROM quota_mirror"
FORGET = "DELETE FROM quota_mirror WHERE standing = 'removed' AND told_at < now() - interval '30 days'"

Place = Literal["used", "reserved", "mirror"]


class Difference(BaseModel):
    """Where it differs: `used` or `reserved` of a counter in Redis, or the `mirror`. `found` is what was there, `truth`
    what should be: amounts in the metric's unit, or versions of the mirror."""

    quota: int
    scope: Scope
    name: str
    metric: str
    window: str
    place: Place
    found: int
    truth: int


class Reconciled(BaseModel):
    """All that differs is mended."""

    tenant: str
    compared: int
    differences: list[Difference]


def summary(found: Reconciled) -> dict[str, object]:
    """What an audit record says of it: all of it, unless that is more than a record holds."""
    told = [one.model_dump() for one in found.differences[:TOLD_MAX]]
    return {"compared": found.compared, "different": len(found.differences), "differences": told}


@dataclass(frozen=True)
class Reading:
    """A counter, the ledger's sums by bucket, and the counter again."""

    before: Inside
    ledger: Mapping[int, int]
    after: Inside


async def reconcile(control: ControlDatabase, tenant: TenantDatabase, meter: Meter) -> Reconciled:
    """Compare a tenant's quotas and mend what differs. Raises `Problem` while a server is away."""
    await meter.sweep()  # what the dead reserved is in the counters already
    rows = [dict(row) for row in await control.fetch(QUOTAS, tenant.tenant)]
    quotas = [quota_of(row) for row in rows]
    of_counters = await mend_counters(control, tenant.tenant, meter, quotas)
    of_mirror = await mend_mirror(control, tenant, meter, rows)
    differences = of_counters + of_mirror
    for one in differences:
        log("quota_differed", tenant=tenant.tenant, **one.model_dump())
    log("quotas_reconciled", tenant=tenant.tenant, compared=len(quotas), different=len(differences))
    if differences:
        await tell(control, tenant.tenant, differences)
    return Reconciled(tenant=tenant.tenant, compared=len(quotas), differences=differences)


async def mend_counters(
    control: ControlDatabase, tenant: TenantId, meter: Meter, quotas: Sequence[Quota]
) -> list[Difference]:
    """Build those counters again that differ from the ledger each time one looks."""
    suspects: dict[Quota, list[Difference]] = {quota: [] for quota in quotas}
    for _ in range(TRIES):
        readings = await read(control, tenant, meter, list(suspects))
        suspects = {quota: found for quota, reading in readings.items() if (found := differing(quota, reading))}
        if not suspects:
            break
    for quota in suspects:
        await meter.building.rebuild(tenant, quota)
    return [difference for found in suspects.values() for difference in found]


async def read(
    control: ControlDatabase, tenant: TenantId, meter: Meter, quotas: Sequence[Quota]
) -> dict[Quota, Reading]:
    """The quotas' counters, before and after the ledger. Those that are not there are left out: who needs them builds
    them from the ledger."""
    first = {quota: inside for quota in quotas if (inside := await meter.building.inside(tenant, quota)) is not None}
    sums = {quota: (await sums_of(control, tenant, quota)).used for quota in first}
    await asyncio.sleep(SETTLED_S)
    readings = {}
    for quota, before in first.items():
        after = await meter.building.inside(tenant, quota)
        if after is not None:
            by_bucket = {bucket_of(quota, second): amount for second, amount in sums[quota]}
            readings[quota] = Reading(before, by_bucket, after)
    return readings


def bucket_of(quota: Quota, second: int) -> int:
    """The number of a bucket by the second in which it begins, as the counters number them."""
    kind, _, unit = quota.window.partition(":")
    return second // (int(unit) // (ROLLING_BUCKETS - 1)) if kind == "rolling" else second


def differing(quota: Quota, reading: Reading) -> list[Difference]:
    """In what the counter is not what it should be."""
    before, after = reading.before, reading.after
    found = []
    if off := used_off(quota, before, reading.ledger, after):
        found.append(difference(quota, "used", found=after.used, truth=after.used - off))
    if after.reserved != after.held:
        found.append(difference(quota, "reserved", found=after.reserved, truth=after.held))
    return found


def used_off(quota: Quota, before: Inside, ledger: Mapping[int, int], after: Inside) -> int:
    """By how much the counter has too much used (below 0: too little); 0 when it can be what the ledger says."""
    oldest = after.newest - ROLLING_BUCKETS + 1 if quota.window.startswith("rolling:") else after.newest
    off = 0
    for bucket in {*before.buckets, *ledger, *after.buckets}:
        amount = ledger.get(bucket, 0)
        if not oldest <= bucket <= before.newest:
            continue  # the window has left it, or it began after the first look
        least, most = before.buckets.get(bucket, 0), after.buckets.get(bucket, 0)
        off += max(0, least - amount) - max(0, amount - most)
    return off or after.used - sum(after.buckets.values())


async def mend_mirror(
    control: ControlDatabase, tenant: TenantDatabase, meter: Meter, rows: Sequence[dict[str, Any]]
) -> list[Difference]:  # Any: database rows
    """Tell again what the mirror does not have as it was told, and look at all quotas whether what was told holds."""
    await tenant.execute(FORGET)
    mirror: dict[int, dict[str, Any]] = {row["id"]: dict(row) for row in await tenant.fetch(MIRROR)}
    differences = [one for row in rows if (one := unlike(row, mirror.get(row["id"]), datetime.now(UTC)))]
    for one in differences:
        await tell_again(meter, tenant.tenant, one.quota, max(one.found, one.truth))
    for row in rows:
        meter.telling.ask(tenant.tenant, row["id"])
    known = {row["id"] for row in rows}
    for row in (row for number, row in mirror.items() if number not in known and row["standing"] != "removed"):
        differences.append(await tell_gone(control, tenant.tenant, row))
    return differences


def unlike(row: dict[str, Any], kept: dict[str, Any] | None, now: datetime) -> Difference | None:  # Any: database rows
    """How the mirror's row differs from what was told, leaving out what may be on its way."""
    if row["version"] is None or row["told_at"] > now - ON_ITS_WAY:
        return None
    columns = ("version", "standing", "scope", "name", "metric", "span", "hard")
    if kept is not None and all(row[column] == kept[column] for column in columns):
        return None
    return difference(quota_of(row), "mirror", found=kept["version"] if kept else 0, truth=row["version"])


def difference(quota: Quota, place: Place, *, found: int, truth: int) -> Difference:
    return Difference(
        quota=quota.id, scope=quota.scope, name=quota.name, metric=quota.metric, window=quota.window, place=place,
        found=found, truth=truth,
    )  # fmt: skip


async def tell_again(meter: Meter, tenant: TenantId, quota: int, version: int) -> None:
    """Tell how the quota stands, in a later version than this one."""
    for _ in range(TRIES):
        wait_s = await meter.telling.tell(tenant, quota, anew=version)
        if not wait_s:
            return
        await asyncio.sleep(wait_s)


async def tell_gone(control: ControlDatabase, tenant: TenantId, row: dict[str, Any]) -> Difference:  # Any: database row
    """Tell that a quota is gone that the mirror still has."""
    version = row["version"] + 1
    async with control.transaction() as transaction:
        now = await transaction.fetchval("SELECT clock_timestamp()")
        await transaction.emit(event_of(tenant, quota_of(row), "removed", version=version, at=now, more={}))
    return difference(quota_of(row), "mirror", found=row["version"], truth=version)


async def tell(control: ControlDatabase, tenant: TenantId, differences: Sequence[Difference]) -> None:
    """Leave the event that says what differed."""
    told = [one.model_dump() for one in differences[:TOLD_MAX]]
    data = {"different": len(differences), "differences": told}
    event = CloudEvent(f"quotas-{uuid4()}", SOURCE, DIFFERED, "quotas", tenant, datetime.now(UTC), data)
    async with control.transaction() as transaction:
        await transaction.emit(event)
