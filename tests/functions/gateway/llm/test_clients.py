"""The clients that people have, in their own environments: both majors of the SDKs, langchain, Open WebUI's requests.

An environment is made of its lock file once and kept under the user's cache; without the network its tests are skipped.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.fixtures.provider import (
    DONE,
    FINISH,
    MESSAGE_STOP,
    ROLE,
    Cut,
    Script,
    block,
    chunk,
    completion,
    error,
    message,
    message_delta,
    message_error,
    message_event,
    message_start,
    stream,
    text_block,
    usage_chunk,
    whole,
)
from tests.functions.gateway.conftest import CLAUDES, MODELS, Gateway
from tests.load.gateway.peers import Missing, python_of

FOLDER = Path(__file__).parents[1] / "clients"
OURS, OLDER, LANGCHAIN = "ours", "older", "langchain"
CALL_TIMEOUT_S = 60.0


async def interpreter(name: str) -> str:
    """The interpreter of an environment; skips the test when it cannot be made."""
    if name == OURS:
        return sys.executable
    try:
        return str(await asyncio.to_thread(python_of, f"clients-{name}", FOLDER / f"{name}.lock"))
    except Missing as why:
        pytest.skip(str(why))


async def told_by(script: str, environment: str, gateway: Gateway) -> dict[str, Any]:  # Any: JSON
    """What the script prints, run beside the gateway."""
    variables = {"PATH": os.environ["PATH"], "GATEWAY_URL": gateway.url, "GATEWAY_KEY": gateway.key}
    process = await asyncio.create_subprocess_exec(
        await interpreter(environment), str(FOLDER / script), env=variables, cwd=FOLDER,
        stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
    )  # fmt: skip
    async with asyncio.timeout(CALL_TIMEOUT_S):
        output, errors = await process.communicate()
    assert process.returncode == 0, errors.decode()[-2000:]
    found: dict[str, Any] = json.loads(output)
    return found


def called(index: int, arguments: str, *, name: str = "") -> bytes:
    first = {"id": f"call_{index}", "type": "function"} if name else {}
    function = {"arguments": arguments, **({"name": name} if name else {})}
    return chunk({"tool_calls": [{"index": index, **first, "function": function}]})


PARALLEL = Script(
    (
        ROLE, called(0, "", name="weather"), called(1, '{"at', name="weather"), called(0, '{"at":"Oslo"}'),
        called(1, '":"Rome"}'), chunk({}, finish="tool_calls"), usage_chunk(5, 6), DONE,
    )
)  # fmt: skip


@pytest.mark.parametrize(("environment", "major"), [(OURS, "3."), (OLDER, "2.")], ids=["openai 3", "openai 2"])
async def test_the_openai_sdk_in_both_majors(gateway: Gateway, environment: str, major: str) -> None:
    text: dict[str, Any] = {"id": "c", "object": "text_completion", "created": 1, "model": "gpt-4o-mini"}
    text["choices"] = [{"index": 0, "text": " there was", "finish_reason": "stop", "logprobs": None}]
    vectors = {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": [0.5, 0.25]}], "model": "m"}
    gateway.provider.will(
        completion("Hello"),
        completion("Hello"),
        stream("Hel", "lo"),
        stream("Hel", "lo"),
        PARALLEL,
        whole(vectors | {"usage": {"prompt_tokens": 1, "total_tokens": 1}}),
        whole(text),
        completion("One"),
        stream("T", "wo"),
        error(429, "slow down", headers=[("retry-after", "7")]),
        error(500),
        Script((ROLE, chunk({"content": "Hel"}), Cut())),
    )
    told = await told_by("openai_calls.py", environment, gateway)
    assert told.pop("version").startswith(major)
    assert {"doc-chat", "gpt-4o-mini", "house-model"} <= set(told.pop("models"))
    assert {"x-dcoder-cost-micro-usd", "x-dcoder-overhead-ms", "x-dcoder-provider", "x-request-id"} <= set(
        told.pop("headers")
    )
    assert told == {
        "whole": "Hello",
        "stream": ["Hel", "lo"],
        "usage": [10],
        "calls": [["call_0", "weather", '{"at":"Oslo"}'], ["call_1", "weather", '{"at":"Rome"}']],
        "embedding": [0.5, 0.25],
        "completion": " there was",
        "flagged": True,
        "response": ["One", "One"],
        "response_events": ["response.created", "response.completed", "Two"],
        "input_items": 1,
        "unknown_model": failure("NotFoundError", "model_not_found", "model"),
        "malformed": failure("BadRequestError", "malformed", "messages"),
        "rate": failure("RateLimitError", "provider_code", None, retry_after="7"),
        "server": failure("InternalServerError", "provider_code", None),
        "cut": "APIError",
    }
    assert gateway.provider.calls[8].json["messages"][:2] == [
        {"role": "user", "content": "Hi"}, {"role": "assistant", "content": "One"},
    ]  # fmt: skip


def failure(kind: str, code: str, param: str | None, *, retry_after: str | None = None) -> dict[str, Any]:  # Any: JSON
    return {"class": kind, "code": code, "param": param, "request_id": True, "retry_after": retry_after}


@pytest.mark.parametrize(("environment", "major"), [(OURS, "2."), (OLDER, "1.")], ids=["anthropic 2", "anthropic 1"])
async def test_the_anthropic_sdk_in_both_majors(gateway: Gateway, environment: str, major: str) -> None:
    tool = {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}}
    pieces = [{"type": "input_json_delta", "partial_json": piece} for piece in ("", '{"at"', ':"Oslo"}')]
    gateway.provider.will(
        message(),
        whole({"input_tokens": 11}),
        Script((message_start(), text_block("Hel", "lo"), message_delta(), MESSAGE_STOP)),
        Script((message_start(), block(0, tool, *pieces), message_delta(), MESSAGE_STOP)),
        message_error(429, "rate_limit_error", headers=[("retry-after", "7")]),
        Script((message_start(), message_event("ping"), Cut())),
    )
    told = await told_by("anthropic_calls.py", environment, gateway)
    assert told.pop("version").startswith(major)
    (called_tool,) = told.pop("tool")
    assert (called_tool["name"], called_tool["input"]) == ("weather", {"at": "Oslo"})
    assert {*CLAUDES, *MODELS} <= set(told.pop("models"))
    assert told == {
        "whole": [{"type": "text", "text": "Hello"}],
        "count": 11,
        "stream": ["Hel", "lo"],
        "usage": 3,
        "unknown_model": {
            "class": "NotFoundError", "type": "not_found_error", "request_id": True, "retry_after": None,
        },
        "rate": {"class": "RateLimitError", "type": "rate_limit_error", "request_id": True, "retry_after": "7"},
        "cut": told["cut"],
    }  # fmt: skip
    assert told["cut"].endswith("Error")


async def test_langchain(gateway: Gateway) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": '{"at":"Oslo"}'}}
    gateway.provider.will(
        completion("Hello"),
        stream("Hel", "lo"),
        completion("", tool_calls=[call]),
        completion('{"name": "Oslo"}'),
        completion("One"),
        stream("T", "wo"),
    )
    told = await told_by("langchain_calls.py", LANGCHAIN, gateway)
    assert told == {
        "whole": ["Hello", 10],
        "stream": "Hello",
        "calls": [["weather", {"at": "Oslo"}]],
        "structured": {"name": "Oslo"},
        "responses": "One",
        "responses_stream": "Two",
        "embeddings": [[0.5, 0.5], [0.5, 0.5]],
    }
    asked = [call.json for call in gateway.provider.calls]
    assert asked[3]["response_format"]["json_schema"]["name"] == "Place"
    assert asked[6]["input"] == ["a", "b"]


OPEN_WEBUI = {
    "X-OpenWebUI-User-Name": "Ann%20B", "X-OpenWebUI-User-Id": "6a1", "X-OpenWebUI-User-Email": "ann@example.com",
    "X-OpenWebUI-User-Role": "user", "X-OpenWebUI-Chat-Id": "c1", "HTTP-Referer": "https://openwebui.com/",
    "X-Title": "Open WebUI",
}  # fmt: skip


async def test_open_webui_finds_the_models_that_its_key_may_use(gateway: Gateway) -> None:
    told = (await gateway.client.get("/v1/models", headers=OPEN_WEBUI)).json()
    assert told["object"] == "list"
    assert all({"id", "object", "created", "owned_by"} <= one.keys() for one in told["data"])


async def test_a_chat_of_open_webui_passes_as_it_is(gateway: Gateway) -> None:
    picture = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA=="}}
    body = {
        "stream": True, "model": "gpt-4o-mini", "stream_options": {"include_usage": True},
        "messages": [
            {"role": "system", "content": "User Context:\n\n<context></context>"},
            {"role": "user", "content": [{"type": "text", "text": "Look"}, picture]},
        ],
        "params": {}, "features": {"web_search": False}, "chat_id": "c1", "id": "m1", "session_id": "s1",
        "user": "6a1", "logit_bias": {"50256": -100}, "seed": 7, "stop": ["\n\n"], "n": 1, "logprobs": True,
    }  # fmt: skip
    raw = json.dumps(body, separators=(",", ":")).encode()
    sent = (ROLE, chunk({"content": "Hel"}), FINISH, usage_chunk(5, 6), DONE)
    gateway.provider.will(Script(sent))
    told = await gateway.client.post(
        "/v1/chat/completions", content=raw, headers={**OPEN_WEBUI, "content-type": "application/json"}
    )
    assert told.content == b"".join(sent)
    (call,) = gateway.provider.calls
    assert call.body == raw
    assert not [name for name in call.headers if "openwebui" in name or name in ("http-referer", "x-title")]


@pytest.mark.parametrize("length", ["max_tokens", "max_completion_tokens"])
async def test_its_titles_tags_and_follow_ups_are_chats_like_any(gateway: Gateway, length: str) -> None:
    title = '{ "title": "Weather in Oslo" }'
    gateway.provider.will(completion(title))
    body = {
        "model": "gpt-4o-mini",
        "stream": False,
        length: 1000,
        "messages": [{"role": "user", "content": "### Task:"}],
    }
    told = await gateway.client.post("/v1/chat/completions", json=body, headers=OPEN_WEBUI)
    assert told.json()["choices"][0]["message"]["content"] == title
    assert gateway.provider.calls[0].json == body


async def test_its_knowledge_asks_for_embeddings_in_batches(gateway: Gateway) -> None:
    body = {"input": ["a", "b", "c"], "model": "text-embedding-3-small"}
    told = await gateway.client.post("/v1/embeddings", json=body, headers=OPEN_WEBUI)
    assert [one["index"] for one in told.json()["data"]] == [0, 1, 2]
