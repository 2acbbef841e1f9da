"""What a response goes on from at a provider that keeps responses itself.

A copy of another's answer is kept here and not there. Who goes on from one has its items sent as input, after the last
response before it that the provider has.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.responses.asked import is_reference, items_of, referenced
from functions.gateway.llm.responses.stored import Stored, Turn
from shared.errors import Malformed

OF_OURS = frozenset({"id", "citations"})
"""Members of an item that its provider does not know."""
Json = dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Continued:
    """A request as the provider is asked, with what is kept here put in."""

    wanted: Wanted
    given: list[Json]
    """What the caller put in. Where it names items that are kept here, they stand in their place."""
    tokens: int = 0
    """What the provider keeps of before, which it counts as input."""


async def continued(stored: Stored, wanted: Wanted, provider: Provider) -> Continued:
    """Raises `NotFound` for what is not the caller's, `Malformed` for what is not at this provider."""
    given = await resolved(stored, wanted, provider)
    previous = wanted.content.get("previous_response_id")
    turns = [] if previous is None else await stored.chain(previous)
    for turn in turns:
        check_of(turn, provider)
    there = turns[0] if turns and turns[0].sealed is None else None
    here = [turn for turn in turns if turn.sealed is not None]
    tokens = there.tokens if there is not None else 0
    if not here and given == items_of(wanted):
        return Continued(wanted, given, tokens)
    before = [item for turn in here for item in again(await items_in(stored, turn))]
    content = {name: value for name, value in wanted.content.items() if name != "previous_response_id"}
    content |= {"input": [*before, *given]} | ({"previous_response_id": there.id} if there is not None else {})
    return Continued(Wanted(wanted.model, content, json.dumps(content).encode()), given, tokens)


async def resolved(stored: Stored, wanted: Wanted, provider: Provider) -> list[Json]:
    """The input's items. Those that it only names stay so where the provider has them."""
    there: set[str] = set()
    here: dict[str, Json] = {}
    for turn in await stored.holding(referenced(wanted)):
        check_of(turn, provider)
        if turn.sealed is None:
            there.update(turn.items)
        else:
            here |= {one["id"]: one for one in await items_in(stored, turn)}

    def placed(item: Json) -> list[Json]:
        elsewhere = not is_reference(item) or item["id"] in there
        return [item] if elsewhere else again([here[item["id"]]])

    return [one for item in items_of(wanted) for one in placed(item)]


async def items_in(stored: Stored, turn: Turn) -> list[Json]:
    content = await stored.content(turn)
    return [*content["input"], *content["response"]["output"]]


def again(items: Iterable[Json]) -> list[Json]:
    """The items as input. What was thought is left out: without the id under which its provider has it, it is
    nothing."""
    return [
        item if is_reference(item) else {name: value for name, value in item.items() if name not in OF_OURS}
        for item in items
        if item.get("type") != "reasoning"
    ]


def check_of(turn: Turn, provider: Provider) -> None:
    if turn.provider != provider.name:
        raise Malformed(
            f"what the response {turn.id!r} holds is not at provider {provider.name!r}: go on with a model of"
            f" {turn.provider!r}, or send it as input",
            param="previous_response_id",
        )
