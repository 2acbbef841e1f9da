"""Bad input on every route that takes a body: an error in the route's dialect, nothing charged, nothing forwarded."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from tests.functions.gateway.conftest import Gateway, limit, make_key, store

IMAGES = "/v1/passthrough/pictures/images/generations"
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/completions": {"model": "gpt-4o-mini", "prompt": "Hi"},
    "/v1/embeddings": {"model": "text-embedding-3-small", "input": "Hi"},
    "/v1/responses": {"model": "gpt-4o-mini", "input": "Hi"},
    "/v1/moderations": {"model": "dcoder-moderation", "input": "Hi"},
    "/v1/messages": {"model": "claude-sonnet-4-5", "max_tokens": 9, "messages": [{"role": "user", "content": "Hi"}]},
    "/v1/messages/count_tokens": {"model": "claude-sonnet-4-5", "messages": [{"role": "user", "content": "Hi"}]},
    IMAGES: {"model": "gpt-image-1", "prompt": "Hi"},
}
ASKING = [path for path in BODIES if path not in ("/v1/moderations", "/v1/messages/count_tokens")]
"""Those that take something of a budget."""
every_route = pytest.mark.parametrize("path", BODIES)


@pytest.fixture
async def routes(gateway: Gateway) -> AsyncIterator[Gateway]:
    await store(gateway.client, "pictures", gateway.provider.base_url, ["gpt-image-1"], kind="openai")
    yield gateway
    await gateway.client.delete("/v1/secrets/providers/pictures")


async def client_of(gateway: Gateway, **scope: Any) -> httpx.AsyncClient:  # Any: a key's scope
    rights = ["models:use", "passthrough:use"]
    return gateway.with_key(await make_key(gateway.application, gateway.tenant, permissions=rights, **scope))


def error_in(answer: httpx.Response, path: str) -> dict[str, Any]:  # Any: JSON
    """The error, whose shape is that of the route's dialect."""
    told: dict[str, Any] = answer.json()
    assert answer.headers["x-request-id"]
    if path.startswith("/v1/messages"):
        assert (told["type"], set(told)) == ("error", {"type", "error", "request_id"})
        assert {"type", "message"} <= told["error"].keys()
    else:
        assert set(told["error"]) == {"message", "type", "param", "code"}
    error: dict[str, Any] = told["error"]
    return error


async def untouched(gateway: Gateway) -> None:
    assert gateway.provider.calls == []
    assert await gateway.rows() == []


def changed(path: str, **more: Any) -> bytes:  # Any: JSON
    return json.dumps({**BODIES[path], **more}).encode()


@every_route
@pytest.mark.parametrize(
    ("content", "kind", "status"),
    [
        (b"", "application/json", 400),
        (b"{", "application/json", 400),
        (b"[]", "application/json", 400),
        (b"null", "application/json", 400),
        (b"[" * 100_000, "application/json", 400),
        (b'{"model":"\xe9"}', "application/json", 400),
        (b'{"model":"gpt-4o-mini","input":"\xf0\x9f\x99', "application/json", 400),
        (b"model=x", "application/x-www-form-urlencoded", 415),
        (b" " * (17 * 1024 * 1024), "application/json", 413),
    ],
    ids=["nothing", "half", "list", "null", "deep", "latin-1", "cut in a character", "a form", "oversize"],
)
async def test_a_body_that_is_none(routes: Gateway, path: str, content: bytes, kind: str, status: int) -> None:
    async with await client_of(routes) as client:
        answer = await client.post(path, content=content, headers={"content-type": kind})
    assert answer.status_code == status
    error_in(answer, path)
    await untouched(routes)


@every_route
async def test_a_model_that_is_unknown_or_not_allowed_looks_the_same(routes: Gateway, path: str) -> None:
    async with await client_of(routes) as free, await client_of(routes, models=["house-model"]) as narrow:
        unknown = await free.post(path, content=changed(path, model="nowhere"))
        not_allowed = await narrow.post(path, content=changed(path))
    assert (unknown.status_code, not_allowed.status_code) == (404, 404)
    assert (
        error_in(unknown, path)["message"].replace("nowhere", BODIES[path]["model"])
        == error_in(not_allowed, path)["message"]
    )
    await untouched(routes)


@every_route
@pytest.mark.parametrize("model", ["", 7, None, ["gpt-4o-mini"], "a\r\nx-odd: 1", "\u0000", "x" * 100_000])
async def test_a_model_that_is_no_name(routes: Gateway, path: str, model: object) -> None:
    async with await client_of(routes) as client:
        answer = await client.post(path, content=changed(path, model=model))
    assert answer.status_code in (400, 404)
    assert len(answer.content) < 2000
    assert "x-odd" not in answer.headers
    error_in(answer, path)
    await untouched(routes)


