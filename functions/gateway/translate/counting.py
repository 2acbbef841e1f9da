"""How many tokens a message's input has: by the provider's own count where it has one, else by an estimate."""

from __future__ import annotations

import asyncio
from copy import deepcopy
from typing import Any

from starlette.responses import JSONResponse, Response

from functions.gateway.translate.asked import Asked, Json
from functions.gateway.translate.exchange import Exchange, passed_on, translating
from functions.gateway.translate.for_anthropic import AnthropicCaller
from functions.gateway.translate.to_gemini import count_body, count_path, total_in
from functions.gateway.translate.to_openai import bare
from shared.llm.translation import BY_PROVIDER, COUNTED, KIND

TOKENIZER, ITS_MODEL = "o200k_base", "gpt-4o"
"""The tokenizer of OpenAI's models since GPT-4o, which comes with litellm; those of others count about as many."""
ESTIMATED = f"estimate; tokenizer={TOKENIZER}"


async def answer(asked: Asked, exchange: Exchange) -> Response:
    """In Anthropic's form. An estimate says that it is one, in a header and in a member."""
    kind = exchange.endpoint.kind
    with translating():
        caller = AnthropicCaller(asked.model, asked.body)
    if kind.wire(asked.model) == "openai":  # which has no route for it
        with translating():
            count = await asyncio.to_thread(of_messages, caller.body)
        content = {"input_tokens": count, "dcoder": {"estimated_by": TOKENIZER}}
        return JSONResponse(content, 200, {COUNTED: ESTIMATED, KIND: "answer"})
    vertex = kind.service_account
    with translating():
        path, body = count_path(asked.model, vertex=vertex), count_body(asked.model, caller.body, vertex=vertex)
    told = await exchange.ask(path, body, {})
    content, refusal = await exchange.content(told, caller.error)
    if refusal is not None:
        return refusal
    headers = {**passed_on(told), COUNTED: BY_PROVIDER, KIND: "answer"}
    return JSONResponse({"input_tokens": total_in(content)}, 200, headers)


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
