"""The built-in models: `doc-chat`, which answers from the tenant's documents, and the embedding model."""

from __future__ import annotations

import base64
import json
import struct
import time
from collections.abc import AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any

from starlette.responses import JSONResponse, Response, StreamingResponse

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.chat import error_event
from shared.errors import Forbidden, Malformed, NotFound, Problem, Refusal, Unavailable
from shared.function import Call
from shared.function.invoke import Invoke
from shared.llm import sse
from shared.usage import Ledger, OpenCall, Tokens
from shared.usage.ledger import Outcome

if TYPE_CHECKING:
    import httpx

PROVIDER = "dcoder"
ANSWERS, SEARCH = "knowledge-answers", "knowledge-search"
Json = dict[str, Any]  # Any: JSON of our own functions


async def doc_chat(call: Call, wanted: Wanted, ledger: Ledger, invoke: Invoke) -> Response:
    """Answer the last user message from the documents, in the form of a chat completion."""
    question = last_question(wanted.content["messages"])
    entry = await ledger.begin(
        call.caller, request_id=call.request_id, model=wanted.model, provider=PROVIDER, feature="doc-chat"
    )
    body = {"question": question, "model": wanted.model.partition("/")[2]}
    if wanted.stream:
        pieces = streamed(wanted, body, ledger, entry, invoke)
        return StreamingResponse(pieces, headers={"cache-control": "no-cache"}, media_type="text/event-stream")
    return await answered(wanted, body, ledger, entry, invoke)


async def answered(wanted: Wanted, body: Json, ledger: Ledger, entry: OpenCall, invoke: Invoke) -> Response:
    outcome: Outcome = "client_gone"
    tokens = Tokens()
    try:
        answer = checked(await invoke.request(ANSWERS, "POST", "/v1/knowledge/answers", json=body, timeout_s=280))
        outcome, tokens = "done", tokens_of(answer, wanted)
    except Problem:
        outcome = "provider_error"
        raise
    finally:
        cost = await ledger.end(entry, outcome, tokens)
    message = {"role": "assistant", "content": with_sources(answer), "citations": answer["citations"]}
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    completion = envelope(entry, wanted, "chat.completion") | {"choices": [choice], "usage": usage(tokens)}
    completion |= {"answered_by": answer["model"], "abstained": answer["abstained"]}
    return JSONResponse(completion, headers={"x-dcoder-cost-micro-usd": str(cost), "x-dcoder-provider": PROVIDER})


async def streamed(wanted: Wanted, body: Json, ledger: Ledger, entry: OpenCall, invoke: Invoke) -> AsyncIterator[bytes]:
    outcome: Outcome = "client_gone"
    tokens = Tokens()
    chunk = envelope(entry, wanted, "chat.completion.chunk")
    try:
        yield event(chunk, {"role": "assistant", "content": ""})
        async with invoke.stream(ANSWERS, "POST", "/v1/knowledge/answers/stream", json=body) as response:
            if response.status_code >= 400:
                await response.aread()
                checked(response)
            async for line in response.aiter_lines():
                part = json.loads(line)
                if part["type"] == "error":
                    raise Unavailable(str(part["problem"].get("detail", "")))
                if part["type"] == "delta":
                    yield event(chunk, {"content": part["text"]})
                if part["type"] == "done":
                    tokens = tokens_of(part, wanted)
                    yield event(chunk, {"content": sources_of(part), "citations": part["citations"]})
        yield event(chunk, {}, finish="stop")
        if (wanted.content.get("stream_options") or {}).get("include_usage"):
            yield sse.encode(json.dumps(chunk | {"choices": [], "usage": usage(tokens)}))
        yield sse.encode("[DONE]")
        outcome = "done"
    except Problem as problem:
        outcome = "provider_error"
        yield error_event(problem)
    finally:
        await ledger.end(entry, outcome, tokens)