@every_route
@pytest.mark.parametrize("name", ["key", "api_key", "access_token", "authorization"])
async def test_a_key_in_the_query_is_no_credential_and_is_not_repeated(routes: Gateway, path: str, name: str) -> None:
    async with httpx.AsyncClient(base_url=routes.url) as client:
        answer = await client.post(path, content=changed(path), params={name: routes.key})
    assert answer.status_code == 401
    assert routes.key not in answer.text
    error_in(answer, path)
    await untouched(routes)


@pytest.mark.parametrize("path", [path for path in BODIES if path != "/v1/moderations"])
async def test_nothing_of_the_callers_head_reaches_the_provider(routes: Gateway, path: str) -> None:
    """Neither headers that proxies believe nor those that would change what the provider does for the account."""
    odd = {
        "openai-organization": "org-x", "openai-project": "p", "x-forwarded-for": "10.0.0.1", "host": "evil.example",
        "cookie": "a=b", "x-api-key-2": "k", "proxy-authorization": "Basic x", "expect": "", "te": "trailers",
    }  # fmt: skip
    async with await client_of(routes) as client:
        assert (await client.post(path, content=changed(path), headers=odd)).status_code == 200
    (call,) = routes.provider.calls
    assert not {"openai-organization", "openai-project", "x-forwarded-for", "cookie", "te"} & call.headers.keys()
    assert "evil" not in call.headers["host"]
    assert "dck_" not in str(call.headers)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/messages"])
async def test_a_line_break_in_a_header_is_refused_by_the_server(routes: Gateway, path: str) -> None:
    at, body = httpx.URL(routes.url), changed(path)
    reader, writer = await asyncio.open_connection(at.host, at.port)
    head = f"POST {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {routes.key}\r\nanthropic-beta: a\rb: c\r\n"
    writer.write(f"{head}connection: close\r\ncontent-length: {len(body)}\r\n\r\n".encode() + body)
    assert (await reader.read()).split(b" ")[1] == b"400"
    writer.close()
    await untouched(routes)


@pytest.mark.parametrize("path", ASKING)
async def test_a_spent_budget_says_when_it_resets(routes: Gateway, limited: Gateway, path: str) -> None:
    client = await client_of(routes)
    key_id = client.headers["authorization"].split("_")[1]
    await limit(routes, scope="key", name=key_id, metric="requests", span="calendar:month", amount=1)
    async with client:
        routes.provider.reset()
        await client.post(path, content=changed(path))
        routes.provider.reset()
        answer = await client.post(path, content=changed(path))
    assert answer.status_code == 429
    assert "There is room at 20" in error_in(answer, path)["message"]
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["x-should-retry"] == "false"
    assert routes.provider.calls == []


@pytest.mark.parametrize(
    ("path", "more", "param"),
    [
        ("/v1/chat/completions", {"max_tokens": -1}, "max_tokens"),
        ("/v1/chat/completions", {"max_completion_tokens": 1e300}, "max_completion_tokens"),
        ("/v1/chat/completions", {"n": 10**30}, "n"),
        ("/v1/chat/completions", {"n": True}, "n"),
        ("/v1/completions", {"best_of": "many"}, "best_of"),
        ("/v1/completions", {"prompt": ["x"] * 2049}, "prompt"),
        ("/v1/responses", {"max_output_tokens": 0.5}, "max_output_tokens"),
        ("/v1/messages", {"max_tokens": 2**60}, None),
        (IMAGES, {"n": -7}, "n"),
    ],
)
async def test_absurd_numbers(routes: Gateway, path: str, more: dict[str, Any], param: str | None) -> None:
    async with await client_of(routes) as client:
        answer = await client.post(path, content=changed(path, **more))
    assert answer.status_code == 400
    assert error_in(answer, path).get("param") == param
    await untouched(routes)


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/messages"])
async def test_ten_thousand_tools_are_the_providers_to_judge(routes: Gateway, path: str) -> None:
    function = {"name": "f", "parameters": {"type": "object"}}
    tool = {"type": "function", **function} if path == "/v1/responses" else {"type": "function", "function": function}
    async with await client_of(routes) as client:
        assert (await client.post(path, content=changed(path, tools=[tool] * 10_000))).status_code == 200
    assert len(routes.provider.calls[0].json["tools"]) == 10_000
