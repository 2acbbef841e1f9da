"""Callers and providers that try to be read in two ways."""

from __future__ import annotations

import asyncio
import gzip
import zlib

import pytest

from shared.llm.outbound import REMEMBERED_S
from shared.settings import Settings
from shared.tenancy import TenantRegistry
from tests.fixtures.provider import DONE, FINISH, ROLE, Cut, Script, Stall, chunk, completion, error, usage_chunk, whole
from tests.fixtures.runtime import serving_function
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway, make_key, question, store

MESSAGES = b'"messages":[{"role":"user","content":"Hi"}]'


@pytest.mark.parametrize(
    "body",
    [
        b'{"model":"house-model","model":"gpt-4o-mini",' + MESSAGES + b"}",
        b'{"mod\\u0065l":"house-model",' + MESSAGES + b',"model":"gpt-4o-mini"}',
        b'{"model":"gpt-4o-mini","Model":"house-model",' + MESSAGES + b"}",
        b'{"MODEL":"house-model","model":"gpt-4o-mini",' + MESSAGES + b"}",
        b'{"model":"gpt-4o-mini","\xc5\xbftream":true,' + MESSAGES + b"}",
        b'{"model":"gpt-4o-mini","stream":false,"stream":true,' + MESSAGES + b"}",
    ],
    ids=["twice", "escaped", "capital", "capitals", "long s", "stream twice"],
)
async def test_a_body_that_another_reader_would_read_otherwise_is_refused(gateway: Gateway, body: bytes) -> None:
    key = await make_key(gateway.application, gateway.tenant, role="member", models=["gpt-4o-mini"])
    async with gateway.with_key(key) as client:
        answer = await client.post("/v1/chat/completions", content=body)
    assert (answer.status_code, answer.json()["error"]["type"]) == (400, "invalid_request_error")
    assert gateway.provider.calls == []


@pytest.mark.parametrize(
    ("method", "path", "model"),
    [
        ("POST", "/v1/chat/completions", "house-model"),
        ("POST", "/v1/chat/completions", "scripted/house-model"),
        ("POST", "/v1/chat/completions", "doc-chat"),
        ("POST", "/v1/chat/completions", "doc-chat/gpt-4o-mini"),
        ("POST", "/v1/embeddings", "text-embedding-3-small"),
        ("POST", "/v1/embeddings", "all-minilm-l6-v2"),
        ("GET", "/v1/models/house-model", ""),
        ("GET", "/v1/models/scripted/house-model", ""),
        ("GET", "/v1/models/doc-chat", ""),
    ],
)
async def test_no_route_leads_past_a_keys_models(gateway: Gateway, method: str, path: str, model: str) -> None:
    key = await make_key(gateway.application, gateway.tenant, role="admin", models=["gpt-4o-mini"])
    body = {**question(model), "input": "x"} if model else None
    async with gateway.with_key(key) as client:
        answer = await client.request(method, path, json=body)
    assert (answer.status_code, answer.json()["error"]["code"]) == (404, "model_not_found")
    assert gateway.provider.calls == []
    assert await gateway.rows() == []


async def test_members_that_are_not_ours_may_be_spelled_as_they_like(gateway: Gateway) -> None:
    tool = {"type": "function", "function": {"name": "f", "parameters": {"properties": {"Model": {}, "STREAM": {}}}}}
    assert (await gateway.chat(tools=[tool])).status_code == 200


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/embeddings"])
@pytest.mark.parametrize(("said", "status"), [("text/plain", 415), ("application/json; charset=utf-8", 200)])
async def test_a_body_of_another_kind_is_refused(gateway: Gateway, path: str, said: str, status: int) -> None:
    model = "gpt-4o-mini" if "chat" in path else "text-embedding-3-small"
    content = b'{"model":"%b","input":"x",%b}' % (model.encode(), MESSAGES)
    answer = await gateway.client.post(path, content=content, headers={"content-type": said})
    assert answer.status_code == status
    assert ("error" in answer.json()) is (status != 200)


async def test_a_stream_split_at_every_byte_is_the_same_stream(gateway: Gateway) -> None:
    kept = [ROLE, b": ping\r\n\r\n", chunk({"content": "h\u00e9"}), FINISH]
    sent = b"".join([*kept, usage_chunk(5, 6), DONE])
    gateway.provider.will(Script(tuple(bytes([one]) for one in sent)))
    answer = await gateway.chat(stream=True)
    assert answer.content == b"".join([*kept, DONE])
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["input_tokens"], row["output_tokens"]) == ("done", 5, 6)


def compressed(script: Script, coding: str) -> Script:
    plain = b"".join(step for step in script.steps if isinstance(step, bytes))
    body = gzip.compress(plain) if coding == "gzip" else zlib.compress(plain)
    kept = tuple(header for header in script.headers if header[0] != "content-length")
    return Script((body,), script.status, (*kept, ("content-encoding", coding)))


