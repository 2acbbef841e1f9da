"""Metering of calls: reserved before, written down, settled after. Exactly one row of the ledger and one charge each.

A call is known in two places before anybody gets a byte of its answer: its reservation in Redis, made before the
provider is asked, outlives this process; its open row in PostgreSQL, written meanwhile, outlives Redis. Decision 17.
"""

from __future__ import annotations

import asyncio
import json
from collections import defaultdict
from dataclasses import replace
from uuid import UUID, uuid4

from shared.clock import Clock
from shared.errors import Problem, Unavailable
from shared.identity import Caller
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.quotas.building import TRIES_MAX, Building
from shared.quotas.charging import charge_of, ended_of, output_that_fits, price_at, stopping
from shared.quotas.counters import Counters, Gone, Missing, Refused, Reserved, Row, Wanted
from shared.quotas.limits import Quota
from shared.quotas.metered import NOTHING, Metered
from shared.quotas.refusals import refusal, unpriced
from shared.quotas.stored import StoredQuotas
from shared.quotas.telling import Telling
from shared.telemetry import log
from shared.usage import Ledger, OpenCall, Outcome, Price, Tokens
from shared.usage.ledger import CLOSE_TIMEOUT_S, DEAD_AFTER_S, LATE_MAX, Written
from shared.usage.own_prices import StoredPrices

SEEN_EVERY_S = 10.0
LEAST_PIECE = 256
"""Output tokens that a stream has to have room for to begin."""
SETTLED_WITHIN_S = 1.0
TENANTS = "SELECT id FROM tenants WHERE state <> 'deleted' ORDER BY id"


