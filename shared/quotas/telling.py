"""Telling how quotas stand: each change is one `dcoder.quota.updated` event, with a version that counts up.

Calls only notice that something may have changed, which costs them nanoseconds; one task of the process looks, beside
the traffic. Any number of processes may look: whoever holds the scope's lock reads counter and last version, and writes
the new version and its event in that same transaction. So versions have no gaps, no two events tell the same change,
and a later version never tells of an earlier moment.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from time import monotonic
from typing import Any

from shared.events import CloudEvent
from shared.events.cloudevent import rendered_time
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase, ControlTransaction
from shared.quotas.counters import State
from shared.quotas.limits import Quota
from shared.quotas.standing import (
    AGAIN_S,
    RATE_TOLD_EVERY_S,
    TOLD_EVERY_S,
    UPDATED,
    Standing,
    Told,
    changed,
    due_at,
    is_rate,
    resets_at,
    standing_of,
    taken_of,
)
from shared.telemetry import log

SOURCE = "/dcoder/quotas"
GATHER_S = 0.05
"""Between a change and the look at it: what changes back at once is no change, and a commit may be on its way."""
RETRY_S = 1.0
ASKED_MAX = 10_000
CLOSE_TIMEOUT_S = 2.0
DUE_MAX = 200
LOOKS_AT_ONCE = 8
COLUMNS = "q.id, q.tenant, q.scope, q.name, q.metric, q.span, q.amount, q.hard"
LOCK = """
SELECT pg_advisory_xact_lock(hashtextextended(concat_ws('/', 'quotas', tenant, scope, name), 0))
  FROM quotas WHERE id = $1
"""
READ = f"""
SELECT {COLUMNS}, s.version, s.standing, s.amount AS told_amount, s.taken, s.resets_at, s.told_at,
       clock_timestamp() AS now,
       (SELECT max(t.told_at) FROM quotas o JOIN quota_states t ON t.quota = o.id
         WHERE o.tenant = q.tenant AND o.scope = q.scope AND o.name = q.name) AS scope_told_at
  FROM quotas q LEFT JOIN quota_states s ON s.quota = q.id
 WHERE q.id = $1 AND q.tenant = $2 FOR NO KEY UPDATE OF q
"""
WRITE = """
INSERT INTO quota_states (quota, version, standing, amount, taken, resets_at, told_at, due_at)
VALUES ($1, $2, $3, $4, $5, $6, $7, $8)
ON CONFLICT (quota) DO UPDATE SET version = excluded.version, standing = excluded.standing, amount = excluded.amount,
    taken = excluded.taken, resets_at = excluded.resets_at, told_at = excluded.told_at, due_at = excluded.due_at
"""
REMOVED = f"""
SELECT {COLUMNS}, s.version, clock_timestamp() AS now
  FROM quotas q JOIN quota_states s ON s.quota = q.id WHERE q.id = $1
"""
PUT_OFF = "UPDATE quota_states SET due_at = $2 WHERE quota = $1"
DUE = """
SELECT q.id, q.tenant FROM quotas q JOIN tenants t ON t.id = q.tenant LEFT JOIN quota_states s ON s.quota = q.id
 WHERE t.state = 'ready' AND (s.quota IS NULL OR s.due_at <= now() OR s.amount <> q.amount)
 ORDER BY s.due_at NULLS FIRST LIMIT $1
