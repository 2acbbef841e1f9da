"""Publishing to a Knative Broker: one POST of a structured CloudEvent, done when the answer is 2xx."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.errors import TooLarge, Unavailable
from shared.events.cloudevent import CloudEvent
from shared.events.publishing import whole
from shared.events.subjects import as_sent
from shared.ids import TenantId

if TYPE_CHECKING:
    import httpx

TIMEOUT_S = 5.0
CONNECT_TIMEOUT_S = 2.0
CONNECTIONS_MAX = 20
SAID_CHARS_MAX = 200


class Broker:
    """Carries events to the Broker's ingress. It answers 2xx only once it keeps the event."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._client: httpx.AsyncClient | None = None

    async def store(self, event: CloudEvent) -> bool:
        """Hand the event over; always True, as a Broker does not tell duplicates. Raises `Unavailable`, `TooLarge`."""
        import httpx

        headers, body = whole(as_sent(event))
        try:
            answer = await self._http().post(self._url, headers=headers, content=body)
        except httpx.HTTPError as failure:
            raise Unavailable(f"the Broker does not answer: {type(failure).__name__}") from failure
        if answer.status_code == TooLarge.status:
            raise TooLarge(f"event {event.id!r} is larger than the Broker takes")
        if not answer.is_success:
            raise Unavailable(f"the Broker answered {answer.status_code}: {answer.text[:SAID_CHARS_MAX]}")
        return True

    async def forget(self, tenant: TenantId) -> None:
        """Nothing: a Broker cannot be purged. Its events end with their retention, and no function has that tenant."""

    async def close(self) -> None:
        client, self._client = self._client, None
        if client is not None:
            await client.aclose()

    def _http(self) -> httpx.AsyncClient:
        if self._client is None:
            import httpx

            self._client = httpx.AsyncClient(
                timeout=httpx.Timeout(TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
                limits=httpx.Limits(max_connections=CONNECTIONS_MAX),
                trust_env=False,
                follow_redirects=False,
            )
        return self._client
