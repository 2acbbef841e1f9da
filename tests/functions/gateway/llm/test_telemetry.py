"""What a collector is told of calls: the conventions' names, one trace from caller to provider, and no content."""

from __future__ import annotations

import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import Any

import httpx
import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

from shared.function.app import Application
from shared.otel import names
from shared.settings import Settings
from tests.fixtures.collector import Collector, attributes, collecting
from tests.fixtures.provider import completion, error, message, stream, usage
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import CLAUDES, Gateway, question, serving
from tests.functions.gateway.llm.test_caching import landed
from tests.functions.gateway.llm.test_caching import put as switch_cache

SECRET, ANSWER = "tell-nobody-of-the-question", "tell-nobody-of-the-answer"
PARENT = "b7ad6b7169203331"


@dataclass
class Observed:
    """A gateway with a collector, and a client of it."""

    client: httpx.AsyncClient
    collector: Collector
    application: Application
    gateway: Gateway

    async def ask(self, path: str, body: Any, *, flags: str = "01") -> tuple[str, httpx.Response]:  # Any: JSON
        """The answer, and the trace that it was asked in."""
        trace = secrets.token_hex(16)
        answer = await self.client.post(path, json=body, headers={"traceparent": f"00-{trace}-{PARENT}-{flags}"})
        return trace, answer

    async def spans(self, trace: str, count: int) -> list[Span]:
        await until(lambda: len(self.collector.of_trace(trace)) >= count, 10)
        return self.collector.of_trace(trace)

    async def both(self, trace: str) -> tuple[Span, Span]:
        """The function's span and the model's."""
        spans = await self.spans(trace, 2)
        (server,) = [span for span in spans if span.kind == Span.SPAN_KIND_SERVER]
        (model,) = [span for span in spans if span.kind != Span.SPAN_KIND_SERVER]
        return server, model


@pytest.fixture(scope="module")
async def telling(served: tuple[Application, Settings]) -> AsyncIterator[tuple[Application, Settings, Collector]]:
    with collecting() as collector:
        told = replace(served[1], otlp_url=collector.url, otlp_headers={"x-token": "of-the-collector"})
        async with serving(told) as (application, settings):
            telemetry = application.process.telemetry
            assert telemetry is not None
            telemetry._collector = replace(telemetry._collector, every_s=0.05, metrics_every_s=0.2)
            yield application, settings, collector


@pytest.fixture
async def observed(gateway: Gateway, telling: tuple[Application, Settings, Collector]) -> AsyncIterator[Observed]:
    application, settings, collector = telling
    async with gateway.at(settings.llm_url) as client:
        yield Observed(client, collector, application, gateway)


async def test_a_call_is_a_clients_span_in_the_functions_span_in_the_callers(observed: Observed) -> None:
    observed.gateway.provider.will(completion(ANSWER, used=usage(1000, 100, cached=400)))
    body = question(text=SECRET, max_tokens=50, temperature=0.5, top_p=1)
    trace, answer = await observed.ask("/v1/chat/completions", body)
    server, model = await observed.both(trace)
    assert (server.parent_span_id.hex(), model.parent_span_id) == (PARENT, server.span_id)
    assert (server.name, model.name) == ("POST /v1/chat/completions", "chat gpt-4o-mini")
    assert (server.kind, model.kind) == (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    assert server.start_time_unix_nano <= model.start_time_unix_nano
    assert model.end_time_unix_nano <= server.end_time_unix_nano
    of_server = attributes(server.attributes)
    assert (of_server["http.request.method"], of_server["http.route"]) == ("POST", "/v1/chat/completions")
    assert (of_server["http.response.status_code"], of_server["dcoder.function"]) == (
        200,
        "gateway-llm.chat_completions",
    )
    assert of_server["dcoder.request_id"] == answer.headers["x-request-id"]
    told = attributes(model.attributes)
    assert told.pop("dcoder.tenant") == of_server["dcoder.tenant"]
    assert told == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "gpt-4o-mini",
        "gen_ai.request.max_tokens": 50,
        "gen_ai.request.temperature": 0.5,
        "gen_ai.request.top_p": 1.0,
        "gen_ai.response.model": answer.json()["model"],
        "gen_ai.response.id": answer.json()["id"],
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 1000,
        "gen_ai.usage.output_tokens": 100,
        "gen_ai.usage.cache_read.input_tokens": 400,
        "dcoder.feature": "chat",
        "dcoder.cost_micro_usd": int(answer.headers["x-dcoder-cost-micro-usd"]),
    }