@pytest.mark.parametrize("coding", ["gzip", "deflate"])
async def test_a_provider_that_compresses_unasked_is_unpacked(gateway: Gateway, coding: str) -> None:
    stream = Script((ROLE, chunk({"content": "Hi"}), FINISH, usage_chunk(5, 6), DONE))
    gateway.provider.will(compressed(completion("Hi"), coding), compressed(stream, coding))
    assert (await gateway.chat()).json()["choices"][0]["message"]["content"] == "Hi"
    assert (await gateway.chat(stream=True)).content.endswith(FINISH + DONE)
    assert [row["usage_known"] for row in await gateway.ledger(2)] == [True, True]


@pytest.mark.parametrize("streaming", [False, True])
async def test_what_cannot_be_unpacked_is_the_providers_error(gateway: Gateway, streaming: bool) -> None:
    kind = ("content-type", "text/event-stream" if streaming else "application/json")
    gateway.provider.will(Script((b"no gzip",), 200, (kind, ("content-encoding", "gzip"))))
    answer = await gateway.chat(stream=streaming)
    assert answer.status_code == (200 if streaming else 502)
    assert "encoding that cannot be read" in answer.text
    (row,) = await gateway.ledger()
    assert row["outcome"] == ("cut" if streaming else "provider_error")


@pytest.mark.parametrize("end", [Stall(), Cut()], ids=["stays", "breaks"])
async def test_a_stream_is_whole_at_its_done_whatever_the_connection_does_then(
    gateway: Gateway, end: Stall | Cut
) -> None:
    gateway.provider.will(Script((ROLE, FINISH, usage_chunk(5, 6), DONE, end)))
    answer = await asyncio.wait_for(gateway.chat(stream=True), 10)
    assert answer.content == ROLE + FINISH + DONE
    (row,) = await gateway.ledger()
    assert (row["outcome"], row["usage_known"]) == ("done", True)


async def test_a_status_that_is_none_is_the_providers_error(gateway: Gateway) -> None:
    gateway.provider.will(whole({"error": {"message": "?"}}, status=799))
    answer = await gateway.chat()
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "provider_answer_unusable")
    assert [row["outcome"] for row in await gateway.ledger()] == ["provider_error"]


async def test_what_the_gateway_does_not_have_is_told_in_openais_shape(settings: Settings) -> None:
    async with serving_function("gateway-llm", settings) as runtime:
        unknown = await runtime.client.post("/v1/assistants", json=question())
        wrong = await runtime.client.get("/v1/chat/completions")
    assert [(one.status_code, one.json()["error"]["code"]) for one in (unknown, wrong)] == [
        (404, "not_found"), (405, "method_not_allowed"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    "script",
    [
        error(401, f"Incorrect API key provided: {PROVIDER_KEY}"),
        whole(f"<p>{PROVIDER_KEY}</p>".encode(), status=500),
        Script((), before=(Cut(),)),
        Script((ROLE, Cut())),
        Script((b"\x00" * 100,), 200, (("content-type", "text/event-stream"),)),
        Script((b"x",), 200, (("content-encoding", "gzip"),)),
    ],
    ids=["401", "500", "cut before", "cut within", "nonsense", "encoding"],
)
async def test_no_key_is_ever_logged(gateway: Gateway, script: Script, capfd: pytest.CaptureFixture[str]) -> None:
    for streaming in (False, True):
        gateway.provider.will(script)
        answer = await gateway.chat(stream=streaming)
        assert PROVIDER_KEY not in answer.text
    await gateway.client.get("/v1/models", headers={"authorization": f"Bearer {gateway.key}x"})
    told = "".join(capfd.readouterr())
    assert PROVIDER_KEY not in told
    assert gateway.key not in told


@pytest.mark.parametrize("tail", ["\u00fc", "\r\nx: y", "\u0000"], ids=["beyond ASCII", "line end", "U+0000"])
async def test_a_stored_key_that_no_header_can_hold_is_told_without_it(
    gateway: Gateway, capfd: pytest.CaptureFixture[str], tail: str
) -> None:
    await store(gateway.client, "odd", gateway.provider.base_url, ["odd-model"])
    registry = await gateway.application.process.get(TenantRegistry)
    sealed = await (await registry.secrets(gateway.tenant)).seal("provider:odd", (PROVIDER_KEY + tail).encode())
    database = await registry.database(gateway.tenant)
    await database.execute("UPDATE provider_credentials SET sealed = $1 WHERE name = 'odd'", sealed)
    await asyncio.sleep(REMEMBERED_S)
    answer = await gateway.chat("odd-model")
    await gateway.client.delete("/v1/secrets/providers/odd")
    assert answer.status_code == (200 if tail == "\u00fc" else 503)
    assert PROVIDER_KEY not in answer.text + "".join(capfd.readouterr())
    assert len(await gateway.ledger()) == 1
