"""The built-in models, and OpenAI's own client against the gateway."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator

import openai
import pytest

from functions.knowledge.documents.ingest import Ingest
from functions.knowledge.documents.parsing import Parsers
from shared.embeddings import Embeddings
from shared.objects import ObjectStore
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.provider import DONE, FINISH, ROLE, Script, Stall, chunk, completion, error, usage_chunk
from tests.fixtures.waiting import until
from tests.functions.gateway.conftest import Gateway, limit, make_key, question, serving

TEXT = (
    b"# Leave\n\nEvery employee has thirty days of paid leave a year. Unused leave expires on the last of March.\n\n"
    b"# Expenses\n\nTravel expenses are paid back within ten working days.\n"
)
ASKED = "How many days of paid leave does an employee have?"


@pytest.fixture(scope="session")
async def documents(chatter: Gateway) -> None:
    """One document of the tenant's, ingested the real way."""
    process = chatter.application.process
    objects = (await process.get(ObjectStore)).tenant(chatter.tenant)
    database = await (await process.get(TenantRegistry)).database(chatter.tenant)
    await objects.put("documents/handbook.md", TEXT, "text/markdown")
    parsers = Parsers()
    try:
        ingest = Ingest(database, objects, await process.get(Embeddings), parsers)
        await ingest.converge("handbook.md", "first")
    finally:
        await parsers.close()


@pytest.fixture
async def client(gateway: Gateway) -> AsyncIterator[openai.AsyncOpenAI]:
    async with openai.AsyncOpenAI(base_url=f"{gateway.url}/v1", api_key=gateway.key, max_retries=0) as client:
        yield client


@pytest.mark.usefixtures("documents")
async def test_doc_chat_answers_with_marks_citations_and_sources(gateway: Gateway) -> None:
    answer = (await gateway.chat("doc-chat", messages=[{"role": "user", "content": ASKED}])).json()
    message = answer["choices"][0]["message"]
    assert "thirty days" in message["content"]
    assert "[1]" in message["content"]
    assert message["content"].endswith("Sources:\n[1] handbook.md")
    (citation, *_) = message["citations"]
    assert TEXT.decode()[citation["start"] : citation["end"]] == citation["quote"]
    assert answer["answered_by"] == "extractive"
    (row,) = await gateway.ledger()
    assert (row["model"], row["provider"], row["cost_micro_usd"], row["outcome"]) == ("doc-chat", "dcoder", 0, "done")
    assert row["input_tokens"] == answer["usage"]["prompt_tokens"] > 0


@pytest.mark.usefixtures("documents")
async def test_doc_chat_as_a_stream_says_the_same_and_ends_with_citations(gateway: Gateway) -> None:
    whole = (await gateway.chat("doc-chat", messages=[{"role": "user", "content": ASKED}])).json()
    sent = await gateway.chat(
        "doc-chat", messages=[{"role": "user", "content": ASKED}], stream=True, stream_options={"include_usage": True}
    )
    events = [piece.removeprefix("data: ") for piece in sent.text.strip().split("\n\n")]
    assert events[-1] == "[DONE]"
    parts = [json.loads(one) for one in events[:-1]]
    deltas = [part["choices"][0]["delta"] for part in parts if part["choices"]]
    assert "".join(delta.get("content", "") for delta in deltas) == whole["choices"][0]["message"]["content"]
    assert deltas[-2]["citations"] == whole["choices"][0]["message"]["citations"]
    assert parts[-1]["usage"] == whole["usage"]
    assert [row["outcome"] for row in await gateway.ledger(2)] == ["done", "done"]


@pytest.mark.usefixtures("documents")
async def test_doc_chat_over_a_providers_model_is_two_rows_and_charged_once(gateway: Gateway) -> None:
    gateway.provider.will(completion('"Every employee has thirty days of paid leave a year." [1]'))
    answer = (await gateway.chat("doc-chat/gpt-4o-mini", messages=[{"role": "user", "content": ASKED}])).json()
    assert "[1]" in answer["choices"][0]["message"]["content"]
    assert answer["answered_by"] == "gpt-4o-mini"
    rows = {row["model"]: row for row in await gateway.ledger(2)}
    assert rows["doc-chat/gpt-4o-mini"]["cost_micro_usd"] == 0
    assert rows["doc-chat/gpt-4o-mini"]["input_tokens"] == 0
    assert (rows["gpt-4o-mini"]["input_tokens"], rows["gpt-4o-mini"]["output_tokens"]) == (7, 3)
    assert rows["gpt-4o-mini"]["key_id"] == rows["doc-chat/gpt-4o-mini"]["key_id"]


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize("streaming", [False, True])
async def test_doc_chat_over_a_model_does_not_wait_for_the_slot_that_it_holds(
    gateway: Gateway, settings: Settings, streaming: bool
) -> None:
    gateway.provider.will(completion('"Every employee has thirty days of paid leave a year." [1]'))
    body = question("doc-chat/gpt-4o-mini", ASKED, stream=streaming)
    async with serving(settings, concurrency=1) as (_, narrow), gateway.at(narrow.llm_url) as client:
        answer = await asyncio.wait_for(client.post("/v1/chat/completions", json=body), 20)
    assert answer.status_code == 200
    assert "thirty days" in answer.text


