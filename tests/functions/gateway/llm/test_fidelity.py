"""However a stream's bytes arrive, the caller gets them as the provider sent them."""

from __future__ import annotations

import random
from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.fixtures import streams
from tests.fixtures.provider import Script
from tests.functions.gateway.conftest import CLAUDES, Gateway, question, store
from tests.load.fidelity import measured

PATHS = {"openai": "/v1/chat/completions", "anthropic": "/v1/messages", "responses": "/v1/responses"}
THROUGH_HTTP = 300


@pytest.mark.parametrize("seed", range(2, 6))
async def test_no_way_of_arriving_makes_a_difference(seed: int) -> None:
    assert (await measured(60, seed))[1] == 0


@pytest.fixture
async def native(gateway: Gateway) -> AsyncIterator[Gateway]:
    await store(gateway.client, "native", gateway.provider.base_url, ["gpt-5-nano"], kind="openai")
    yield gateway
    await gateway.client.delete("/v1/secrets/providers/native")


def asked_of(sent: streams.Sent, *, usage: bool) -> dict[str, Any]:  # Any: JSON
    if sent.dialect == "responses":
        return {"model": "gpt-5-nano", "input": "Hi", "stream": True}
    more: dict[str, Any] = {"stream_options": {"include_usage": True}} if usage else {}
    return question("gpt-4o-mini" if sent.dialect == "openai" else CLAUDES[0], stream=True, **more)


async def test_nor_does_a_whole_gateway_between_two_sockets(native: Gateway) -> None:
    """A stream that has no proper end gets an error event after all of its own."""
    chance, wrong, ends = random.Random(7), [], {"openai": b"[DONE]", "anthropic": b"message_stop"}
    for number in range(THROUGH_HTTP):
        sent, usage = streams.sent(chance), number % 2 == 0
        pieces = chance.choice(streams.splits(chance, sent.raw, 4)) if number % 10 else [sent.raw]
        native.provider.will(Script(tuple(pieces)))
        told = await native.client.post(PATHS[sent.dialect], json=asked_of(sent, usage=usage))
        expected = sent.without_usage() if sent.dialect == "openai" and not usage else sent.raw
        whole = told.content == expected
        unended = ends.get(sent.dialect, b"response.") not in sent.events[-1]
        if not whole and not (unended and told.content.startswith(expected) and b'"error"' in told.content):
            wrong.append((number, sent.raw, told.content))
    assert wrong == []
    assert len(await native.ledger(THROUGH_HTTP)) == THROUGH_HTTP
