"""A queue in which tenants take turns, and none has more in flight than its share."""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from typing import Generic, TypeVar

T = TypeVar("T")


class TenantQueue(Generic[T]):
    """At most `concurrency` items in flight, of which one tenant has at most half, rounded up."""

    def __init__(self, concurrency: int) -> None:
        self._concurrency = concurrency
        self._share = (concurrency + 1) // 2
        self._waiting: OrderedDict[str, deque[T]] = OrderedDict()
        self._in_flight: Counter[str] = Counter()
        self._closed = False

    def push(self, tenant: str, item: T) -> None:
        self._waiting.setdefault(tenant, deque()).append(item)

    def take(self) -> tuple[str, T] | None:
        """The oldest item of the tenant whose turn it is, or None when nothing may start. Follow with `done`."""
        if self._closed or self._in_flight.total() >= self._concurrency:
            return None
        tenant = next((one for one in self._waiting if self._in_flight[one] < self._share), None)
        if tenant is None:
            return None
        items = self._waiting.pop(tenant)
        item = items.popleft()
        if items:
            self._waiting[tenant] = items  # behind the others: its next turn comes after theirs
        self._in_flight[tenant] += 1
        return tenant, item

    def done(self, tenant: str) -> None:
        """An item of the tenant's is no longer in flight."""
        self._in_flight[tenant] -= 1
        if not self._in_flight[tenant]:
            del self._in_flight[tenant]

    def close(self) -> None:
        """Nothing starts any more."""
        self._closed = True
