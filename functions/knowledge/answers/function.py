"""Answers: what a tenant's documents say to a question, with citations that were checked."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

from pydantic import Field
from starlette.responses import StreamingResponse

from functions.knowledge.answers import answering
from functions.knowledge.answers.answering import Answer
from shared.embeddings import Embeddings
from shared.errors import Problem
from shared.function import Function, Scale
from shared.function.schema import Body
from shared.llm.client import LanguageModel
from shared.objects import NAME_PART
from shared.postgres import TenantDatabase
from shared.redis import Cache

answers = Function(timeout_s=300, scale=Scale(max=20, concurrency=40))


class Question(Body):
    """`model` names a provider's model that shall write; left out, the built-in extractive answerer does."""

    question: str = Field(min_length=1, max_length=8000)
    model: str = Field(default="", max_length=200)
    prefix: str = Field(default="", max_length=500, pattern=NAME_PART)


@answers.post("/v1/knowledge/answers", permission="documents:read")
async def answer_question(
    body: Question, tenant: TenantDatabase, embeddings: Embeddings, cache: Cache, language: LanguageModel
) -> Answer:
    """Answer from the documents, with citations, or say that they do not hold the answer."""
    passages = await answering.passages_for(body.question, body.prefix, tenant, embeddings, cache)
    answer = await answering.answer(
        body.question, passages, tenant, embeddings=embeddings, language=language, model=body.model
    )
    return answering.counted(answer, body.question, embeddings)


@answers.post("/v1/knowledge/answers/stream", permission="documents:read")
async def stream_answer(
    body: Question, tenant: TenantDatabase, embeddings: Embeddings, cache: Cache, language: LanguageModel
) -> StreamingResponse:
    """The same as JSON Lines: `sources` first, then `delta`s, then one `done` with the answer and its citations."""
    passages = await answering.passages_for(body.question, body.prefix, tenant, embeddings, cache)

    async def lines() -> AsyncIterator[bytes]:
        yield line({"type": "sources", "documents": list(dict.fromkeys(one.document for one in passages))})
        try:
            answer = await answering.answer(
                body.question, passages, tenant, embeddings=embeddings, language=language, model=body.model
            )
        except Problem as problem:
            told = problem.document() | {"retry_after_s": problem.retry_after_s, "headers": problem.headers}
            yield line({"type": "error", "problem": told})
            return
        for piece in answering.pieces(answer.answer):
            yield line({"type": "delta", "text": piece})
        done = answering.counted(answer, body.question, embeddings)
        yield line({"type": "done", **done.model_dump(mode="json")})

    return StreamingResponse(lines(), media_type="application/x-ndjson")


def line(value: dict[str, Any]) -> bytes:  # Any: JSON
    return json.dumps(value, ensure_ascii=False).encode() + b"\n"