async def test_a_stream_is_told_with_the_time_to_its_first_chunk_and_how_it_ended(observed: Observed) -> None:
    observed.gateway.provider.will(stream(ANSWER, "x", used=(7, 3)))
    trace, answer = await observed.ask("/v1/chat/completions", question(text=SECRET, stream=True))
    _, model = await observed.both(trace)
    told = attributes(model.attributes)
    assert told["gen_ai.request.stream"] is True
    assert 0 < told["gen_ai.response.time_to_first_chunk"] < 10
    assert told["gen_ai.response.finish_reasons"] == ["stop"]
    assert told["gen_ai.response.model"] == "gpt-4o-mini"
    assert f'"id":"{told["gen_ai.response.id"]}"' in answer.text.replace(": ", ":")
    assert (told["gen_ai.usage.input_tokens"], told["gen_ai.usage.output_tokens"]) == (7, 3)


async def test_a_messages_input_holds_what_was_cached(observed: Observed) -> None:
    observed.gateway.provider.will(message(cache_read_input_tokens=100, cache_creation_input_tokens=20))
    trace, answer = await observed.ask("/v1/messages", question(CLAUDES[0], max_tokens=9))
    _, model = await observed.both(trace)
    told, used = attributes(model.attributes), answer.json()["usage"]
    assert (told["gen_ai.provider.name"], told["dcoder.feature"]) == ("anthropic", "messages")
    assert told["gen_ai.usage.input_tokens"] == used["input_tokens"] + 120
    assert told["gen_ai.usage.cache_read.input_tokens"] == 100
    assert told["gen_ai.usage.cache_creation.input_tokens"] == 20
    assert told["gen_ai.response.finish_reasons"] == [answer.json()["stop_reason"]]


async def test_a_providers_error_is_told_as_its_status(observed: Observed) -> None:
    observed.gateway.provider.will(error(429, "slow down"))
    trace, _ = await observed.ask("/v1/chat/completions", question())
    server, model = await observed.both(trace)
    assert attributes(model.attributes)["error.type"] == "429"
    assert model.status.code == Status.STATUS_CODE_ERROR
    assert attributes(server.attributes)["http.response.status_code"] == 429


@pytest.mark.parametrize(
    ("path", "body", "operation", "of"),
    [
        ("/v1/responses", {"model": "gpt-4o-mini", "input": SECRET, "max_output_tokens": 7}, "chat", "openai"),
        ("/v1/moderations", {"input": SECRET}, "moderations", "dcoder"),
        ("/v1/embeddings", {"model": "text-embedding-3-small", "input": SECRET}, "embeddings", "openai"),
        ("/v1/completions", {"model": "gpt-4o-mini", "prompt": SECRET}, "text_completion", "openai"),
    ],
)
async def test_every_routes_call_is_told(
    observed: Observed,
    path: str,
    body: Any,
    operation: str,
    of: str,
) -> None:
    trace, answer = await observed.ask(path, body)
    assert answer.status_code == 200, answer.text
    _, model = await observed.both(trace)
    told = attributes(model.attributes)
    assert (told[names.OPERATION], told[names.PROVIDER]) == (operation, of)
    assert told.get(names.REQUEST_MAX_TOKENS) == body.get("max_output_tokens")
    assert SECRET.encode() not in b"".join(observed.collector.bodies)


async def test_a_refused_call_is_the_functions_span_alone(observed: Observed) -> None:
    trace, answer = await observed.ask("/v1/chat/completions", question("no-such-model"))
    (server,) = await observed.spans(trace, 1)
    assert attributes(server.attributes)["http.response.status_code"] == answer.status_code == 404


async def test_an_answer_given_again_is_told_with_what_it_saved(observed: Observed) -> None:
    await switch_cache(observed.gateway, enabled=True)
    try:
        observed.gateway.provider.will(completion("x", used=usage(10_000, 100)))
        _, first = await observed.ask("/v1/chat/completions", question(text="again"))
        await landed(replace(observed.gateway, application=observed.application))
        trace, _ = await observed.ask("/v1/chat/completions", question(text="again"))
        _, model = await observed.both(trace)
    finally:
        await switch_cache(observed.gateway, enabled=False)
    told = attributes(model.attributes)
    assert (model.kind, told["dcoder.cache"]) == (Span.SPAN_KIND_INTERNAL, "hit")
    assert told["dcoder.saved_micro_usd"] == int(first.headers["x-dcoder-cost-micro-usd"])


