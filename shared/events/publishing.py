"""Publishing events, whatever carries them: the local JetStream stream, or a Knative Broker."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from shared.errors import TooLarge
from shared.events.cloudevent import CloudEvent
from shared.events.http import BODY_BYTES_MAX, to_structured
from shared.ids import TenantId

Sign = Callable[[CloudEvent], CloudEvent]


class Carrier(Protocol):
    """What takes events over."""

    async def store(self, event: CloudEvent) -> bool:
        """Return once the carrier keeps the event; False when it is known to have had it already.

        Raises `Unavailable` for what a repetition may cure, `TooLarge` for what none will.
        """

    async def forget(self, tenant: TenantId) -> None:
        """Remove what is kept of a tenant, where the carrier can. Raises `Unavailable`."""

    async def close(self) -> None: ...


class Events:
    """Publishes events that belong to no transaction. Those that do go through `transaction.emit` and the relay."""

    def __init__(self, carrier: Carrier, *, sign: Sign) -> None:
        self._carrier = carrier
        self._sign = sign

    async def publish(self, event: CloudEvent) -> bool:
        """Sign the event and hand it over; False when it was a duplicate. Raises `Unavailable`, `TooLarge`."""
        return await self._carrier.store(self._sign(event))

    async def forget(self, tenant: TenantId) -> None:
        """Remove what the carrier holds of a tenant. Raises `Unavailable`."""
        await self._carrier.forget(tenant)

    async def close(self) -> None:
        await self._carrier.close()


def whole(event: CloudEvent) -> tuple[dict[str, str], bytes]:
    """The event in structured mode. Raises `TooLarge` for one that no function would take."""
    headers, body = to_structured(event)
    if len(body) > BODY_BYTES_MAX:
        raise TooLarge(f"event {event.id!r} has {len(body)} bytes; at most {BODY_BYTES_MAX}")
    return headers, body
