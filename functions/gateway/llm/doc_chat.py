"""`doc-chat`: answers from the tenant's own documents, with citations, in the form of a chat completion."""

from __future__ import annotations

import json
import time
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from dataclasses import dataclass

from starlette.responses import JSONResponse, Response

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.models import OWN, Target
from functions.gateway.llm.neighbours import ANSWERS, Json, content_of, problem_in
from functions.gateway.llm.settlement import NOTHING, Settlement, cost_header
from functions.gateway.llm.wires import DONE, OpenAi
from shared.errors import Malformed, Problem, Unavailable
from shared.function import Call
from shared.function.invoke import Invoke
from shared.llm import sse
from shared.llm.presence import Stream
from shared.quotas import Meter
from shared.usage import Tokens

QUESTION_CHARS_MAX = 8000
TIMEOUT_S = 280.0


@dataclass(frozen=True)
class Ask:
    """A question on its way to `knowledge-answers`, and the completion that it becomes."""

    wanted: Wanted
    target: Target
    question: str
    settlement: Settlement

    @property
    def body(self) -> Json:
        return {"question": self.question, "model": self.target.writer}

    def envelope(self, kind: str) -> Json:
        completion_id = f"chatcmpl-{self.settlement.metered.call.id.hex}"
        return {"id": completion_id, "object": kind, "created": int(time.time()), "model": self.wanted.model}

    def used(self, answer: Json) -> Tokens:
        """What is this row's to count. What a provider's model used stands on that call's own row."""
        return NOTHING if self.target.writer else told(answer)


async def respond(call: Call, wanted: Wanted, target: Target, meter: Meter, invoke: Invoke) -> Response:
    """Answer the last user message, whole or as a stream."""
    question = last_question(wanted)
    metered = await meter.begin(
        call.caller, request_id=call.request_id, model=wanted.model, provider=OWN, feature="doc-chat"
    )
    ask = Ask(wanted, target, question, Settlement(meter, metered, used=NOTHING))
    if wanted.stream:
        return Stream(streamed(ask, invoke), media_type="text/event-stream", headers=headers_of(ask))
    return await completed(ask, invoke)


async def completed(ask: Ask, invoke: Invoke) -> Response:
    settlement = ask.settlement
    with settlement.or_settled():
        answer = await settlement.waiting(whole(ask, invoke))
        message = {
            "role": "assistant",
            "content": str(answer["answer"]) + sources_of(answer),
            "citations": answer["citations"],
        }
        await settlement.metered.durable()
        settlement.outcome, settlement.used = "done", ask.used(answer)
    cost = settlement.settle()
    choice = {"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}
    completion = ask.envelope("chat.completion") | {"choices": [choice], "usage": usage(told(answer))} | said(answer)
    return JSONResponse(completion, headers=headers_of(ask) | cost_header(cost))


async def whole(ask: Ask, invoke: Invoke) -> Json:
    """The answer, asked for as a stream: closing that ends the work behind it, which waiting for a whole one does not.
    Raises the problem that it tells."""
    async with aclosing(parts(ask, invoke)) as pieces:
        async for part in pieces:
            if part["type"] == "done":
                return part
    raise Unavailable("the answer ended before it was complete")


async def streamed(ask: Ask, invoke: Invoke) -> AsyncGenerator[bytes, None]:
    """Chunks as the answer comes; the last one with content has the sources and the citations."""
    settlement, chunk = ask.settlement, ask.envelope("chat.completion.chunk")
    settlement.outcome = "client_gone"
    done: Json | None = None
    try:
        await settlement.metered.durable()
        yield event(chunk, {"role": "assistant", "content": ""})
        async with aclosing(parts(ask, invoke)) as pieces:
            async for part in pieces:
                if part["type"] == "delta":
                    yield event(chunk, {"content": part["text"]})
                done = part if part["type"] == "done" else done
        if done is None:
            raise Unavailable("the answer ended before it was complete")
        settlement.used = ask.used(done)
        yield event(chunk | said(done), {"content": sources_of(done), "citations": done["citations"]})
        yield event(chunk, {}, finish="stop")
        if ask.wanted.wants_usage:
            yield sse.encode(json.dumps(chunk | {"choices": [], "usage": usage(told(done))}))
        settlement.outcome = "done"
        yield sse.encode(DONE.decode())
    except Problem as problem:
        settlement.outcome = "provider_error"
        yield OpenAi().error_event(problem)
    finally:
        await settlement.settle_stream()


async def parts(ask: Ask, invoke: Invoke) -> AsyncGenerator[Json, None]:
    """The answer's JSON Lines. Raises the problem that one of them tells."""
    path = "/v1/knowledge/answers/stream"
    async with invoke.stream(ANSWERS, "POST", path, json=ask.body, timeout_s=TIMEOUT_S) as response:
        if response.status_code >= 400:
            await response.aread()
            content_of(response)
        async for line in lines_of(response.aiter_bytes()):
            part = part_in(line)
            if part["type"] == "error":
                raise problem_in(part["problem"])
            yield part


async def lines_of(pieces: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    """Lines as JSON Lines has them: httpx would end one at U+2028 and U+0085 too, which may stand in a text."""
    rest = b""
    async for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        for line in lines:
            yield line
    if rest:
        yield rest


def part_in(line: bytes) -> Json:
    try:
        part: Json = json.loads(line)
    except ValueError:
        raise Unavailable("the answer broke off") from None
    return part


def last_question(wanted: Wanted) -> str:
    """The text of the last user message. Raises `Malformed`."""
    for message in reversed(wanted.content["messages"]):
        if isinstance(message, dict) and message.get("role") == "user":
            question = text_of(message).strip()
            if len(question) > QUESTION_CHARS_MAX:
                raise Malformed(f"doc-chat takes questions of up to {QUESTION_CHARS_MAX} characters", param="messages")
            if question:
                return question
            break
    raise Malformed("doc-chat needs a last user message with text", param="messages")


def text_of(message: Mapping[str, object]) -> str:
    """A message's text, given as a string or as parts."""
    content = message.get("content")
    if isinstance(content, list):
        return "\n".join(str(part.get("text") or "") for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""


def headers_of(ask: Ask) -> dict[str, str]:
    return ask.settlement.headers | {"x-dcoder-provider": OWN}


def sources_of(answer: Json) -> str:
    """A plain list at the end, so that any client shows where the answer comes from."""
    lines = [
        f"[{one['number']}] {one['document']}" + (f", page {one['page']}" if one["page"] else "")
        for one in answer["citations"]
    ]
    return "\n\nSources:\n" + "\n".join(lines) if lines else ""


def said(answer: Json) -> Json:
    """Who wrote the answer, and whether the documents held one."""
    return {"answered_by": answer["model"], "abstained": answer["abstained"]}


def told(answer: Json) -> Tokens:
    return Tokens(int(answer["usage"]["input_tokens"]), int(answer["usage"]["output_tokens"]))


def usage(tokens: Tokens) -> Json:
    total = tokens.input + tokens.output
    return {"prompt_tokens": tokens.input, "completion_tokens": tokens.output, "total_tokens": total}


def event(chunk: Json, delta: Json, *, finish: str | None = None) -> bytes:
    choice = {"index": 0, "delta": delta, "finish_reason": finish}
    return sse.encode(json.dumps(chunk | {"choices": [choice]}, ensure_ascii=False))