def streamed_text(sent: str) -> str:
    """What the events of a stream say, put together."""
    events = [json.loads(one.removeprefix("data: ")) for one in sent.strip().split("\n\n")[:-1]]
    return "".join(one["choices"][0]["delta"].get("content", "") for one in events)


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize("streaming", [False, True])
async def test_line_ends_beyond_ascii_do_not_break_an_answer(gateway: Gateway, streaming: bool) -> None:
    gateway.provider.will(
        completion('"Every employee has thirty days of paid leave a year." [1]\u2028So\u0085it is\u2029')
    )
    answer = await gateway.chat("doc-chat/gpt-4o-mini", messages=[{"role": "user", "content": ASKED}], stream=streaming)
    content = streamed_text(answer.text) if streaming else answer.json()["choices"][0]["message"]["content"]
    assert "\u2028So\u0085it is" in content
    assert {row["outcome"] for row in await gateway.ledger(2)} == {"done"}


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize("streaming", [False, True])
async def test_a_caller_of_doc_chat_who_leaves_closes_the_provider_that_writes(
    gateway: Gateway, streaming: bool
) -> None:
    gateway.provider.will(Script((), before=(Stall(),)))
    async with gateway.at(gateway.url) as client:
        body = question("doc-chat/gpt-4o-mini", ASKED, stream=streaming)
        calling = asyncio.create_task(client.post("/v1/chat/completions", json=body))
        await until(lambda: bool(gateway.provider.calls))
        calling.cancel()
        await asyncio.wait({calling})
    await asyncio.wait_for(gateway.provider.calls[0].ended.wait(), 5)
    assert gateway.provider.calls[0].closed_early
    assert [row["outcome"] for row in await gateway.ledger(2)] == ["client_gone", "client_gone"]


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize("streaming", [False, True])
async def test_doc_chat_whose_writer_fails_says_so(gateway: Gateway, streaming: bool) -> None:
    gateway.provider.will(error(500, "out of order"))
    answer = await gateway.chat("doc-chat/gpt-4o-mini", messages=[{"role": "user", "content": ASKED}], stream=streaming)
    assert "out of order" in answer.text
    assert answer.status_code == (200 if streaming else 503)
    assert b"[DONE]" not in answer.content
    assert {row["outcome"] for row in await gateway.ledger(2)} == {"provider_error"}


@pytest.mark.usefixtures("documents")
async def test_doc_chat_whose_writer_is_refused_says_it_as_the_writer_was_told(
    gateway: Gateway, limited: Gateway
) -> None:
    key = await make_key(gateway.application, gateway.tenant)
    await limit(limited, scope="key", name=key.split("_")[1], metric="micro_usd", span="ever", amount=1)
    body, written = question("doc-chat/gpt-4o-mini", ASKED), question("gpt-4o-mini", ASKED)
    async with gateway.with_key(key) as client:
        nested = await client.post("/v1/chat/completions", json=body)
        direct = await client.post("/v1/chat/completions", json=written)
        streamed = await client.post("/v1/chat/completions", json=body | {"stream": True})
    assert nested.status_code == direct.status_code == 429
    assert nested.json()["error"]["code"] == direct.json()["error"]["code"] == "insufficient_quota"
    assert nested.headers["x-should-retry"] == direct.headers["x-should-retry"] == "false"
    assert "retry-after" not in nested.headers
    assert json.loads(streamed.text.split("data: ")[-1])["error"]["code"] == "insufficient_quota"
    assert gateway.provider.calls == []


@pytest.mark.usefixtures("documents")
@pytest.mark.parametrize(
    ("status", "headers"), [(400, {}), (403, {}), (404, {}), (413, {}), (429, {"retry-after": "7"}), (429, {})]
)
async def test_a_refusal_of_the_writers_provider_keeps_its_status(
    gateway: Gateway, status: int, headers: dict[str, str]
) -> None:
    gateway.provider.will(error(status, "not today", headers=list(headers.items())))
    answer = await gateway.chat("doc-chat/gpt-4o-mini", messages=[{"role": "user", "content": ASKED}])
    assert answer.status_code == status
    assert "not today" in answer.json()["error"]["message"]
    assert answer.headers.get("retry-after") == headers.get("retry-after", "1" if status == 429 else None)


