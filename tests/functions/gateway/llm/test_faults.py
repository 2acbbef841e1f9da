"""Every way in which a provider or a caller can fail: a clear answer, one attempt, one ledger row."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from shared.function.app import Application
from shared.llm.outbound import Providers
from shared.settings import Settings
from tests.fixtures.provider import (
    ROLE,
    Cut,
    Pause,
    Script,
    Stall,
    chunk,
    error,
    event,
    stream,
    usage_chunk,
    whole,
)
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway, question, store


def last_event(content: bytes) -> Any:  # Any: JSON
    return json.loads(content.strip().split(b"data: ")[-1])


async def outcome(gateway: Gateway) -> str:
    (row,) = await gateway.ledger()
    return str(row["outcome"])


@pytest.mark.parametrize("status", [400, 401, 403, 404, 408, 409, 422, 429, 500, 502, 503, 529])
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_providers_error_is_passed_on_after_one_attempt(gateway: Gateway, status: int, streaming: bool) -> None:
    gateway.provider.will(error(status, "what it said"))
    answer = await gateway.chat(stream=streaming)
    assert answer.status_code == status
    assert answer.json()["error"] == {
        "message": "what it said", "type": "provider_type", "param": None, "code": "provider_code",
    }  # fmt: skip
    assert len(gateway.provider.calls) == 1
    assert await outcome(gateway) == "provider_error"


async def test_a_rate_limit_comes_with_the_providers_retry_after(gateway: Gateway) -> None:
    headers = [("retry-after", "7"), ("x-ratelimit-remaining-requests", "0"), ("set-cookie", "no=1")]
    gateway.provider.will(error(429, headers=headers))
    answer = await gateway.chat()
    assert answer.headers["retry-after"] == "7"
    assert answer.headers["x-ratelimit-remaining-requests"] == "0"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("body", [b"<html>Bad gateway</html>", b'{"detail": "x"}', b'{"error": "text"}', b"", b"\xff"])
async def test_an_error_in_any_other_shape_is_put_into_openais(gateway: Gateway, body: bytes) -> None:
    gateway.provider.will(whole(body, status=502))
    answer = await gateway.chat()
    assert answer.status_code == 502
    assert answer.json()["error"]["code"] == "provider_error"
    assert answer.json()["error"]["message"].startswith("the provider answered 502")


async def test_a_provider_that_repeats_the_tenants_key_does_not_show_it_to_the_caller(gateway: Gateway) -> None:
    gateway.provider.will(error(401, f"Incorrect API key provided: {PROVIDER_KEY}"))
    answer = await gateway.chat()
    assert PROVIDER_KEY not in answer.text
    assert "[key]" in answer.text


async def test_a_redirect_is_not_followed(gateway: Gateway) -> None:
    gateway.provider.will(whole({}, status=307, headers=[("location", f"{gateway.provider.origin}/elsewhere")]))
    answer = await gateway.chat()
    assert answer.status_code == 502
    assert "redirect" in answer.json()["error"]["message"]
    assert len(gateway.provider.calls) == 1
    assert await outcome(gateway) == "provider_error"


@pytest.mark.parametrize("before_head", [True, False])
async def test_a_connection_that_breaks_before_the_answer_is_503_after_one_attempt(
    gateway: Gateway, before_head: bool
) -> None:
    script = Script((), before=(Cut(),)) if before_head else Script((b"{", Cut()), headers=(("content-length", "99"),))
    gateway.provider.will(script)
    answer = await gateway.chat()
    assert answer.status_code == 503
    assert len(gateway.provider.calls) == 1
    assert await outcome(gateway) == "provider_error"
    assert (await gateway.rows())[0]["usage_known"] is False


async def test_a_provider_that_is_not_there_is_503_and_costs_nothing(gateway: Gateway) -> None:
    await store(gateway.client, "absent", "http://127.0.0.1:9/v1", ["gpt-4o"])
    answer = await gateway.chat("gpt-4o")
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "provider_unreachable"
    assert "retry-after" in answer.headers
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_a_stream_cut_in_the_middle_ends_with_an_error_event(gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, chunk({"content": "Hel"}), Cut())))
    answer = await gateway.chat(stream=True)
    assert answer.content.startswith(ROLE + chunk({"content": "Hel"}))
    assert last_event(answer.content)["error"]["type"] == "server_error"
    assert await outcome(gateway) == "cut"


async def test_a_stream_that_ends_without_done_ends_with_an_error_event(gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, chunk({"content": "Hel"}))))
    answer = await gateway.chat(stream=True)
    assert "before it was complete" in last_event(answer.content)["error"]["message"]
    assert await outcome(gateway) == "cut"


async def test_half_an_event_at_the_cut_is_dropped_so_that_the_error_can_be_read(gateway: Gateway) -> None:
    half = chunk({"content": "lo"})[:40]
    gateway.provider.will(Script((ROLE, half, Cut())))
    answer = await gateway.chat(stream=True)
    assert answer.content.startswith(ROLE + b'data: {"error"')


async def test_a_last_event_without_its_blank_line_still_counts(gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, b"data: [DONE]")))
    answer = await gateway.chat(stream=True)
    assert answer.content == ROLE + b"data: [DONE]\n\n"
    assert await outcome(gateway) == "done"


async def test_a_providers_own_error_event_is_the_last_one(gateway: Gateway) -> None:
    told = event({"error": {"message": "overloaded", "type": "server_error", "param": None, "code": None}})
    gateway.provider.will(Script((ROLE, told)))
    answer = await gateway.chat(stream=True)
    assert answer.content == ROLE + told
    assert await outcome(gateway) == "provider_error"


async def test_malformed_events_are_passed_on_as_they_are(gateway: Gateway) -> None:
    sent = ROLE + b"data: {not json\n\n" + b"event: odd\ndata: a\ndata: b\n\n" + b"nonsense\n\n" + b"data: [DONE]\n\n"
    gateway.provider.will(Script((sent,)))
    assert (await gateway.chat(stream=True)).content == sent


async def test_wrong_usage_in_a_stream_makes_the_cost_unknown(gateway: Gateway) -> None:
    wrong = event({"choices": [], "usage": {"prompt_tokens": "many", "completion_tokens": -3}})
    gateway.provider.will(Script((ROLE, wrong, event("[DONE]"))))
    await gateway.chat(stream=True)
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("done", None)


async def test_an_event_without_end_is_cut_at_its_limit(gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, *([b"data: " + b"x" * 1_000_000] * 6), Stall())))
    answer = await gateway.chat(stream=True)
    assert len(answer.content) < 10_000
    assert "event of more than" in last_event(answer.content)["error"]["message"]
    assert await outcome(gateway) == "cut"


@pytest.fixture
async def impatient(gateway: Gateway) -> AsyncIterator[Gateway]:
    """The gateway with a read timeout of a fifth of a second, for the length of the test."""
    providers = await gateway.application.process.get(Providers)
    ours = Providers(private=True, read_timeout_s=0.2)
    gateway.application.process._opened[Providers] = ours
    yield gateway
    gateway.application.process._opened[Providers] = providers
    await ours.close()


async def test_a_provider_that_stalls_before_its_first_byte_is_504(impatient: Gateway) -> None:
    impatient.provider.will(Script((), before=(Stall(),)))
    answer = await impatient.chat(stream=True)
    assert answer.status_code == 504
    assert len(impatient.provider.calls) == 1
    await asyncio.wait_for(impatient.provider.calls[0].ended.wait(), 5)
    assert impatient.provider.calls[0].closed_early
    (row,) = await impatient.ledger()
    assert (row["outcome"], row["usage_known"]) == ("provider_error", False)


async def test_a_provider_that_stalls_in_mid_stream_ends_with_an_error_event(impatient: Gateway) -> None:
    impatient.provider.will(Script((ROLE, chunk({"content": "Hel"}), Stall())))
    answer = await impatient.chat(stream=True)
    assert "went silent" in last_event(answer.content)["error"]["message"]
    assert await outcome(impatient) == "cut"


async def leave(gateway: Gateway, *, streaming: bool, after: bytes = b"") -> None:
    """Call, and hang up: once the provider was asked, or once these bytes came."""
    async with httpx.AsyncClient(headers=gateway.client.headers, base_url=gateway.url) as client:
        if not after:
            calling = asyncio.create_task(client.post("/v1/chat/completions", json=question(stream=streaming)))
            await until(lambda: bool(gateway.provider.calls))
            calling.cancel()
            await asyncio.wait({calling})
            return
        async with client.stream("POST", "/v1/chat/completions", json=question(stream=True)) as answer:
            received = b""
            async for piece in answer.aiter_raw():
                received += piece
                if after in received:
                    return


@pytest.mark.parametrize("streaming", [False, True])
async def test_a_caller_who_leaves_while_waiting_closes_the_provider(gateway: Gateway, streaming: bool) -> None:
    gateway.provider.will(Script((), before=(Stall(),)))
    await leave(gateway, streaming=streaming)
    await asyncio.wait_for(gateway.provider.calls[0].ended.wait(), 5)
    assert gateway.provider.calls[0].closed_early
    assert await outcome(gateway) == "client_gone"


async def test_a_caller_who_leaves_in_mid_stream_closes_the_provider(gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, chunk({"content": "Hel"}), Stall())))
    await leave(gateway, streaming=True, after=b"Hel")
    await asyncio.wait_for(gateway.provider.calls[0].ended.wait(), 5)
    assert gateway.provider.calls[0].closed_early
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("client_gone", None)


async def test_a_caller_who_leaves_after_the_usage_is_charged_for_it(gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, usage_chunk(1_000_000, 0), chunk({"content": "Hel"}), Stall())))
    await leave(gateway, streaming=True, after=b"Hel")
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("client_gone", 150_000)


async def test_a_caller_who_stops_reading_and_leaves_closes_the_provider(gateway: Gateway) -> None:
    flood = tuple(chunk({"content": "x" * 60_000}) for _ in range(200))
    gateway.provider.will(Script((ROLE, *flood, Stall())))
    await leave(gateway, streaming=True, after=b"xxx")
    await asyncio.wait_for(gateway.provider.calls[0].ended.wait(), 5)
    assert gateway.provider.calls[0].closed_early
    assert await outcome(gateway) == "client_gone"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b"", 400, "malformed"),
        (b"{", 400, "malformed"),
        (b"[]", 400, "malformed"),
        (b"\xff\xfe{\x00}\x00", 400, "malformed"),
        (b'{"model":"gpt-4o-mini","messages":"\xe9"}', 400, "malformed"),
        (b"[" * 100_000, 400, "malformed"),
        (b'{"messages":[{"role":"user","content":"x"}]}', 400, "malformed"),
        (b'{"model":7,"messages":[{}]}', 400, "malformed"),
        (b'{"model":"gpt-4o-mini"}', 400, "malformed"),
        (b'{"model":"gpt-4o-mini","messages":[]}', 400, "malformed"),
        (b'{"model":"gpt-4o-mini","messages":"x"}', 400, "malformed"),
        (b'{"model":"gpt-4o-mini","messages":[{}],"stream_options":1}', 400, "malformed"),
        (b'{"model":"no-such","messages":[{}]}', 404, "model_not_found"),
        (b'{"model":"\\u0000\\r\\nx: y","messages":[{}]}', 404, "model_not_found"),
        (b'{"model":"all-minilm-l6-v2","messages":[{}]}', 400, "malformed"),
        (b'{"model":"doc-chat","messages":[{"role":"user","content":" "}]}', 400, "malformed"),
        (b'{"model":"doc-chat","messages":[7,{"role":"user","content":[1,{"text":null}]}]}', 400, "malformed"),
    ],
)
async def test_a_bad_request_is_refused_in_openais_shape_and_nothing_is_charged_or_forwarded(
    gateway: Gateway, body: bytes, status: int, code: str
) -> None:
    answer = await gateway.client.post("/v1/chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert set(answer.json()["error"]) == {"message", "type", "param", "code"}
    assert gateway.provider.calls == []
    assert await gateway.rows() == []


async def test_a_wrong_key_is_401_in_openais_shape(gateway: Gateway) -> None:
    answer = await gateway.client.post("/v1/chat/completions", json=question(), headers={"authorization": "Bearer x"})
    assert answer.status_code == 401
    assert answer.json()["error"]["code"] == "invalid_api_key"


async def test_a_key_in_the_query_string_is_no_credential(gateway: Gateway) -> None:
    async with httpx.AsyncClient() as client:
        answer = await client.get(f"{gateway.url}/v1/models", params={"api_key": gateway.key})
    assert answer.status_code == 401


async def test_an_oversize_body_is_413_in_openais_shape(gateway: Gateway) -> None:
    answer = await gateway.client.post("/v1/chat/completions", content=b" " * (17 * 1024 * 1024))
    assert answer.status_code == 413
    assert answer.json()["error"]["type"] == "invalid_request_error"


async def test_ten_thousand_tools_are_the_providers_to_judge(gateway: Gateway) -> None:
    tools = [{"type": "function", "function": {"name": f"f{index}"}} for index in range(10_000)]
    answer = await gateway.chat(tools=tools)
    assert answer.status_code == 200
    assert len(gateway.provider.calls[0].json["tools"]) == 10_000


async def test_a_provider_inside_the_network_is_refused_at_connect_time(
    gateway: Gateway, served: tuple[Application, Settings]
) -> None:
    process = gateway.application.process
    ours = process._opened[Providers]
    process._opened[Providers] = Providers(private=False)
    try:
        answer = await gateway.chat()
    finally:
        process._opened[Providers] = ours
    assert answer.status_code == 400
    assert answer.json()["error"]["code"] == "forbidden_address"
    assert gateway.provider.calls == []
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_a_slow_stream_holds_no_frame_back(gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, Pause(0.05), chunk({"content": "a"}), Pause(0.05), *stream("b").steps[1:])))
    answer = await gateway.chat(stream=True)
    assert answer.content.count(b"data: ") == 5