"""
Look = Callable[[TenantId, Sequence[Quota]], Awaitable[list[State]]]
Place = tuple[TenantId, int]


@dataclass(frozen=True, slots=True)
class Asked:
    """A look that is to be taken, at the earliest at `after` (monotonic, seconds). `refused`: see `standing_of`."""

    after: float
    refused: int = 0


@dataclass(frozen=True, slots=True)
class Known:
    """What this process last found of a quota that is not below its limit, and when (monotonic, seconds)."""

    amount: int
    taken: int
    at: float


class Telling:
    """This process's part in it."""

    def __init__(self, control: ControlDatabase, look: Look) -> None:
        self._control = control
        self._look = look
        self._known: dict[int, Known] = {}
        self._asked: dict[Place, Asked] = {}
        self._more = asyncio.Event()
        self._working: asyncio.Task[None] | None = None

    def saw(self, tenant: TenantId, quotas: Sequence[Quota], states: Sequence[State]) -> None:
        """A call has seen these counters."""
        known = self._known
        for quota, state in zip(quotas, states, strict=False):
            taken = state.reserved if quota.metric == "parallel" else state.used
            if (taken >= quota.amount or quota.id in known) and self._doubtful(quota, taken):
                self.ask(tenant, quota.id)

    def full(self, tenant: TenantId, quotas: Iterable[Quota]) -> None:
        """All of these is used."""
        for quota in quotas:
            if self._doubtful(quota, quota.amount):
                self.ask(tenant, quota.id)

    def refused(self, tenant: TenantId, quota: Quota, amount: int) -> None:
        """The quota had no room for a call of that amount."""
        if quota.id not in self._known and amount <= quota.amount:
            self.ask(tenant, quota.id, refused=amount)

    def ask(self, tenant: TenantId, quota: int, *, refused: int = 0, after_s: float = GATHER_S) -> None:
        """Have it looked soon how a quota stands. The platform itself calls no models, and has no mirror."""
        if tenant == PLATFORM:
            return
        before = self._asked.get((tenant, quota))
        if before is None and len(self._asked) >= ASKED_MAX:
            log("quota_not_looked_at", quota=quota)  # the sweep of reconciliation does
            return
        after = monotonic() + after_s if before is None else before.after
        self._asked[tenant, quota] = Asked(after, refused or (before.refused if before else 0))
        self._more.set()
        if self._working is None or self._working.done():
            self._working = asyncio.create_task(self._work(), name="quota-states")

    async def tell(self, tenant: TenantId, quota: int, *, refused: int = 0, anew: int = 0) -> float:
        """Look how it stands, and tell it when that is a change. Seconds after which to ask again; 0 when all is told.

        `anew`: tell it in any case, in a version after this one. Raises `Problem`.
        """
        async with self._control.transaction() as transaction:
            await transaction.execute(LOCK, quota)
            found = await transaction.fetchrow(READ, quota, tenant)
            if found is None:
                self._known.pop(quota, None)
                return 0.0
            row = dict(found)
            one, told, now = quota_of(row), told_of(row), row["now"]
            if (wait_s := self._early(one, told, row["scope_told_at"], now)) > 0:
                return wait_s
            (state,) = await self._look(tenant, [one])
            standing = standing_of(one, taken_of(one, state), now=now, refused=refused, told=told)
            self._learn(one, standing, taken_of(one, state))
            due = due_at(one, standing, resets_at(state, now), now)
            if anew or changed(one, standing, told):
                version = max(told.version if told else 0, anew) + 1
                await write(transaction, tenant, one, state, standing, version, now)
            elif due is not None:
                await transaction.execute(PUT_OFF, quota, due)
        return 0.0

    async def tell_due(self) -> None:
        """Look at the quotas that nobody has told of, that were changed, or whose window has passed."""
        slots = asyncio.Semaphore(LOOKS_AT_ONCE)

        async def look(tenant: TenantId, quota: int) -> None:
            async with slots:
                if wait_s := await self.tell(tenant, quota):
                    self.ask(tenant, quota, after_s=wait_s)

        due = await self._control.fetch(DUE, DUE_MAX)
        told = await asyncio.gather(*(look(TenantId(row["tenant"]), row["id"]) for row in due), return_exceptions=True)
        for failure in (one for one in told if isinstance(one, BaseException)):
            log("quota_not_told", error=repr(failure))

    async def close(self) -> None:
        """Wait, for seconds, until what was noticed is told. What is not, the next call or sweep notices."""
        if self._working is not None:
            await asyncio.wait({self._working}, timeout=CLOSE_TIMEOUT_S)
            self._working.cancel()

    def _doubtful(self, quota: Quota, taken: int) -> bool:
        """Whether this differs from what was found last, or that was long ago."""
        known = self._known.get(quota.id)
        if known is None:
            return taken >= quota.amount
        return known.amount != quota.amount or taken < known.taken or monotonic() - known.at > AGAIN_S

    def _learn(self, quota: Quota, standing: Standing, taken: int) -> None:
        if standing == "below":
            self._known.pop(quota.id, None)
            return
        if len(self._known) >= ASKED_MAX:
            self._known.clear()
        self._known[quota.id] = Known(quota.amount, taken, monotonic())

    def _early(self, quota: Quota, told: Told | None, scope_told_at: datetime | None, now: datetime) -> float:
        """Seconds until the next event of this quota may be told."""
        since_scope = (now - scope_told_at).total_seconds() if scope_told_at else TOLD_EVERY_S
        since_own = (now - told.at).total_seconds() if told else RATE_TOLD_EVERY_S
        of_rate = RATE_TOLD_EVERY_S - since_own if is_rate(quota) and told and told.amount == quota.amount else 0.0
        return max(0.0, TOLD_EVERY_S - since_scope, of_rate)

    async def _work(self) -> None:
        while self._asked:
            self._more.clear()
            next_s = min(asked.after for asked in self._asked.values()) - monotonic()
            if next_s > 0:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._more.wait(), next_s)
                continue
            await self._look_at([place for place, asked in self._asked.items() if asked.after <= monotonic()])

    async def _look_at(self, places: Sequence[Place]) -> None:
        for place in places:
            asked = self._asked.pop(place)
            try:
                wait_s = await self.tell(*place, refused=asked.refused)
            except Exception as failure:  # noqa: BLE001  away, or changed meanwhile: it is looked at again
                log("quota_told_late", quota=place[1], error=repr(failure))
                wait_s = RETRY_S
            if wait_s:
                self.ask(*place, refused=asked.refused, after_s=wait_s)


