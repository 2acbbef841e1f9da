"""Answers given again: those kept of before, and those of calls that are being made at this moment.

For a tenant that has not switched it on, nothing of this is done but to know that.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Collection, Coroutine, Mapping
from contextlib import aclosing
from dataclasses import dataclass
from time import perf_counter
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.flights import Flight
from functions.gateway.llm.leading import Lead
from functions.gateway.llm.models import Target
from functions.gateway.llm.semantic.asked import asked_in
from functions.gateway.llm.semantic.lookup import Lookup
from functions.gateway.llm.settlement import NOTHING, Settlement, cost_header, cost_told
from shared.errors import Malformed, Problem
from shared.function import Call
from shared.function.invoke import Invoke
from shared.ids import TenantId
from shared.llm.answers import TTL_S_MAX, Answers, Kept, key_of, now_s
from shared.llm.presence import Stream
from shared.postgres import TenantDatabase
from shared.quotas import Meter
from shared.secrets import TenantSecrets
from shared.telemetry import log
from shared.usage.prices import FREE

HEADER, TTL_HEADER = "x-dcoder-cache", "x-dcoder-cache-ttl"
PROVIDER = "cache"
NO_STORE = "no-store"
OF_ANSWER = frozenset({"content-type", "content-length", "cache-control", "x-accel-buffering", "retry-after"})
"""Headers that are the answer's, whoever gets it."""
OK = 200
Work = Callable[[], Coroutine[None, None, Response]]


@dataclass(frozen=True)
class Wish:
    """What a request says of the cache: whether a kept answer will do, whether this one may be kept, for how long, and
    whether an answer to the same question in other words will do."""

    find: bool = True
    keep: bool = True
    ttl_s: int | None = None
    semantic: bool = True


@dataclass(frozen=True)
class Question:
    """One that is going to be asked. `find`: whether another's call of the same will do."""

    key: str
    ttl_s: int
    find: bool
    lookup: Lookup | None


def wish_of(request: Request) -> Wish:
    """`x-dcoder-cache: off | refresh | exact`, `x-dcoder-cache-ttl: <seconds>`, and `Cache-Control: no-store |
    no-cache` (RFC 9111 §5.2.1). Raises `Malformed`."""
    said = request.headers.get(HEADER, "").strip().lower()
    if said not in ("", "off", "refresh", "exact"):
        raise Malformed(f"{HEADER!r} is off, refresh or exact", param=HEADER)
    control = {one.strip().lower() for one in request.headers.get("cache-control", "").split(",")}
    ttl = request.headers.get(TTL_HEADER)
    if ttl is not None and not (ttl.isascii() and ttl.isdigit() and len(ttl) < 9 and 1 <= int(ttl) <= TTL_S_MAX):
        raise Malformed(f"{TTL_HEADER!r} is a whole number of seconds from 1 to {TTL_S_MAX}", param=TTL_HEADER)
    off = said == "off" or "no-store" in control
    find = not off and said != "refresh" and "no-cache" not in control
    return Wish(find, not off, int(ttl) if ttl else None, said != "exact")


