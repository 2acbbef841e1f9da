"""What the counters must say, from first principles: every call is kept, and each question is answered by adding up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from shared.quotas.counters import OpenRow as Open
from shared.quotas.counters import Sums, Wanted
from shared.quotas.limits import Quota
from shared.usage.prices import Charge

LEASE_S = 45


def start_of(window: str, at_s: int) -> int:
    """The second in which the bucket of that second begins."""
    kind, _, unit = window.partition(":")
    if kind == "ever":
        return 0
    if kind == "rolling":
        length = int(unit) // 60
        return at_s // length * length
    at = datetime.fromtimestamp(at_s, UTC)
    midnight = at.replace(hour=0, minute=0, second=0)
    starts = {
        "minute": at.replace(second=0),
        "hour": at.replace(minute=0, second=0),
        "day": midnight,
        "week": midnight - timedelta(days=at.weekday()),
        "month": midnight.replace(day=1),
    }
    return int(starts[unit].timestamp())


def counts(window: str, at_s: int, now_s: int) -> bool:
    """Whether what was begun at that second is still within the window."""
    kind, _, unit = window.partition(":")
    if kind == "rolling":
        return start_of(window, at_s) > start_of(window, now_s) - 61 * (int(unit) // 60)
    return start_of(window, at_s) == start_of(window, now_s)


@dataclass
class Call:
    """One reservation and what became of it."""

    id: str
    at_s: int
    lease_s: int
    amounts: dict[int, int]
    """Reserved, by quota."""
    state: str = "open"
    used: Charge = field(default_factory=Charge)
    xid: int = 0

    def figures(self, quota: Quota) -> tuple[int, int]:
        """Used and reserved on that quota's counter."""
        reserved = self.amounts.get(quota.id, 0)
        if self.state == "settled":
            return (0 if quota.metric == "parallel" else self.used.of(quota.metric)), 0
        if self.state == "charged":
            return (0 if quota.metric == "parallel" else reserved), 0
        return 0, reserved if self.state == "open" else 0


@dataclass
class Model:
    quotas: Sequence[Quota]
    now_s: int
    calls: dict[str, Call] = field(default_factory=dict)
    committed: int = 0
    """The newest transaction of the ledger."""

    def figures(self, quota: Quota) -> tuple[int, int]:
        """Used and reserved within the quota's window."""
        within = [call for call in self.calls.values() if counts(quota.window, call.at_s, self.now_s)]
        pairs = [call.figures(quota) for call in within]
        return sum(used for used, _ in pairs), sum(reserved for _, reserved in pairs)

    def sweep(self) -> None:
        for call in self.calls.values():
            if call.state == "open" and call.lease_s <= self.now_s:
                call.state = "charged"

    def fits(self, wanted: Sequence[Wanted]) -> bool:
        return all(
            not one.quota.hard or one.amount == 0 or sum(self.figures(one.quota)) + one.amount <= one.quota.amount
            for one in wanted
        )

    def reserve(self, name: str, wanted: Sequence[Wanted]) -> bool:
        self.sweep()
        if name in self.calls:
            return True
        if not self.fits(wanted):
            return False
        amounts = {one.quota.id: one.amount for one in wanted}
        self.calls[name] = Call(name, self.now_s, self.now_s + LEASE_S, amounts)
        return True

    def extend(self, name: str, wanted: Sequence[Wanted]) -> bool | None:
        call = self.calls.get(name)
        if call is None or call.state != "open":
            return None
        if not self.fits(wanted):
            return False
        for one in wanted:
            call.amounts[one.quota.id] += one.amount
        call.lease_s = self.now_s + LEASE_S
        return True

    def settle(self, call: Call, used: Charge) -> None:
        if call.state in ("open", "charged"):
            self.committed += 1
            call.state, call.used, call.xid = "settled", used, self.committed

    def release(self, call: Call) -> None:
        if call.state in ("open", "charged"):
            call.state = "released"

    def forget(self) -> None:
        """Redis is emptied. What is open in the ledger is leased anew by who builds; the other names are free."""
        for name, call in list(self.calls.items()):
            if call.state in ("open", "charged"):
                call.state, call.lease_s = "open", self.now_s + LEASE_S
            else:
                self.calls[f"{name} until {len(self.calls)}"] = self.calls.pop(name)

    def sums(self, quota: Quota) -> Sums:
        """What the ledger has for that counter: rows that ended, and those that are open with what they reserved."""
        used = [
            (start_of(quota.window, call.at_s), call.figures(quota)[0])
            for call in self.calls.values()
            if call.state == "settled"
        ]
        opened = [
            Open(call.id, call.at_s * 1_000_000, Charge(call.amounts.get(quota.id, 0), call.amounts.get(quota.id, 0)))
            for call in self.calls.values()
            if call.state in ("open", "charged")
        ]
        return Sums(f"{self.committed + 1}:{self.committed + 1}:", used, opened)
