"""What guardrails are shown of a call. Bytes, order and status are the same with them and without."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import dataclass

from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted
from shared.function import Call
from shared.guardrails import Guardrails, Watched
from shared.guardrails.watch import Direction
from shared.llm.presence import Stream
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets


@dataclass(frozen=True)
class Watch:
    """One call's."""

    guardrails: Guardrails
    call: Call
    tenant: TenantDatabase
    sealing: TenantSecrets

    def asked(self, wanted: Wanted) -> None:
        self._watched("request").body(wanted.content, len(wanted.raw))

    def answered(self, response: Response) -> Response:
        """The same response, shown as it passes. Errors are not shown."""
        if self.guardrails.off(self.tenant.tenant):
            return response
        if isinstance(response, Stream):
            response.pieces = passing(response.pieces, self._watched("answer"))
        elif response.status_code == 200:
            self._watched("answer").answer(bytes(response.body))
        return response

    def _watched(self, direction: Direction) -> Watched:
        key_id = self.call.caller.key_id
        return self.guardrails.watch(
            self.tenant, self.sealing, request_id=self.call.request_id, key_id=key_id, direction=direction
        )


async def passing(pieces: AsyncGenerator[bytes, None], watched: Watched) -> AsyncGenerator[bytes, None]:
    """The pieces. However this ends, they have been closed when it has ended."""
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                watched.piece(piece)
                yield piece
    finally:
        watched.ended()
