"""How many tokens a message's input has: by the provider's own count where it has one, else by an estimate."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from dataclasses import dataclass
from typing import Any

from starlette.responses import JSONResponse, Response

from functions.gateway.translate.asked import Asked, Json
from functions.gateway.translate.exchange import Exchange, passed_on, translating
from functions.gateway.translate.for_anthropic import AnthropicCaller
from functions.gateway.translate.to_gemini import TOTAL, count_body, count_in, count_path
from functions.gateway.translate.to_openai import bare
from shared.llm.kinds import Kind
from shared.llm.translation import BY_PROVIDER, COUNTED, KIND

TOKENIZER, ITS_MODEL = "o200k_base", "gpt-4o"
"""The tokenizer of OpenAI's models since GPT-4o, which comes with litellm; those of others count about as many."""
NO_ROUTE = (404, 405)
ESTIMATED = f"estimate; tokenizer={TOKENIZER}"


async def answer(asked: Asked, exchange: Exchange) -> Response:
    """In Anthropic's form. An estimate says that it is one, in a header and in a member."""
    with translating():
        caller = AnthropicCaller(asked.model, asked.body)
        question = asked_of(asked.model, caller.body, exchange.endpoint.kind)
    if question is None:
        return await estimated(caller.body)
    told = await exchange.ask(question.path, question.body, {})
    content, refusal = await exchange.content(told, caller.error)
    if question.may_lack and told.status in NO_ROUTE:
        return await estimated(caller.body)
    if refusal is not None:
        return refusal
    headers = {**passed_on(told), COUNTED: BY_PROVIDER, KIND: "answer"}
    return JSONResponse({"input_tokens": count_in(content, question.member)}, 200, headers)


@dataclass(frozen=True)
class Question:
    """How a provider is asked for a count, and the member of its answer that is the count. `may_lack`: whether some of
    the kind have no such route."""

    path: str
    body: Json
    member: str
    may_lack: bool = False


def asked_of(model: str, body: Json, kind: Kind) -> Question | None:
    """None for a provider that counts for nobody."""
    if kind.wire(model) == "gemini":
        vertex = kind.service_account
        return Question(count_path(model, vertex=vertex), count_body(model, body, vertex=vertex), TOTAL)
    if not kind.counts:
        return None
    return Question("/responses/input_tokens", response_of(model, body), "input_tokens", may_lack=True)


def response_of(model: str, body: Json) -> Json:
    """A chat as OpenAI's responses have it, whose input is counted alike (API reference, "Get input token counts")."""
    from litellm.llms.openai.responses.count_tokens.transformation import OpenAICountTokensConfig

    config = OpenAICountTokensConfig()
    items, instructions = config.messages_to_responses_input(bare(deepcopy(body["messages"])))
    asked: Json = config.transform_request_to_count_tokens(model, items, body.get("tools"), instructions)
    return asked


async def estimated(body: Json) -> Response:
    with translating():
        count = await asyncio.to_thread(of_messages, body)
    content = {"input_tokens": count, "dcoder": {"estimated_by": TOKENIZER}}
    return JSONResponse(content, 200, {COUNTED: ESTIMATED, KIND: "answer"})


def of_messages(body: Json) -> int:
    """About how many tokens a chat's messages and tools are. What is fetched from an address counts as an image of the
    usual size."""
    from litellm.litellm_core_utils.token_counter import token_counter

    messages: Any = bare(deepcopy(body["messages"]))
    return int(
        token_counter(
            model=ITS_MODEL, messages=messages, tools=body.get("tools"), use_default_image_token_count=True
        )
    )  # fmt: skip


def of_texts(texts: list[str]) -> int:
    """About how many tokens these texts are."""
    from litellm.litellm_core_utils.token_counter import token_counter

    return sum(int(token_counter(model=ITS_MODEL, text=text)) for text in texts)