class Meter:
    """This process's metering. While calls are open it says every ten seconds that it lives."""

    def __init__(
        self,
        control: ControlDatabase,
        counters: Counters,
        clock: Clock | None = None,
        *,
        seen_every_s: float = SEEN_EVERY_S,
    ) -> None:
        self._control = control
        self._counters = counters
        self._clock = clock or Clock()
        self._seen_every_s = seen_every_s
        self._ledger = Ledger(control, uuid4().hex)
        self._quotas = StoredQuotas(control)
        self.building = Building(control, counters)
        self.telling = Telling(control, self.building.states)
        self._own_prices = StoredPrices(control)
        self._open: dict[UUID, Metered] = {}
        self._late: dict[UUID, Metered] = {}
        self._unsettled: dict[UUID, tuple[Metered, int]] = {}
        self._ending: dict[UUID, asyncio.Task[None]] = {}
        self._releasing: set[asyncio.Task[None]] = set()
        self._beating: asyncio.Task[None] | None = None

    async def begin(
        self,
        caller: Caller,
        *,
        request_id: str,
        model: str,
        provider: str,
        feature: str = "chat",
        prices: str = "",
        price: Price | None = None,
        most: Tokens = NOTHING,
        least_output: int | None = None,
        piece_output: int | None = None,
    ) -> Metered:
        """Let a call in that takes at most these tokens. Its model may be asked only after this.

        `prices`: under which name the table has the prices of a seller that asks others than the publisher. With
        `price`, that one holds. Whichever does, it holds until the call has ended.

        With `least_output`, a call that does not fit gets as many output tokens as there is room for, if it is that
        many at least.

        With `piece_output`, so many output tokens are reserved at first, where every hard limit on money or tokens that
        holds stops a stream that reaches it; the rest by `extend`.

        Raises `QuotaExceeded` or `BeyondQuota`, and `Unavailable` when it could not be accounted for.
        """
        if len(self._late) + len(self._unsettled) >= LATE_MAX:
            raise Unavailable("the usage ledger cannot be written; no further calls are taken", retry_after_s=10)
        known = await self._quotas.of(caller.tenant)
        tags = tuple(sorted(caller.tags))
        quotas = known.concerning(caller.key_id, tags, model)
        now = self._clock.now()
        if price is None:
            price = price_at(await self._own_prices.of(caller.tenant), model, provider, prices, now)
        call = OpenCall(
            uuid4(), int(now.timestamp() * 1_000_000), caller.tenant, caller.key_id, request_id, model,
            provider, feature, tags, price=price,
        )  # fmt: skip
        piece = min(piece_output or most.output, most.output)
        pieces = piece < most.output and stopping(quotas)
        first = replace(most, output=piece) if pieces else most
        try:
            metered = await self._admitted(call, quotas, first, LEAST_PIECE if pieces else least_output)
            metered.whole = most if pieces else metered.most
            return metered
        except Unavailable:
            if any(quota.refuses for quota in quotas):
                self._keep(asyncio.create_task(self._released(call), name="release"))  # it may be reserved all the same
                raise
            reserved = replace(call, reserved=charge_of(price, most))
            return await self._begun(Metered(reserved, quotas, (), most, most), wait=True)  # nothing depends on Redis

    async def extend(self, metered: Metered, output: int) -> Quota | None:
        """Reserve so many output tokens more for an open call, or as many as there is room for. None when there are
        some; else the limit that has no room. Raises `Unavailable`."""
        for _ in range(TRIES_MAX):
            told = await self._extended(metered, output)
            if isinstance(told, Reserved):
                return None
            if isinstance(told, Refused):
                quota = metered.budgets[told.place]
                output = min(output - 1, output_that_fits(metered.call, quota, told, Tokens(output=output)))
                if output <= 0:
                    piece = charge_of(metered.call.price, Tokens(output=LEAST_PIECE)).of(quota.metric)
                    self.telling.refused(metered.call.tenant, quota, piece)
                    return quota
            else:  # Redis was emptied; with the counters the reservation is built too
                await self.building.states(metered.call.tenant, metered.quotas)
        raise Unavailable("the quotas' counters cannot be built, or change too fast", retry_after_s=2)

    def delivered(self, metered: Metered, taken: Tokens) -> None:
        """Say that an open call is cut short: if nobody says what it used, it is charged as having taken this."""
        metered.call = replace(metered.call, reserved=charge_of(metered.call.price, taken))

    def end(
        self, metered: Metered, outcome: Outcome, used: Tokens | None, *, saved_micro_usd: int | None = None
    ) -> int | None:
        """Have the call's row written and its reservation settled. Returns its cost in micro-USD, or None when that is
        not known. Neither raises nor waits; what fails is tried again. Only the first end counts.

        `saved_micro_usd`: what the answer had cost that was given again in place of this call's own.
        """
        if metered.ended is None:
            metered.ended = ended_of(metered.call, outcome, used, saved_micro_usd=saved_micro_usd)
            self._ending[metered.call.id] = asyncio.create_task(self._end(metered), name="call-end")
        return metered.ended.cost_micro_usd

    async def written(self, metered: Metered) -> None:
        """Return once the call's row is written, or could not be at its time."""
        if ending := self._ending.get(metered.call.id):
            await asyncio.wait({ending})

    async def sweep(self, *, dead_after_s: float = DEAD_AFTER_S) -> None:
        """End the calls of processes that died, charged as reserved; settle what such a process had not settled."""
        for row in await self._ledger.sweep(dead_after_s=dead_after_s):
            await self._settle_row(row)
        ahead_ms = max(0, self._counters.lease_ms - int(dead_after_s * 1000))
        for tenant in [TenantId(row["id"]) for row in await self._control.fetch(TENANTS)]:
            dead = await self._counters.dead(tenant, ahead_ms=ahead_ms)
            if dead:
                calls = {UUID(one.id): (one.started_us, one.call) for one in dead}
                for row in await self._ledger.bury(calls):
                    await self._settle_row(row)

    async def close(self) -> None:
        """Wait, for seconds, until what has ended is written and settled."""
        if self._beating is not None:
            self._beating.cancel()
        await self.flush()
        await self._catch_up()
        await self.telling.close()
        await self._counters.close()

    async def flush(self) -> None:
        """Wait, for seconds, until what has ended is written and settled, as far as that is possible now."""
        if waiting := {*self._ending.values(), *self._releasing}:
            await asyncio.wait(waiting, timeout=CLOSE_TIMEOUT_S)
        await self._ledger.flush()

    async def _begun(self, metered: Metered, *, wait: bool) -> Metered:
        call = metered.call
        metered.opened = self._ledger.open(call)
        self._open[call.id] = metered
        self._keep_beating()
        if wait:
            try:
                await metered.durable()
            except BaseException:  # it may have been written all the same
                self._late[call.id] = metered
                self._keep(asyncio.create_task(self._withdrawn(metered), name="withdraw"))
                raise
        return metered

    async def _admitted(
        self, call: OpenCall, quotas: tuple[Quota, ...], most: Tokens, least_output: int | None
    ) -> Metered:
        """The call with its reservation, at the time of Redis."""
        if call.price is None and any(quota.refuses and quota.metric == "micro_usd" for quota in quotas):
            raise unpriced(call.model)
        settled = False
        for _ in range(TRIES_MAX):
            call.reserved = charge_of(call.price, most)
            told = await self._reserved(call, quotas)
            if isinstance(told, Reserved):
                call.started_us = told.at_us
                metered = Metered(call, quotas, told.states, most)
                self.telling.saw(call.tenant, quotas, told.states)
                return await self._begun(metered, wait=self._ledger.doubtful)
            if isinstance(told, Missing):
                await self.building.built(call.tenant, [quotas[place] for place in told.places])
                continue
            if not settled:
                settled = True
                if await self._settled(call.tenant):
                    continue
            quota = quotas[told.place]
            output = output_that_fits(call, quota, told, most)
            if least_output is None or not least_output <= output < most.output:
                amount = call.reserved.of(quota.metric)
                self.telling.refused(call.tenant, quota, amount)
                raise refusal(quota, told, amount, self._clock.now().timestamp())
            most = replace(most, output=output)
        raise Unavailable("the quotas' counters cannot be built, or change too fast", retry_after_s=2)

    async def _settled(self, tenant: TenantId) -> bool:
        """Wait for what of the tenant's has ended here and still holds its reservation, for milliseconds as a rule.
        Whether there was any: who asks again at once, with the last answer in hand, is not refused because of it."""
        ending = {task for call_id, task in self._ending.items() if self._is_of(call_id, tenant)}
        if ending:
            await asyncio.wait(ending, timeout=SETTLED_WITHIN_S)
        return bool(ending)

    def _is_of(self, call_id: UUID, tenant: TenantId) -> bool:
        metered = self._open.get(call_id)
        return metered is not None and metered.call.tenant == tenant

    async def _reserved(self, call: OpenCall, quotas: tuple[Quota, ...]) -> Reserved | Refused | Missing:
        wanted = [(quota, call.reserved.of(quota.metric)) for quota in quotas]
        try:
            return await self._counters.reserve(call.tenant, call.id.hex, wanted, json.dumps(call.fields()))
        except asyncio.CancelledError:  # the server may reserve all the same, for a call that is not made
            self._keep(asyncio.create_task(self._released(call), name="release"))
            raise

    async def _extended(self, metered: Metered, output: int) -> Reserved | Refused | Missing | Gone:
        """The reservation made larger where Redis and, before anybody relies on it, PostgreSQL have it."""
        call = metered.call
        most = replace(metered.most, output=metered.most.output + output)
        reserved = charge_of(call.price, most)
        wanted = [Wanted(one, reserved.of(one.metric) - call.reserved.of(one.metric)) for one in metered.budgets]
        told = await self._counters.extend(call.tenant, call.id.hex, wanted)
        if isinstance(told, Reserved):
            metered.call, metered.most = replace(call, reserved=reserved), most
            await self._ledger.extend(metered.call)
        return told

    async def _withdrawn(self, metered: Metered) -> None:
        """Take back a call that was not let in, so that no row will tell of it."""
        await asyncio.wait({metered.opened})
        try:
            await self._ledger.withdraw(metered.call)
        except Exception as failure:  # noqa: BLE001  away still; a later beat takes it back
            log("call_withdrawn_late", call_id=str(metered.call.id), error=repr(failure))
            return
        await self._released(metered.call)
        self._late.pop(metered.call.id, None)
        self._open.pop(metered.call.id, None)

    async def _released(self, call: OpenCall) -> None:
        try:
            await self._counters.release(call.tenant, call.id.hex)
        except Problem as failure:  # it is charged when its lease ends
            log("reservation_not_released", call_id=str(call.id), error=repr(failure))

    def _keep(self, task: asyncio.Task[None]) -> None:
        self._releasing.add(task)
        task.add_done_callback(self._releasing.discard)

    async def _end(self, metered: Metered) -> None:
        call, ended = metered.call, metered.ended
        assert ended is not None
        try:
            if not metered.opened.done():  # written or not: its row must not come after it was taken away
                await asyncio.wait({metered.opened})
            try:
                xid = await self._ledger.close(call, ended)
            except Exception as failure:  # noqa: BLE001  away, read-only after a failover: the row must not be lost
                self._late[call.id] = metered
                log("ledger_row_late", call_id=str(call.id), error=repr(failure))
                return
            self._late.pop(call.id, None)
            await self._settle(metered, xid)
        finally:
            self._ending.pop(call.id, None)

    async def _settle(self, metered: Metered, xid: int | None) -> None:
        call, ended = metered.call, metered.ended
        assert ended is not None
        if xid is not None:  # else the sweeper wrote the row, and settles it
            quotas = metered.quotas  # those reserved on, and those made since
            now = self._quotas.last_known(call.tenant).concerning(call.key_id, call.tags, call.model)
            if now is not quotas:
                quotas = tuple({quota.id: quota for quota in (*quotas, *now)}.values())
            row = Row(call.id.hex, xid, call.started_us, ended.charge)
            try:
                await self._count(call.tenant, row, quotas)
            except Problem as failure:
                self._unsettled[call.id] = metered, xid
                log("quota_settled_late", call_id=str(call.id), error=repr(failure))
                return
        self._unsettled.pop(call.id, None)
        self._open.pop(call.id, None)

    async def _settle_row(self, row: Written) -> None:
        """Settle a row of a call that another process began."""
        known = await self._quotas.of(row.tenant)
        quotas = known.concerning(row.key_id, row.tags, row.model)
        await self._count(row.tenant, Row(row.id.hex, row.xid, row.started_us, row.charge), quotas)

    async def _count(self, tenant: TenantId, row: Row, quotas: tuple[Quota, ...]) -> None:
        if full := await self._counters.settle(tenant, row, quotas):
            self.telling.full(tenant, [quota for quota in quotas if quota.counter in full])

    def _keep_beating(self) -> None:
        if self._beating is None or self._beating.done():
            self._beating = asyncio.create_task(self._beat(), name="meter-heartbeat")

    async def _beat(self) -> None:
        while self._open:
            await asyncio.sleep(self._seen_every_s)
            await self._catch_up()
            for sign in (self._renew, self._seen):
                try:
                    await sign()
                except Exception as failure:  # noqa: BLE001  the next beat may succeed; without, the sweeper comes
                    log("meter_heartbeat_failed", error=repr(failure))

    async def _seen(self) -> None:
        await self._ledger.seen(self._open)

    async def _renew(self) -> None:
        by_tenant: defaultdict[TenantId, list[str]] = defaultdict(list)
        for metered in list(self._open.values()):
            by_tenant[metered.call.tenant].append(metered.call.id.hex)
        for tenant, reservations in by_tenant.items():
            await self._counters.renew(tenant, reservations)

    async def _catch_up(self) -> None:
        """Write and settle what could not be written and settled at its time."""
        for metered in list(self._late.values()):
            await (self._withdrawn(metered) if metered.ended is None else self._end(metered))
            if metered.call.id in self._late:
                log("ledger_rows_late", count=len(self._late))
                return
        for metered, xid in list(self._unsettled.values()):
            await self._settle(metered, xid)
            if metered.call.id in self._unsettled:
                return