async def test_openais_client_reads_a_completion(client: openai.AsyncOpenAI) -> None:
    answer = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}], temperature=0
    )
    assert answer.choices[0].message.content == "Hello"
    assert answer.usage is not None
    assert answer.usage.total_tokens == 10


async def test_openais_client_assembles_streamed_tool_calls_and_usage(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    deltas = [
        {"tool_calls": [{"index": 0, "id": "a", "type": "function", "function": {"name": "f", "arguments": ""}}]},
        {"tool_calls": [{"index": 1, "id": "b", "type": "function", "function": {"name": "g", "arguments": "{"}}]},
        {"tool_calls": [{"index": 0, "function": {"arguments": '{"x": 1}'}}]},
        {"tool_calls": [{"index": 1, "function": {"arguments": "}"}}]},
    ]
    gateway.provider.will(Script((ROLE, *map(chunk, deltas), FINISH, usage_chunk(5, 6), DONE)))
    arguments, used = ["", ""], None
    async for part in await client.chat.completions.create(
        model="gpt-4o-mini",
        messages=[{"role": "user", "content": "Hi"}],
        stream=True,
        stream_options={"include_usage": True},
    ):
        used = part.usage or used
        for choice in part.choices:
            for call in choice.delta.tool_calls or []:
                arguments[call.index] += (call.function and call.function.arguments) or ""
    assert arguments == ['{"x": 1}', "{}"]
    assert used is not None
    assert used.completion_tokens == 6


async def test_openais_client_raises_its_own_errors(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    with pytest.raises(openai.NotFoundError) as unknown:
        await client.chat.completions.create(model="no-such", messages=[{"role": "user", "content": "Hi"}])
    assert unknown.value.code == "model_not_found"
    gateway.provider.will(error(429, headers=[("retry-after", "1")]))
    with pytest.raises(openai.RateLimitError):
        await client.chat.completions.create(model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}])
    with pytest.raises(openai.AuthenticationError):
        await client.with_options(api_key="wrong").models.list()


async def test_openais_client_learns_that_a_stream_broke(client: openai.AsyncOpenAI, gateway: Gateway) -> None:
    gateway.provider.will(Script((ROLE, chunk({"content": "Hel"}))))
    with pytest.raises(openai.APIError, match="before it was complete"):
        async for _ in await client.chat.completions.create(
            model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}], stream=True
        ):
            pass


async def test_openais_client_that_closes_its_stream_closes_the_provider(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    gateway.provider.will(Script((ROLE, chunk({"content": "Hel"}), Stall())))
    stream = await client.chat.completions.create(
        model="gpt-4o-mini", messages=[{"role": "user", "content": "Hi"}], stream=True
    )
    async for part in stream:
        if part.choices[0].delta.content:
            break
    await stream.close()
    (row,) = await gateway.ledger()
    assert row["outcome"] == "client_gone"
    assert gateway.provider.calls[0].closed_early


async def test_openais_client_lists_and_gets_models(client: openai.AsyncOpenAI) -> None:
    listed = [one.id async for one in client.models.list()]
    assert {"doc-chat", "all-minilm-l6-v2", "gpt-4o-mini", "doc-chat/gpt-4o-mini"} <= set(listed)
    assert (await client.models.retrieve("gpt-4o-mini")).owned_by == "scripted"


async def test_openais_client_gets_embeddings_from_the_built_in_model(
    client: openai.AsyncOpenAI, gateway: Gateway
) -> None:
    answer = await client.embeddings.create(model="all-minilm-l6-v2", input=["paid leave", "annual holiday"])
    assert [len(one.embedding) for one in answer.data] == [384, 384]
    assert answer.usage.prompt_tokens > 0
    (row,) = await gateway.ledger()
    assert (row["model"], row["cost_micro_usd"]) == ("all-minilm-l6-v2", 0)


@pytest.mark.parametrize("given", [[[1, 2, 3]], ["ok", ""], ["x"] * 257, 7, {"a": 1}])
async def test_the_built_in_embedding_model_refuses_what_it_cannot_embed(gateway: Gateway, given: object) -> None:
    answer = await gateway.client.post("/v1/embeddings", json={"model": "all-minilm-l6-v2", "input": given})
    assert answer.status_code == 400
    assert answer.json()["error"]["param"] == "input"
    assert await gateway.rows() == []


async def test_a_chat_model_is_refused_for_embeddings(gateway: Gateway) -> None:
    answer = await gateway.client.post("/v1/embeddings", json={"model": "doc-chat", "input": "x"})
    assert answer.status_code == 400


async def test_a_question_over_the_limit_is_refused_before_anything_is_asked(gateway: Gateway) -> None:
    answer = await gateway.client.post("/v1/chat/completions", json=question("doc-chat", text="x" * 9000))
    assert answer.status_code == 400
    assert "8000 characters" in answer.json()["error"]["message"]
