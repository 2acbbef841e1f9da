"""Embeddings in OpenAI's form by Gemini and Vertex AI.

The formats are plain enough to be written here. litellm would take a text that begins like an address for a file, and
count tokens by itself where the provider tells them.

Sources: Gemini API, `models.batchEmbedContents`; Vertex AI, "Text embeddings API" (`:predict`) and `:embedContent`.
"""

from __future__ import annotations

import asyncio
import math
from typing import Any
from urllib.parse import quote

from starlette.responses import JSONResponse, Response

from functions.gateway.translate.asked import Asked, Json
from functions.gateway.translate.counting import ESTIMATED, of_texts
from functions.gateway.translate.exchange import Exchange, passed_on, translating
from functions.gateway.translate.to_gemini import count_in, count_path
from shared.errors import Malformed, Problem
from shared.llm.dialect import provider_error
from shared.llm.translation import COUNTED, KIND, USED, BadTranslation, Untranslatable, used_text
from shared.llm.usage import whole
from shared.llm.vectors import base64_of
from shared.llm.vertex import PLAIN
from shared.usage import Tokens

INPUTS_MAX = 2048
"""OpenAI's (API reference, "Create embeddings"); Google's models take fewer, each its own number."""
DIMENSIONS_MAX = 65_536
COUNT_S_MAX = 5.0
TAKEN = frozenset({"model", "input", "dimensions", "encoding_format", "user", "task_type"})
PREDICTED = "gemini-embedding-001"
LATER = "gemini-embedding-"
"""Later ones of the name are asked otherwise than all before them."""


class Wanted:
    """What is asked. Raises `Untranslatable` for what Google has no word for, and `Malformed`."""

    def __init__(self, body: Json) -> None:
        for name, value in body.items():
            if name not in TAKEN and value is not None:
                raise Untranslatable(f"{name[:60]!r} has no counterpart at this model's provider", param=name[:60])
        self.model = str(body.get("model", ""))
        self.texts = texts_in(body.get("input"))
        self.packed = body.get("encoding_format") == "base64"
        if body.get("encoding_format") not in (None, "float", "base64"):
            raise Malformed("'encoding_format' is float or base64", param="encoding_format")
        dimensions, task = body.get("dimensions"), body.get("task_type")
        if dimensions is not None and not 1 <= (whole(dimensions) or 0) <= DIMENSIONS_MAX:
            raise Malformed(f"'dimensions' is a whole number from 1 to {DIMENSIONS_MAX}", param="dimensions")
        if not isinstance(task, str | None):
            raise Malformed("'task_type' is one of the names that Google has for it", param="task_type")
        told = {"outputDimensionality": dimensions, "taskType": task}
        self.options = {name: value for name, value in told.items() if value is not None}


def texts_in(given: object) -> list[str]:
    """Raises `Untranslatable` for token ids, which are of another model's tokenizer, and for no text at all."""
    texts = [given] if isinstance(given, str) else given
    if not isinstance(texts, list) or not all(isinstance(text, str) and text for text in texts):
        raise Untranslatable(
            "this model takes a text or a list of texts, none empty; token ids are another model's"
            " (langchain: check_embedding_ctx_length=False)",
            param="input",
        )
    if len(texts) > INPUTS_MAX:
        raise Untranslatable(f"'input' has {len(texts)} texts; {INPUTS_MAX} can be sent at once", param="input")
    return texts


def refused(status: int, message: str) -> Json:
    return provider_error(message, status)


