"""A tenant's counters in Redis: reserve before a call, settle after it. Each is one run of `counters.lua`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from shared.errors import Fault
from shared.ids import TenantId
from shared.quotas.limits import Metric, Quota
from shared.redis import Script
from shared.usage.prices import Charge

LEASE_MS = 45_000
"""How long a reservation outlives the last sign of its process."""
SCRIPT = Path(__file__).with_name("counters.lua").read_text(encoding="utf-8")


class State(NamedTuple):
    """One counter after a change. `ends_ms` is when its window has passed, -1 for never."""

    used: int
    reserved: int
    ends_ms: int


@dataclass(frozen=True)
class Reserved:
    """Everything asked for is reserved. `at_us` is Redis's time, microseconds since 1970."""

    at_us: int
    states: tuple[State, ...]


@dataclass(frozen=True)
class Inside:
    """A counter from within. `held`: what open reservations hold together, which `reserved` should be. `buckets`: what
    is used by bucket, which together should be `used`; `newest` is the one of this moment."""

    used: int
    reserved: int
    held: int
    newest: int
    buckets: Mapping[int, int]


@dataclass(frozen=True)
class Refused:
    """Nothing is reserved: the limit at `place` has no room. `wait_ms` is -1 when waiting does not help."""

    place: int
    used: int
    reserved: int
    wait_ms: int


@dataclass(frozen=True)
class Missing:
    """Nothing is reserved: the counters at these places have to be built first."""

    places: tuple[int, ...]


@dataclass(frozen=True)
class Gone:
    """There is no open reservation to extend."""


class Wanted(NamedTuple):
    """An amount to reserve on a quota's counter."""

    quota: Quota
    amount: int


@dataclass(frozen=True)
class OpenRow:
    """A call that is open in the ledger, and what it reserved."""

    id: str
    started_us: int
    charge: Charge
    call: str = ""


@dataclass(frozen=True)
class Sums:
    """What the ledger says of one counter: the snapshot it was read in, usage by bucket, and the open calls."""

    snapshot: str
    used: Sequence[tuple[int, int]]
    """Second in which a bucket begins, and the amount."""
    open: Sequence[OpenRow] = ()


@dataclass(frozen=True)
class Row:
    """A row of the ledger, as far as counters count it. `xid` is the transaction that committed it."""

    id: str
    xid: int
    started_us: int
    charge: Charge


