"""An answer of a provider's that was made for another call, as a response of this caller's own.

It gets an id of ours, since the one that it came with belongs to whoever made it, and is kept here: the provider has no
response under the new id. The ids of its items stay: the provider knows these.
"""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any

from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.models import Target
from functions.gateway.llm.responses.asked import is_reference
from functions.gateway.llm.responses.replies import new_id, with_id
from functions.gateway.llm.responses.stored import Stored, Turn
from functions.gateway.llm.wires import response_tokens
from shared.llm import sse
from shared.llm.presence import Stream
from shared.llm.usage import json_object

Json = dict[str, Any]  # Any: JSON
ENDED = ("completed", "incomplete")
MARK = b'"response"'


@dataclass(frozen=True)
class Copy:
    """One, for a caller who wanted `wanted` and put `given` in."""

    stored: Stored
    wanted: Wanted
    given: Sequence[Json]
    target: Target
    provider: Provider
    id: str = field(default_factory=lambda: new_id("resp"))

    async def of(self, answer: Response) -> Response:
        """The answer with its new id. Its caller gets the end of it once it is kept."""
        headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
        if isinstance(answer, Stream):
            return Stream(self.streamed(answer.pieces), media_type=headers.pop("content-type"), headers=headers)
        content = json_object(bytes(answer.body))
        own = await self._kept(content) if content.get("status") in ENDED else self._own(content)
        return Response(json.dumps(own), answer.status_code, headers)

    async def streamed(self, pieces: AsyncGenerator[bytes, None]) -> AsyncGenerator[bytes, None]:
        """The events, in their order and with their numbers."""
        events = sse.Events()
        async with aclosing(pieces):
            async for piece in pieces:
                if told := b"".join([await self._event(event) for event in events.feed(piece)]):
                    yield told
        if rest := events.end():
            yield await self._event(sse.Event(rest, sse.data_of(rest)))

    async def _event(self, event: sse.Event) -> bytes:
        content = json_object(event.data) if MARK in event.data else {}
        response, kind = content.get("response"), content.get("type")
        if not isinstance(response, dict):
            return event.raw
        ended = kind in [f"response.{status}" for status in ENDED]
        content["response"] = await self._kept(response) if ended else self._own(response)
        return f"event: {kind}\n".encode() + sse.encode(json.dumps(content))

    def _own(self, response: Json) -> Json:
        previous = self.wanted.content.get("previous_response_id")
        return {**response, "id": self.id, "previous_response_id": previous}

    async def _kept(self, response: Json) -> Json:
        own = self._own(response)
        if self.wanted.content.get("store") is not False and not await self.stored.keep(await self._turn(own)):
            own["store"] = False
        return own

    async def _turn(self, response: Json) -> Turn:
        put_in = [one if is_reference(one) else with_id(one) for one in self.given]
        there = [one for one in put_in if not is_reference(one)]
        used = response_tokens(response)
        return Turn(
            self.id,
            self.provider.name,
            self.wanted.model,
            sorted({self.wanted.model, *self.target.names}),
            response["previous_response_id"],
            [str(one["id"]) for one in (*there, *response.get("output", ())) if one.get("id")],
            used.input + used.output if used else 0,
            await self.stored.seal(self.id, {"input": put_in, "response": response}),
        )
