"""Providers' own routes: those that are open, for keys that were given them, metered and audited."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from functions.gateway.llm.passing import OPEN, of_form, tokens_named_input
from shared.errors import Malformed
from shared.llm.kinds import KINDS
from shared.tenancy import TenantRegistry
from shared.usage import Tokens
from tests.fixtures.provider import Cut, Script, Stall, error, whole
from tests.functions.gateway.conftest import PROVIDER_KEY, Gateway, limit, make_key, store

MODEL = "gpt-image-1"
RIGHTS = ["models:use", "passthrough:use"]
PICTURES = "/v1/passthrough/pictures/images/generations"
USAGE = {"input_tokens": 7, "output_tokens": 100, "input_tokens_details": {"text_tokens": 5, "image_tokens": 2}}


@pytest.fixture
async def pictures(gateway: Gateway) -> AsyncIterator[Gateway]:
    await store(gateway.client, "pictures", gateway.provider.base_url, [MODEL, "gpt-4o-transcribe"], kind="openai")
    yield gateway
    await gateway.client.delete("/v1/secrets/providers/pictures")


@pytest.fixture
async def client(pictures: Gateway) -> AsyncIterator[httpx.AsyncClient]:
    key = await make_key(pictures.application, pictures.tenant, role="member", permissions=RIGHTS)
    async with pictures.with_key(key) as client:
        yield client


async def test_a_body_goes_to_the_providers_route_and_its_answer_comes_back(
    pictures: Gateway, client: httpx.AsyncClient
) -> None:
    answer = b'{ "created":1,"data":[{"b64_json":"AA=="}], "usage":' + json.dumps(USAGE).encode() + b"}"
    pictures.provider.will(whole(answer, headers=[("x-ratelimit-remaining-requests", "9"), ("set-cookie", "no=1")]))
    body = b' {"model":"gpt-image-1","prompt":"h\xc3\xa9","size":"1024x1024"}'
    told = await client.post(PICTURES, content=body, headers={"x-odd": "1", "cookie": "a=b"})
    assert (told.status_code, told.content) == (200, answer)
    assert (told.headers["x-ratelimit-remaining-requests"], "set-cookie" in told.headers) == ("9", False)
    (call,) = pictures.provider.calls
    assert (call.method, call.path, call.body) == ("POST", "/v1/images/generations", body)
    assert call.headers["authorization"] == f"Bearer {PROVIDER_KEY}"
    assert not {"x-odd", "cookie"} & call.headers.keys()
    (row,) = await pictures.ledger()
    assert (row["feature"], row["model"], row["output_tokens"]) == ("passthrough", MODEL, 100)
    assert row["cost_micro_usd"] == 5 * 5 + 2 * 10 + 100 * 40
    database = await (await pictures.application.process.get(TenantRegistry)).database(pictures.tenant)
    records = [bytes(one["record"]) for one in await database.fetch("SELECT record FROM audit_outbox")]
    assert any(b"provider/pictures/images/generations" in one and MODEL.encode() in one for one in records)


@pytest.mark.parametrize(
    ("role", "permissions"),
    [
        ("admin", None),
        ("admin", ["*:*"]),
        ("admin", ["passthrough:*"]),
        ("member", ["models:use"]),
        ("viewer", RIGHTS),
    ],
)
async def test_no_key_has_the_permission_unless_it_was_given_by_name(
    pictures: Gateway, role: str, permissions: list[str] | None
) -> None:
    key = await make_key(pictures.application, pictures.tenant, role=role, permissions=permissions)
    async with pictures.with_key(key) as client:
        told = await client.post(PICTURES, json={"model": MODEL, "prompt": "x"})
    assert (told.status_code, told.json()["error"]["type"]) == (403, "permission_error")
    assert pictures.provider.calls == []


@pytest.mark.parametrize(
    "path",
    [
        "chat/completions", "responses", "files", "models", "fine_tuning/jobs", "organization/admin_api_keys", "",
        "images/generations/", "images//generations", "images/../images/generations",
        "images/%2e%2e/images/generations", "images%2Fgenerations", "images/generations%00",
        "images/generations%3Fx=1", "images/generations;x", "IMAGES/generations", "images/generations%20",
        "images/generations%0d%0ax:%20y", "http://169.254.169.254/latest", "/images/generations",
        "\\images\\generations", "images/generations%23x", "@evil.example/images/generations",
    ],
)  # fmt: skip
async def test_no_other_path_leads_anywhere(pictures: Gateway, client: httpx.AsyncClient, path: str) -> None:
    """The path is sent as it stands: a client would tidy it up."""
    body = json.dumps({"model": MODEL, "prompt": "x"})
    head = f"POST /v1/passthrough/pictures/{path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n"
    head += f"authorization: {client.headers['authorization']}\r\ncontent-type: application/json\r\n"
    at = httpx.URL(pictures.url)
    reader, writer = await asyncio.open_connection(at.host, at.port)
    writer.write(f"{head}content-length: {len(body)}\r\n\r\n{body}".encode())
    told = await reader.read()
    writer.close()
    assert told.split(b" ")[1] in (b"307", b"400", b"404"), told
    assert pictures.provider.calls == []
    assert await pictures.rows() == []


@pytest.mark.parametrize(
    ("path", "body", "headers", "status"),
    [
        ("pictures/images/generations?x=1", {"model": MODEL}, {}, 400),
        ("nobody/images/generations", {"model": MODEL}, {}, 404),
        ("scripted/ocr", {"model": "gpt-4o-mini"}, {}, 404),
        ("claudes/images/generations", {"model": "claude-sonnet-4-5"}, {}, 404),
        ("pictures/images/generations", {"model": "gpt-4o"}, {}, 404),
        ("pictures/images/generations", {"prompt": "x"}, {}, 400),
        ("pictures/images/generations", {"model": MODEL, "Model": "x"}, {}, 400),
        ("pictures/images/generations", {"model": MODEL, "n": 1000}, {}, 400),
        ("pictures/images/generations", {"model": MODEL}, {"content-type": "text/plain"}, 415),
        ("pictures/images/generations", {"model": MODEL}, {"content-type": "multipart/form-data"}, 415),
        ("pictures/images/generations", {"model": MODEL}, {"content-type": "multipart/form-data; boundary=x"}, 400),
    ],
)
async def test_what_cannot_be_passed_is_refused_before_anything_is_sent_or_charged(
    pictures: Gateway, client: httpx.AsyncClient, path: str, body: dict[str, Any], headers: dict[str, str], status: int
) -> None:
    content = json.dumps(body).encode()
    told = await client.post(
        f"/v1/passthrough/{path}", content=content, headers={"content-type": "application/json"} | headers
    )
    assert told.status_code == status, told.text
    assert pictures.provider.calls == []
    assert await pictures.rows() == []


async def test_a_key_with_models_keeps_to_them_and_sends_no_forms(pictures: Gateway) -> None:
    key = await make_key(pictures.application, pictures.tenant, permissions=RIGHTS, models=["pictures/gpt-image-1"])
    async with pictures.with_key(key) as client:
        path = "/v1/passthrough/pictures/audio/transcriptions"
        form = await client.post(path, data={"model": MODEL}, files={"file": b"x"})
        other = await client.post(PICTURES, json={"model": "gpt-4o-transcribe"})
        assert (form.status_code, other.status_code) == (404, 404)
        assert pictures.provider.calls == []
        assert (await client.post(PICTURES, json={"model": MODEL})).status_code == 200


async def test_a_form_goes_through_byte_for_byte_with_its_usage_read(
    pictures: Gateway, client: httpx.AsyncClient
) -> None:
    used = {"type": "tokens", "input_tokens": 9, "output_tokens": 3, "input_token_details": {"audio_tokens": 8}}
    pictures.provider.will(whole({"text": "Hello", "usage": used}))
    path = "/v1/passthrough/pictures/audio/transcriptions"
    request = client.build_request(
        "POST", path, data={"model": "gpt-4o-transcribe"}, files={"file": ("a.mp3", b"\x00\xff" * 50)}
    )
    sent = await request.aread()
    told = await client.send(request)
    assert told.json()["text"] == "Hello"
    (call,) = pictures.provider.calls
    assert (call.body, call.headers["content-type"]) == (sent, request.headers["content-type"])
    (row,) = await pictures.ledger()
    assert (row["model"], row["input_tokens"], row["output_tokens"]) == ("gpt-4o-transcribe", 9, 3)


@pytest.mark.parametrize(
    "form",
    [
        b'--b\r\nContent-Disposition: form-data; name="file"\r\n\r\nx\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b\r\n'
        b'Content-Disposition: form-data; name="model"\r\n\r\nb\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\na\r\n--b\r\n'
        b"Content-Disposition: form-data; name=model\r\n\r\nb\r\n--b--\r\n",
        b'--b\r\nContent-Disposition: form-data; name="model"; filename="x"\r\n\r\na\r\n--b--\r\n',
        b'--b\r\nContent-Disposition: form-data; name="model"\r\n\r\n\r\n--b--\r\n',
    ],
)
def test_a_form_whose_model_is_not_plain_is_refused(form: bytes) -> None:
    with pytest.raises(Malformed):
        of_form(form, "multipart/form-data; boundary=b")


async def test_sound_comes_as_it_is_made_and_is_charged_as_reserved(
    pictures: Gateway, client: httpx.AsyncClient
) -> None:
    sound = bytes(range(256)) * 40
    steps = tuple(sound[start : start + 1000] for start in range(0, len(sound), 1000))
    pictures.provider.will(Script(steps, headers=(("content-type", "audio/mpeg"),)))
    told = await client.post("/v1/passthrough/pictures/audio/speech", json={"model": MODEL, "input": "Hi"})
    assert (told.content, told.headers["content-type"]) == (sound, "audio/mpeg")
    assert told.headers["x-content-type-options"] == "nosniff"
    (row,) = await pictures.ledger()
    assert (row["outcome"], row["usage_known"], row["cost_micro_usd"]) == ("done", False, None)
    assert row["charged_tokens"] > 16_384


async def test_events_are_passed_on_and_their_usage_is_read(pictures: Gateway, client: httpx.AsyncClient) -> None:
    last = {"type": "image_generation.completed", "b64_json": "AA==", "usage": USAGE}
    sent = b'event: image_generation.partial_image\r\ndata: {"b64_json":"AA=="}\r\n\r\n: ping\n\n'
    sent += f"event: image_generation.completed\ndata: {json.dumps(last)}\n\n".encode()
    pictures.provider.will(Script(tuple(sent[start : start + 5] for start in range(0, len(sent), 5))))
    told = await client.post(PICTURES, json={"model": MODEL, "prompt": "x", "stream": True})
    assert told.content == sent
    (row,) = await pictures.ledger()
    assert (row["outcome"], row["output_tokens"]) == ("done", 100)


async def test_what_breaks_off_is_not_taken_for_whole(pictures: Gateway, client: httpx.AsyncClient) -> None:
    pictures.provider.will(
        Script((b"data: {}\n\n", Cut())), Script((b"sound", Cut()), headers=(("content-type", "audio/mpeg"),))
    )
    told = await client.post(PICTURES, json={"model": MODEL, "prompt": "x", "stream": True})
    assert json.loads(told.content.strip().split(b"data: ")[-1])["error"]["type"] == "server_error"
    with pytest.raises(httpx.RemoteProtocolError):
        await client.post("/v1/passthrough/pictures/audio/speech", json={"model": MODEL, "input": "Hi"})
    assert [row["outcome"] for row in await pictures.ledger(2)] == ["cut", "cut"]


async def test_a_caller_who_leaves_closes_the_provider(pictures: Gateway, client: httpx.AsyncClient) -> None:
    pictures.provider.will(Script((b"data: {}\n\n", Stall())))
    async with client.stream("POST", PICTURES, json={"model": MODEL, "prompt": "x", "stream": True}) as answer:
        async for _ in answer.aiter_raw():
            break
    await asyncio.wait_for(pictures.provider.calls[0].ended.wait(), 5)
    (row,) = await pictures.ledger()
    assert row["outcome"] == "client_gone"


@pytest.mark.parametrize("status", [400, 429, 500])
async def test_a_providers_error_is_passed_on_without_the_key(
    pictures: Gateway, client: httpx.AsyncClient, status: int
) -> None:
    pictures.provider.will(error(status, f"no, {PROVIDER_KEY}", headers=[("retry-after", "7")]))
    told = await client.post(PICTURES, json={"model": MODEL, "prompt": "x"})
    assert (told.status_code, told.headers["retry-after"]) == (status, "7")
    assert PROVIDER_KEY not in told.text
    (row,) = await pictures.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


async def test_a_redirect_is_not_followed(pictures: Gateway, client: httpx.AsyncClient) -> None:
    pictures.provider.will(whole({}, status=307, headers=[("location", "http://169.254.169.254/latest")]))
    told = await client.post(PICTURES, json={"model": MODEL, "prompt": "x"})
    assert (told.status_code, len(pictures.provider.calls)) == (502, 1)


async def test_a_hard_limit_holds_here_too(pictures: Gateway, limited: Gateway) -> None:
    key = await make_key(pictures.application, pictures.tenant, permissions=RIGHTS)
    await limit(pictures, scope="key", name=key.split("_")[1], metric="tokens", span="ever", amount=100)
    async with pictures.with_key(key) as client:
        told = await client.post(PICTURES, json={"model": MODEL, "prompt": "x"})
    assert (told.status_code, told.json()["error"]["code"]) == (429, "insufficient_quota")
    assert pictures.provider.calls == []


def test_only_kinds_that_there_are_have_open_routes_and_none_that_is_governed_elsewhere() -> None:
    assert set(OPEN) < set(KINDS)
    governed = {"chat/completions", "completions", "embeddings", "responses", "v1/messages", "files", "batches"}
    assert all(not governed & paths for paths in OPEN.values())


def test_usage_is_read_in_its_other_form() -> None:
    assert tokens_named_input({"usage": USAGE}) == Tokens(7, 100, image_input=2)
    odds: list[dict[str, Any]] = [
        {},
        {"usage": []},
        {"usage": {"input_tokens": -1, "output_tokens": 1}},
        {"usage": {"seconds": 3}},
    ]
    for odd in odds:
        assert tokens_named_input(odd) is None