@dataclass(frozen=True)
class Caching:
    """One call's way past the answers of others."""

    answers: Answers
    call: Call
    tenant: TenantDatabase
    sealing: TenantSecrets
    meter: Meter
    compressed: Collection[str] = ()
    """How the prompt is shortened: what answers the whole one need not be what answers the shorter."""
    invoke: Invoke | None = None
    """Without it, only the very same question is answered again."""
    again: bool = True
    """False for a request that no other's answer will do for."""

    async def answer(self, request: Request, wanted: Wanted, target: Target, feature: str, work: Work) -> Response:
        """What `work` answers, or answered before. Raises what it raises, and `Malformed` for a wish that cannot be."""
        setting = await self.answers.setting(self.tenant)
        if not setting.enabled or target.provider is None:
            return await work()
        wish = wish_of(request)
        if not (wish.keep and self.again):
            return marked(await work(), "off")
        scope = {
            "route": request.url.path, "query": request.url.query, "provider": target.provider.name,
            "url": target.provider.base_url, "model": target.model, "epoch": setting.epoch,
            "version": request.headers.get("anthropic-version", ""), "beta": request.headers.get("anthropic-beta", ""),
            "compressed": sorted(self.compressed),
            # what was put aside is its owner's, and an answer may ask for it by its id
            "owner": self.call.caller.owner if "reversible" in self.compressed else "",
        }  # fmt: skip
        key = key_of(self.sealing, scope, wanted.content)
        if wish.find and (kept := await self.answers.find(self.sealing, key)) is not None:
            return await self._again(kept, target, feature, "hit")
        lookup = self._lookup(scope, wanted) if setting.semantic and wish.semantic else None
        if lookup is not None and wish.find and not self._in_flight(key) and (found := await lookup.find()) is not None:
            log("answer_from_semantic_cache", request_id=self.call.request_id, **found.logged)
            return await self._again(found.kept, target, feature, found.said)
        return await self._together(
            Question(key, wish.ttl_s or setting.ttl_s, wish.find, lookup), target, feature, work
        )

    def _lookup(self, scope: Mapping[str, Any], wanted: Wanted) -> Lookup | None:  # Any: JSON
        """None where nothing of the question may be said in other words."""
        asked = asked_in(wanted.content)
        if asked is None or self.invoke is None:
            return None
        return Lookup(asked, scope, answers=self.answers, tenant=self.tenant, sealing=self.sealing, invoke=self.invoke)

    async def _again(self, kept: Kept, target: Target, feature: str, how: str) -> Response:
        """A kept answer, and how it was found. It costs nothing, and counts as a call."""
        settlement = await self._free(target, feature)
        with settlement.or_settled():
            await settlement.metered.durable()
        settlement.outcome, settlement.saved_micro_usd = "done", kept.cost
        settlement.cache = "semantic" if how.startswith("semantic") else "hit"
        headers = settlement.headers | cost_header(settlement.settle()) | self._own_headers(feature)
        age, saved = max(0, now_s() - kept.at), "unknown" if kept.cost is None else str(kept.cost)
        headers[HEADER] = f"{how}; age={age}; saved-micro-usd={saved}"
        log("answer_from_cache", request_id=self.call.request_id, model=target.model, age_s=age, saved_micro_usd=saved)
        answer = replayed(kept)
        answer.headers.update(headers)
        return answer

    async def _together(self, question: Question, target: Target, feature: str, work: Work) -> Response:
        """The answer of a call that is being made, or of one that begins now."""
        place = (self.sealing.tenant, question.key)
        while question.find and (flight := self._in_flight(question.key)) is not None:
            settlement = await self._free(target, feature)
            with settlement.or_settled():
                try:
                    joined = await settlement.waiting(flight.join())
                except Problem:  # it was refused for whoever began it: that is no answer for others
                    settlement.outcome = "done"
                    settlement.settle()
                    continue
                await settlement.metered.durable()
            return self._shared(joined, settlement, target, feature)
        lead = Lead(self.answers, self.sealing, question.key)
        asking = self._led(lead, work) if question.find else work()
        begun = self.answers.flights[place] = Flight(asking, self._landed(question, lead))
        begun.task.add_done_callback(lambda _: self._forget(place, begun))
        began = perf_counter()
        answer = await begun.join()
        if lead.found is None:
            return marked(answer, "miss")
        settlement = await self._free(target, feature)
        settlement.waited_s = perf_counter() - began
        with settlement.or_settled():
            await settlement.metered.durable()
        return self._shared(answer, settlement, target, feature)

    async def _led(self, lead: Lead, work: Work) -> Response:
        """The answer of another process that is being asked the same, or what `work` answers."""
        await lead.find()
        if lead.found is not None:
            return replayed(lead.found)
        asking = asyncio.current_task()
        if lead.holds and asking is not None:
            self.call.process.background(lead.hold(asking), name="asking")
        response = await work()
        lead.answered = True
        return response

    def _shared(self, joined: Response, settlement: Settlement, target: Target, feature: str) -> Response:
        """The answer of another's call. What it saved is known when it has ended."""
        settlement.cache = "coalesced"
        own = settlement.headers | cost_header(0) | self._own_headers(feature)
        if isinstance(joined, Stream):
            joined.pieces = followed(joined, joined.pieces, settlement)
        else:
            settlement.outcome, settlement.saved_micro_usd = "done", cost_told(joined)
            settlement.settle()
        log("answer_shared", request_id=self.call.request_id, model=target.model)
        return marked(without_headers_of_another(joined, own), "coalesced")

    def _in_flight(self, key: str) -> Flight | None:
        flight = self.answers.flights.get((self.sealing.tenant, key))
        return flight if isinstance(flight, Flight) and flight.open else None

    def _forget(self, place: tuple[TenantId, str], flight: Flight) -> None:
        if self.answers.flights.get(place) is flight:
            del self.answers.flights[place]

    def _landed(self, question: Question, lead: Lead) -> Callable[[Response, bytes], Coroutine[None, None, None]]:
        async def keep(response: Response, body: bytes) -> None:
            """Only what is whole and no error is kept."""
            whole = response.whole() if isinstance(response, Stream) else not is_private(response)
            if response.status_code != OK or not whole or lead.found is not None:
                return
            cost = response.cost() if isinstance(response, Stream) else cost_told(response)
            kept = Kept(response.headers["content-type"], body, now_s(), cost)
            lead.kept = await self.answers.keep(self.sealing, question.key, kept, question.ttl_s)
            if lead.kept and question.lookup is not None:
                await question.lookup.keep(question.key, kept, question.ttl_s)

        return keep

    async def _free(self, target: Target, feature: str) -> Settlement:
        """The metering of a call for which no provider is asked."""
        metered = await self.meter.begin(
            self.call.caller,
            request_id=self.call.request_id,
            model=target.model,
            provider=PROVIDER,
            feature=feature,
            price=FREE,
            most=NOTHING,
        )
        return Settlement(self.meter, metered, used=NOTHING)

    def _own_headers(self, feature: str) -> dict[str, str]:
        of_anthropic = {"request-id": self.call.request_id} if feature in ("messages", "count_tokens") else {}
        return {"x-dcoder-provider": PROVIDER} | of_anthropic