async def answer(asked: Asked, exchange: Exchange) -> Response:
    wanted, vertex = Wanted(asked.body), exchange.endpoint.kind.service_account
    path, body = asked_of(asked.model, wanted, vertex=vertex)
    told = await exchange.ask(path, body, {})
    content, refusal = await exchange.content(told, refused)
    if refusal is not None:
        return refusal
    with translating(answer=True):
        vectors = vectors_in(content, len(wanted.texts))
        data = [
            {"object": "embedding", "index": index, "embedding": base64_of(vector) if wanted.packed else vector}
            for index, vector in enumerate(vectors)
        ]
        used = used_in(content)
    if used is None and not vertex:
        used = await counted(asked.model, wanted, exchange)
    headers = {**passed_on(told), KIND: "answer"}
    if used is not None:
        headers[USED], tokens = used_text(used), used.input
    else:
        headers[COUNTED] = ESTIMATED
        with translating(answer=True):
            tokens = await asyncio.to_thread(of_texts, wanted.texts)
    usage = {"prompt_tokens": tokens, "total_tokens": tokens}
    return JSONResponse({"object": "list", "model": wanted.model, "data": data, "usage": usage}, 200, headers)


def asked_of(model: str, wanted: Wanted, *, vertex: bool) -> tuple[str, Json]:
    """The path below the provider's base URL, and the body. What is too long for the model is refused at Vertex AI,
    which else would embed its beginning and say nothing."""
    plain = quote(model, safe=PLAIN)
    contents = [{"parts": [{"text": text}]} for text in wanted.texts]
    if not vertex:
        named = f"models/{model}"
        requests = [{"model": named, "content": one, **wanted.options} for one in contents]
        return f"/models/{plain}:batchEmbedContents", {"requests": requests}
    place = f"/publishers/google/models/{plain}"
    if model.startswith(LATER) and model != PREDICTED:
        if len(contents) != 1:
            raise Untranslatable(f"Vertex AI takes one text a call for {model[:100]!r}", param="input")
        return f"{place}:embedContent", {"content": contents[0], "autoTruncate": False, **wanted.options}
    task = {"task_type": wanted.options["taskType"]} if "taskType" in wanted.options else {}
    size = {name: value for name, value in wanted.options.items() if name != "taskType"}
    instances = [{"content": text, **task} for text in wanted.texts]
    return f"{place}:predict", {"instances": instances, "parameters": {"autoTruncate": False, **size}}


def vectors_in(content: Json, count: int) -> list[list[float]]:
    """The vectors of any of the three answers. Raises `BadTranslation` unless there is one for each text."""
    if isinstance(content.get("predictions"), list):
        found = [one["embeddings"]["values"] for one in content["predictions"]]
    elif isinstance(content.get("embeddings"), list):
        found = [one["values"] for one in content["embeddings"]]
    else:
        found = [content["embedding"]["values"]]
    if len(found) != count or not all(is_vector(one) for one in found):
        raise BadTranslation("the provider's answer has not one vector for each text")
    return found


def is_vector(values: Any) -> bool:  # Any: JSON of the provider's
    """Python reads `NaN` and `Infinity` in JSON, which no caller does."""
    return isinstance(values, list) and bool(values) and all(is_number(one) for one in values)


def is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def used_in(content: Json) -> Tokens | None:
    """What the answer says it used: in all, or of each text. None when it does not say it of every one."""
    told = content.get("usageMetadata")
    if isinstance(told, dict):
        count = whole(told.get("promptTokenCount"))
        return None if count is None else Tokens(count)
    counts = [statistic(one) for one in content.get("predictions") or ()]
    if not counts or None in counts:
        return None
    return Tokens(sum(count for count in counts if count is not None))


def statistic(prediction: Json) -> int | None:
    """Google writes the number with a fraction of zero."""
    told = prediction["embeddings"].get("statistics")
    count = told.get("token_count") if isinstance(told, dict) else None
    return whole(int(count)) if isinstance(count, int | float) and not isinstance(count, bool) and count >= 0 else None


async def counted(model: str, wanted: Wanted, exchange: Exchange) -> Tokens | None:
    """By the provider's free count, for models whose answers do not tell: their vectors are there already, so what
    goes wrong with it is nobody's failure."""
    contents = [{"role": "user", "parts": [{"text": text}]} for text in wanted.texts]
    try:
        async with asyncio.timeout(COUNT_S_MAX):
            told = await exchange.ask(count_path(model, vertex=False), {"contents": contents}, {})
            content, refusal = await exchange.content(told, refused)
            return None if refusal is not None else Tokens(count_in(content))
    except (Problem, TimeoutError):
        return None