async def test_functions_that_call_functions_are_one_trace(observed: Observed) -> None:
    trace, _ = await observed.ask("/v1/chat/completions", question("doc-chat", "What is a quota?"))
    spans = {attributes(span.attributes).get("dcoder.function"): span for span in await observed.spans(trace, 3)}
    gateway = spans["gateway-llm.chat_completions"]
    (answers,) = [span for name, span in spans.items() if name and name.startswith("knowledge-answers")]
    assert answers.parent_span_id == gateway.span_id


async def test_a_trace_that_is_not_recorded_is_passed_on_so_and_not_told(observed: Observed) -> None:
    trace, answer = await observed.ask("/v1/chat/completions", question("doc-chat", "Hello?"), flags="00")
    assert answer.status_code == 200
    recorded, _ = await observed.ask("/v1/chat/completions", question())
    await observed.both(recorded)
    assert observed.collector.of_trace(trace) == []


async def test_metrics_have_the_conventions_names_units_and_boundaries(observed: Observed) -> None:
    observed.gateway.provider.will(stream("a", "b", used=(7, 3)))
    trace, _ = await observed.ask("/v1/chat/completions", question("house-model", stream=True))
    await observed.both(trace)

    def point(metric: str, **wanted: str) -> Any:  # Any: a data point
        found = observed.collector.latest.get(metric)
        for one in found.histogram.data_points if found else ():
            told = attributes(one.attributes)
            if told.get(names.REQUEST_MODEL) == "house-model" and all(told.get(k) == v for k, v in wanted.items()):
                return one
        return None

    await until(lambda: point(names.TOKEN_USAGE) is not None, 10)
    tokens = {kind: point("gen_ai.client.token.usage", **{"gen_ai.token.type": kind}) for kind in ("input", "output")}
    assert {kind: one.sum for kind, one in tokens.items()} == {"input": 7, "output": 3}
    assert list(tokens["input"].explicit_bounds) == [4.0**power for power in range(14)]
    for metric in (
        "gen_ai.client.operation.duration", "gen_ai.client.operation.time_to_first_chunk",
        "gen_ai.client.operation.time_per_output_chunk", "gen_ai.server.request.duration",
        "gen_ai.server.time_to_first_token", "gen_ai.server.time_per_output_token", "dcoder.gateway.overhead",
    ):  # fmt: skip
        one = point(metric)
        assert (metric, one.count, observed.collector.latest[metric].unit) == (metric, 1, "s")
        assert list(one.explicit_bounds) == list(names.HISTOGRAMS[metric][1])
        told = attributes(one.attributes)
        assert (told[names.OPERATION], told[names.PROVIDER]) == ("chat", "openai")
    assert "http.server.request.duration" in observed.collector.latest
    (cost,) = {one.unit for name, one in observed.collector.latest.items() if name == "dcoder.cost"}
    assert cost == "{micro_usd}"


async def test_nothing_that_was_said_and_nobodys_name_or_key_is_told(observed: Observed) -> None:
    provider = observed.gateway.provider
    provider.will(completion(ANSWER), stream(ANSWER), error(500, ANSWER))
    for is_stream in (False, True, False):
        body = question(text=SECRET, user="ada@example.com", metadata={"a": SECRET}, stream=is_stream)
        trace, _ = await observed.ask("/v1/chat/completions", body)
        await observed.both(trace)
    told = b"".join(observed.collector.bodies)
    for secret in (
        SECRET,
        ANSWER,
        "ada@example.com",
        observed.gateway.key,
        str(observed.gateway.tenant),
        "sk-provider",
    ):
        assert secret.encode() not in told, secret


async def test_the_collector_sees_its_headers_and_who_speaks(observed: Observed) -> None:
    trace, _ = await observed.ask("/v1/chat/completions", question())
    await observed.both(trace)
    assert {head["x-token"] for head in observed.collector.heads} == {"of-the-collector"}
    assert {resource["service.name"] for resource in observed.collector.resources} == {"dcoder"}
    assert "of-the-collector" not in repr(observed.application.process.settings)