def without_headers_of_another(response: Response, own: Mapping[str, str]) -> Response:
    """The answer with the caller's own headers. Those of whoever began the call tell how their limits stand."""
    for name in set(response.headers) - OF_ANSWER:
        del response.headers[name]
    response.headers.update(own)
    return response


def is_private(response: Response) -> bool:
    """Whether the answer itself says that it is not to be kept (RFC 9111 §5.2.2.5)."""
    return response.headers.get("cache-control") == NO_STORE


def is_anothers(response: Response) -> bool:
    """Whether it was made for another call, and can be given to this one."""
    return response.status_code == OK and response.headers.get("x-dcoder-provider") == PROVIDER


def marked(response: Response, said: str) -> Response:
    response.headers[HEADER] = said
    return response


@dataclass(frozen=True)
class Replayed:
    """What is known of an answer that was kept."""

    cost: int | None
    whole: bool = True


def replayed(kept: Kept) -> Response:
    """The answer as whoever was given it first had it."""
    if kept.content_type.startswith("text/event-stream"):
        return Stream(once(kept.body), media_type=kept.content_type, relayed=Replayed(kept.cost))
    return Response(kept.body, OK, {"content-type": kept.content_type} | cost_header(kept.cost))


async def followed(
    stream: Stream, pieces: AsyncGenerator[bytes, None], settlement: Settlement
) -> AsyncGenerator[bytes, None]:
    """The pieces of another's stream, and their end in the ledger."""
    settlement.outcome = "client_gone"
    try:
        async with aclosing(pieces):
            async for piece in pieces:
                yield piece
        settlement.outcome, settlement.saved_micro_usd = "done" if stream.whole() else "cut", stream.cost()
    except Problem:
        settlement.outcome = "cut"
        raise
    finally:
        await settlement.settle_stream()


async def once(body: bytes) -> AsyncGenerator[bytes, None]:
    yield body