class Counters:
    """The counters of all tenants. Every method raises `Unavailable` while Redis does not answer."""

    def __init__(self, script: Script, *, lease_ms: int = LEASE_MS) -> None:
        self._script = script
        self.lease_ms = lease_ms

    async def reserve(
        self, tenant: TenantId, reservation: str, wanted: Sequence[tuple[Quota, int]], call: str = ""
    ) -> Reserved | Refused | Missing:
        """Reserve all or nothing, under the name `reservation`; repeated, it reserves once.

        `call` is kept beside it: what the ledger's row needs if this process dies.
        """
        return admitted(await self._run(tenant, "reserve", reservation, self.lease_ms, call, text_of(wanted)))

    async def extend(
        self, tenant: TenantId, reservation: str, wanted: Sequence[Wanted]
    ) -> Reserved | Refused | Missing | Gone:
        """Reserve more for an open reservation, all or nothing."""
        told = await self._run(tenant, "extend", reservation, self.lease_ms, text_of(wanted))
        return Gone() if told[0] == b"gone" else admitted(told)

    async def look(self, tenant: TenantId, quotas: Sequence[Quota]) -> Reserved | Missing:
        """How these quotas' counters stand. Nothing is reserved."""
        told = admitted(await self._run(tenant, "look", text_of([Wanted(quota, 0) for quota in quotas])))
        assert not isinstance(told, Refused)  # as nothing is wanted
        return told

    async def inspect(self, tenant: TenantId, quota: Quota) -> Inside | None:
        """The counter from within; None when it is not there."""
        told = await self._run(tenant, "inspect", quota.counter)
        if told[0] == b"missing":
            return None
        used, reserved, held, newest, *buckets = [int(number) for number in told[1].split()]
        return Inside(used, reserved, held, newest, dict(zip(buckets[::2], buckets[1::2], strict=True)))

    async def settle(self, tenant: TenantId, row: Row, quotas: Iterable[Quota]) -> Sequence[str]:
        """Count what a row of the ledger says in place of what was reserved for it. Repeated, it counts once.

        Returns the counters of those quotas of which all is used with that.
        """
        limits = " ".join([f"c{quota.id} {quota.amount}" for quota in quotas])
        charge = row.charge
        arguments = (row.id, row.xid, row.started_us, charge.micro_usd, charge.tokens, limits)
        full: list[Any] = await self._script.run(prefix_of(tenant), "settle", *arguments, patient=True)  # Any: names
        return [name.decode() for name in full] if full else ()

    async def release(self, tenant: TenantId, reservation: str) -> None:
        """Free what is reserved. For a call that was not made and of which the ledger says nothing."""
        await self._run(tenant, "release", reservation)

    async def renew(self, tenant: TenantId, reservations: Sequence[str]) -> list[str]:
        """Put off the end of these leases. Returns those that have ended or are unknown."""
        lost = await self._run(tenant, "renew", self.lease_ms, *reservations)
        return [one.decode() for one in lost]

    async def dead(self, tenant: TenantId, *, ahead_ms: int = 0, count: int = 100) -> list[OpenRow]:
        """Reservations whose lease has ended. They are charged as reserved, until a row settles them."""
        told = await self._run(tenant, "dead", ahead_ms, count)
        found = []
        for place in range(0, len(told), 2):
            started_us, _, call = told[place + 1].decode().partition(" ")
            found.append(OpenRow(told[place].decode(), int(started_us), Charge(), call))
        return found

    async def build(self, tenant: TenantId, quota: Quota, builder: str) -> str:
        """`build` when this builder may install the counter, `wait` while another one does, `there` when it is done."""
        told = await self._run(tenant, "build", quota.counter, builder)
        return str(told[0].decode())

    async def rebuild(self, tenant: TenantId, quota: Quota, builder: str) -> None:
        """Forget the counter. This builder may install it; until then calls wait for it."""
        await self._run(tenant, "rebuild", quota.counter, builder)

    async def install(self, tenant: TenantId, quota: Quota, builder: str, sums: Sums) -> bool:
        """Put the counter there as the ledger says. False when another builder has taken over."""
        used = [value for bucket in sums.used for value in bucket]
        opened = [value for row in sums.open for value in open_arguments(row, quota.metric)]
        told = await self._run(
            tenant, "install", quota.counter, quota.window, quota.metric, builder, sums.snapshot, self.lease_ms,
            len(sums.used), *used, *opened,
        )  # fmt: skip
        return bool(told[0] == b"built")

    async def close(self) -> None:
        await self._script.close()

    async def _run(self, tenant: TenantId, *arguments: str | int) -> list[Any]:  # Any: the script's answer
        return await self._script.run(prefix_of(tenant), *arguments)


def prefix_of(tenant: TenantId) -> str:
    return f"q:{{{tenant}}}:"


def text_of(wanted: Sequence[tuple[Quota, int]]) -> str:
    texts = []
    for quota, amount in wanted:
        before, after = quota.as_asked
        texts.append(f"{before}{amount}{after}")
    return " ".join(texts)


def open_arguments(row: OpenRow, metric: Metric) -> tuple[str | int, ...]:
    return row.id, row.started_us, row.charge.of(metric), row.call


def admitted(told: Sequence[Any]) -> Reserved | Refused | Missing:  # Any: the script's answer
    match told[0]:
        case b"ok":
            numbers = map(int, told[2].split())
            return Reserved(int(told[1]), tuple(map(State, numbers, numbers, numbers)))
        case b"refused":
            return Refused(*told[1:5])
        case b"missing":
            return Missing(tuple(told[1:]))
    raise Fault(f"the quota script answered {told[:1]!r}")