async def embed(call: Call, wanted: Wanted, ledger: Ledger, invoke: Invoke) -> Response:
    """Vectors by the built-in model, in OpenAI's form."""
    texts = texts_of(wanted.content["input"])
    entry = await ledger.begin(
        call.caller, request_id=call.request_id, model=wanted.model, provider=PROVIDER, feature="embeddings"
    )
    outcome: Outcome = "client_gone"
    tokens = Tokens()
    try:
        answer = checked(await invoke.request(SEARCH, "POST", "/v1/knowledge/embeddings", json={"input": texts}))
        outcome, tokens = "done", Tokens(input=int(answer["tokens"]))
    except Problem:
        outcome = "provider_error"
        raise
    finally:
        cost = await ledger.end(entry, outcome, tokens)
    packed = wanted.content.get("encoding_format") == "base64"
    data = [
        {"object": "embedding", "index": index, "embedding": base64_of(vector) if packed else vector}
        for index, vector in enumerate(answer["vectors"])
    ]
    counted = {"prompt_tokens": tokens.input, "total_tokens": tokens.input}
    body = {"object": "list", "model": wanted.model, "data": data, "usage": counted}
    return JSONResponse(body, headers={"x-dcoder-cost-micro-usd": str(cost), "x-dcoder-provider": PROVIDER})


def last_question(messages: Sequence[object]) -> str:
    """The text of the last user message. Raises `Malformed`."""
    for message in reversed(messages):
        if isinstance(message, dict) and message.get("role") == "user":
            content = message.get("content")
            if isinstance(content, list):
                content = "\n".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
            if isinstance(content, str) and content.strip():
                return content.strip()[:8000]
    raise Malformed("doc-chat needs a user message with text", param="messages")


def texts_of(given: object) -> list[str]:
    """Raises `Malformed` for anything but a text or a list of texts."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not texts or not all(isinstance(text, str) and text for text in texts):
        raise Malformed("'input' must be a text or a list of texts, none empty", param="input")
    if len(texts) > 256:
        raise Malformed("'input' has more than 256 texts", param="input")
    return texts


def checked(response: httpx.Response) -> Json:
    """A function's answer. Its problems become ours. Raises `Refusal` or `Unavailable`."""
    content: Json = response.json()
    if response.status_code < 400:
        return content
    detail = str(content.get("detail", response.status_code))
    if response.status_code >= 500 or response.status_code == 429:
        raise Unavailable(detail)
    raise {403: Forbidden, 404: NotFound}.get(response.status_code, Refusal)(detail)


def tokens_of(answer: Json, wanted: Wanted) -> Tokens:
    """The extractive answerer's tokens. A provider's are on the provider call's own row."""
    if "/" in wanted.model:
        return Tokens()
    return Tokens(answer["usage"]["input_tokens"], answer["usage"]["output_tokens"])


def with_sources(answer: Json) -> str:
    return str(answer["answer"]) + sources_of(answer)


def sources_of(answer: Json) -> str:
    """A plain list at the end, so that any client shows where the answer comes from."""
    lines = [
        f"[{one['number']}] {one['document']}" + (f", page {one['page']}" if one["page"] else "")
        for one in answer["citations"]
    ]
    return "\n\nSources:\n" + "\n".join(lines) if lines else ""


def envelope(entry: OpenCall, wanted: Wanted, kind: str) -> Json:
    return {"id": f"chatcmpl-{entry.id.hex}", "object": kind, "created": int(time.time()), "model": wanted.model}


def event(chunk: Json, delta: Json, *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse.encode(json.dumps(chunk | {"choices": [choice]}, ensure_ascii=False))


def usage(tokens: Tokens) -> Json:
    return {
        "prompt_tokens": tokens.input,
        "completion_tokens": tokens.output,
        "total_tokens": tokens.input + tokens.output,
    }


def base64_of(vector: Sequence[float]) -> str:
    return base64.b64encode(struct.pack(f"<{len(vector)}f", *vector)).decode()
