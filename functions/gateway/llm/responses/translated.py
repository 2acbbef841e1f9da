"""Responses over chat completions: kept here, sealed, for models whose provider has no responses of its own."""

from __future__ import annotations

import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.models import OWN, Target
from functions.gateway.llm.reservation import length_member
from functions.gateway.llm.responses.asked import is_reference, items_of, referenced
from functions.gateway.llm.responses.events import Writer
from functions.gateway.llm.responses.replies import Reply, take, with_id
from functions.gateway.llm.responses.stored import Stored, Turn
from functions.gateway.llm.responses.turns import chat_of
from shared.errors import Malformed
from shared.llm import sse
from shared.llm.presence import Stream
from shared.llm.usage import json_object

Json = dict[str, Any]  # Any: JSON
PAGE, PAGE_MAX = 20, 100
FAILED = "server_error"


@dataclass(frozen=True)
class Translation:
    """One response on its way through a chat."""

    stored: Stored
    reply: Reply
    target: Target
    input: Sequence[Json]
    """What the caller put in, each item with an id."""

    async def ended(self) -> Json:
        """The response's object, once it is kept."""
        if self.reply.stored:
            kept = await self.stored.keep(await self._turn())
            self.reply.stored = kept
        return self.reply.ended()

    async def _turn(self) -> Turn:
        reply, provider = self.reply, self.target.provider
        content = {"input": list(self.input), "response": reply.ended()}
        items = [str(one["id"]) for one in (*self.input, *reply.output)]
        return Turn(
            reply.id,
            provider.name if provider else OWN,
            reply.wanted.model,
            sorted({reply.wanted.model, *self.target.names}),
            reply.wanted.content.get("previous_response_id"),
            items,
            reply.tokens,
            await self.stored.seal(reply.id, content),
        )


async def create(
    stored: Stored, wanted: Wanted, target: Target, ask: Callable[[Wanted], Awaitable[Response]]
) -> Response:
    """Ask by a chat, and put its answer into the form of a response. `ask`: how a chat is asked."""
    given = await resolved(stored, wanted)
    earlier = await conversation(stored, wanted.content.get("previous_response_id"))
    asked = Wanted(wanted.model, {**wanted.content, "input": given}, wanted.raw)
    answer = await ask(chat_of(asked, earlier, length=length_member(target.provider)))
    reply = Reply(wanted, stored=wanted.content.get("store") is not False)
    translation = Translation(stored, reply, target, [with_id(one) for one in given])
    headers = {name: value for name, value in answer.headers.items() if name not in ("content-length", "content-type")}
    if isinstance(answer, Stream):
        pieces = streamed(answer.pieces, translation)
        return Stream(pieces, media_type="text/event-stream", headers=headers)
    if answer.status_code != 200:
        return answer
    take(reply, json_object(bytes(answer.body)))
    return JSONResponse(await translation.ended(), headers=headers)


async def streamed(pieces: AsyncGenerator[bytes, None], translation: Translation) -> AsyncGenerator[bytes, None]:
    """The chat's stream as the response's. Its last event comes when the chat's has ended and the response is kept.

    Nothing is told before the chat's first piece: a generator that has not begun settles nothing when it is closed.
    """
    events, writer = sse.Events(), Writer(translation.reply)
    begun = False
    async with aclosing(pieces):
        async for piece in pieces:
            told = b"" if begun else writer.begin()
            begun = True
            told += b"".join([writer.take(event.data) for event in events.feed(piece)])
            if told:
                yield told
    if writer.error is not None:
        translation.reply.stored = False
        failure = {"code": FAILED, "message": str(writer.error.get("message") or "the model's stream broke")}
        yield writer.end(translation.reply.document("failed", error=failure))
        return
    yield writer.done()
    yield writer.end(await translation.ended())


async def resolved(stored: Stored, wanted: Wanted) -> list[Json]:
    """The input's items, with those that it only names in their place. Raises `NotFound`."""
    items = items_of(wanted)
    named = referenced(wanted)
    if not named:
        return items
    known: dict[str, Json] = {}
    for turn in await stored.holding(named):
        content = await content_of(stored, turn)
        known |= {one["id"]: one for one in (*content["input"], *content["response"]["output"])}
    return [known[item["id"]] if is_reference(item) else item for item in items]


async def conversation(stored: Stored, previous: str | None) -> list[Json]:
    """All items before: of each response what was put in and what came out. Raises as `chain` does."""
    if previous is None:
        return []
    found: list[Json] = []
    for turn in await stored.chain(previous):
        content = await content_of(stored, turn)
        found += [*content["input"], *content["response"]["output"]]
    return found


async def content_of(stored: Stored, turn: Turn) -> Json:
    """What the response holds. Raises `Malformed` when its provider keeps that."""
    if turn.sealed is None:
        raise Malformed(
            f"what the response {turn.id!r} holds is at provider {turn.provider!r}: go on with a model of that one, or"
            " send it as input",
            param="previous_response_id",
        )
    return await stored.content(turn)


async def listed(stored: Stored, turn: Turn, request: Request) -> Response:
    """The items that were put in, a page of them."""
    content = await stored.content(turn)
    query = request.query_params
    if unknown := set(query) - {"limit", "order", "after", "include", "include[]"}:
        raise Malformed(f"the query's {min(unknown)[:60]!r} is not supported", param=min(unknown)[:60])
    limit = page_of(query.get("limit", str(PAGE)))
    items: list[Json] = content["input"]
    if query.get("order", "desc") == "desc":
        items = items[::-1]
    ids = [one["id"] for one in items]
    after = query.get("after")
    if after is not None and after not in ids:
        raise Malformed("'after' is no item of this response", param="after")
    start = ids.index(after) + 1 if after is not None else 0
    page = items[start : start + limit]
    ends = {"first_id": page[0]["id"], "last_id": page[-1]["id"]} if page else {"first_id": None, "last_id": None}
    return JSONResponse({"object": "list", "data": page, **ends, "has_more": start + limit < len(items)})


def page_of(text: str) -> int:
    if not (text.isascii() and text.isdigit() and len(text) <= 3 and 1 <= int(text) <= PAGE_MAX):
        raise Malformed(f"'limit' is a whole number from 1 to {PAGE_MAX}", param="limit")
    return int(text)


def deleted(turn: Turn) -> Response:
    content = json.dumps({"id": turn.id, "object": "response", "deleted": True})
    return Response(content, media_type="application/json")
