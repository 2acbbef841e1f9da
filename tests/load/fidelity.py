"""Whether callers get of a stream what the provider sent, however its bytes arrive.

    python -m tests.load.fidelity [--streams 10000] [--seed 1]

Streams in the forms of OpenAI (chats and responses), Azure, Groq, Mistral and Anthropic, mutated: comments, other line
ends, a byte order mark, odd fields, malformed events, wrong or no usage. Each goes through the gateway's relay at once,
byte by byte, and cut at random; every fiftieth cut in two at each of its bytes. Byte for byte, what comes out has to be
what went in, without the one event that the caller did not ask for; and what is read of the usage has to be the same
for every cut.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import time
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, cast

from functions.gateway.llm.relay import Relay
from functions.gateway.llm.wires import Anthropic, OpenAi, Responses, Wire
from shared.usage import Tokens
from tests.fixtures import streams

RANDOM_CUTS = 6
EACH_BYTE_OF = 50


class Arriving:
    """A provider's answer whose pieces are known."""

    def __init__(self, pieces: Sequence[bytes]) -> None:
        self._pieces = deque(pieces)

    async def read(self, *, until: float | None = None) -> bytes | None:
        return self._pieces.popleft() if self._pieces else None


async def relayed(pieces: Sequence[bytes], wire: Wire) -> tuple[bytes, Tokens | None, bool]:
    """What a caller gets, and what the ledger learns."""
    unused: Any = None  # nothing is settled here
    relay = Relay(cast("Any", Arriving(pieces)), unused, unused, wire)
    got = b"".join([piece async for piece in relay._passed()])
    return got, wire.used, wire.complete


async def differences(sent: streams.Sent, cuts: Sequence[Sequence[bytes]]) -> int:
    """How many ways of arriving make a difference."""
    wrong = 0
    for expected, wire in forms_of(sent):
        told = await relayed([sent.raw], wire())
        for pieces in cuts:
            got = await relayed(pieces, wire())
            wrong += got != (expected, *told[1:])
    return wrong


def forms_of(sent: streams.Sent) -> list[tuple[bytes, Callable[[], Wire]]]:
    """What callers must get, and by which wire format it is read."""
    match sent.dialect:
        case "anthropic":
            return [(sent.raw, lambda: Anthropic("r"))]
        case "responses":
            return [(sent.raw, Responses)]
    return [(sent.raw, OpenAi), (sent.without_usage(), lambda: OpenAi(withhold_usage=True))]


async def measured(count: int, seed: int) -> tuple[int, int]:
    """Ways of arriving that were tried, and how many made a difference."""
    chance, tried, wrong = random.Random(seed), 0, 0
    for number in range(count):
        sent = streams.sent(chance)
        cuts = streams.splits(chance, sent.raw, RANDOM_CUTS)
        if number % EACH_BYTE_OF == 0:
            cuts += [[sent.raw[:place], sent.raw[place:]] for place in range(1, len(sent.raw))]
        found = await differences(sent, cuts)
        if found and not wrong:
            print(f"stream {number} of seed {seed} differs: {sent.raw!r}")
        tried, wrong = tried + len(cuts), wrong + found
    return tried, wrong


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--streams", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    began = time.monotonic()
    tried, wrong = asyncio.run(measured(options.streams, options.seed))
    took_s = time.monotonic() - began
    print(f"{options.streams:,} streams, {tried:,} ways of arriving, {took_s:.0f} s: {wrong} differences")
    if wrong:
        raise SystemExit(1)


if __name__ == "__main__":
    main()