async def write(
    transaction: ControlTransaction,
    tenant: TenantId,
    quota: Quota,
    state: State,
    standing: Standing,
    version: int,
    now: datetime,
) -> None:
    """Note what is told, and leave the event in the outbox."""
    resets = resets_at(state, now)
    await transaction.execute(
        WRITE, quota.id, version, standing, quota.amount, taken_of(quota, state), resets, now,
        due_at(quota, standing, resets, now),
    )  # fmt: skip
    data = {
        "used": state.used,
        "reserved": state.reserved,
        "resets_at": rendered_time(resets) if resets else None,
    }
    await transaction.emit(event_of(tenant, quota, standing, version=version, at=now, more=data))


async def tell_removed(transaction: ControlTransaction, tenant: TenantId, quota: int) -> None:
    """Tell, as the last thing of it, that a quota is taken away. Its row must be locked and still there."""
    row = await transaction.fetchrow(REMOVED, quota)
    if row is not None:  # else it was never told of
        event = event_of(tenant, quota_of(dict(row)), "removed", version=row["version"] + 1, at=row["now"], more={})
        await transaction.emit(event)


def event_of(
    tenant: TenantId, quota: Quota, standing: str, *, version: int, at: datetime, more: Mapping[str, object]
) -> CloudEvent:
    """The event of one version of a quota's standing. Its id follows from both, so told twice it is one."""
    data = {
        "id": quota.id, "version": version, "scope": quota.scope, "name": quota.name, "metric": quota.metric,
        "window": quota.window, "hard": quota.hard, "limit": quota.amount, "state": standing,
        "told_at": rendered_time(at), **more,
    }  # fmt: skip
    return CloudEvent(f"quota-{quota.id}-{version}", SOURCE, UPDATED, f"quota/{quota.id}", tenant, at, data)


def quota_of(row: Mapping[str, Any]) -> Quota:  # Any: a database row
    return Quota(row["id"], row["scope"], row["name"], row["metric"], row["span"], row["amount"], row["hard"])


def told_of(row: Mapping[str, Any]) -> Told | None:  # Any: a database row
    if row["version"] is None:
        return None
    return Told(row["version"], row["standing"], row["told_amount"], row["taken"], row["resets_at"], row["told_at"])
