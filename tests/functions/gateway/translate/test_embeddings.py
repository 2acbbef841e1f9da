"""Embeddings of Gemini and Vertex AI in OpenAI's form."""

from __future__ import annotations

import base64
import struct
from typing import Any

import openai
import pytest

from shared.llm.vectors import base64_of
from tests.fixtures.provider import (
    VECTOR,
    Cut,
    Script,
    Stall,
    batch_embedded,
    google_error,
    predicted,
    whole,
)
from tests.functions.gateway.conftest import CLAUDES, Gateway
from tests.functions.gateway.translate.conftest import PROJECT, VERTEX_CLAUDE
from tests.functions.gateway.translate.test_openai_to_anthropic import sdk

GEMINI, VERTEX, LATER = "gemini-embedding-001", "known/text-embedding-005", "known/gemini-embedding-2"


async def embed(gateway: Gateway, model: str, given: Any = "one", **more: Any) -> Any:  # Any: an answer
    return await gateway.client.post("/v1/embeddings", json={"model": model, "input": given, **more})


async def test_the_sdk_gets_geminis_vectors_as_it_asks_for_them(known: Gateway) -> None:
    async with sdk(known) as client:
        made = await client.embeddings.create(model=GEMINI, input=["one", "gs://two"], dimensions=3)
    assert [one.embedding for one in made.data] == [VECTOR, VECTOR]
    assert [one.index for one in made.data] == [0, 1]
    assert (made.model, made.usage.prompt_tokens, made.usage.total_tokens) == (GEMINI, 7, 7)
    (call,) = known.provider.calls
    assert call.path == f"/v1beta/models/{GEMINI}:batchEmbedContents"
    named = {"model": f"models/{GEMINI}", "outputDimensionality": 3}
    assert call.json == {
        "requests": [{**named, "content": {"parts": [{"text": text}]}} for text in ("one", "gs://two")]
    }
    (row,) = await known.ledger()
    assert (row["feature"], row["outcome"], row["provider"]) == ("embeddings", "done", "geminis")
    assert (row["input_tokens"], row["output_tokens"], row["cost_micro_usd"]) == (7, 0, 1)


async def test_both_formats_of_vectors_are_the_same_numbers(known: Gateway) -> None:
    plain = (await embed(known, GEMINI, encoding_format="float")).json()["data"][0]["embedding"]
    packed = (await embed(known, GEMINI, encoding_format="base64")).json()["data"][0]["embedding"]
    assert plain == VECTOR
    assert list(struct.unpack(f"<{len(VECTOR)}f", base64.b64decode(packed))) == VECTOR
    assert packed == base64_of(VECTOR)


async def test_vertex_predicts_and_its_counts_are_summed(known: Gateway) -> None:
    async with sdk(known) as client:
        made = await client.embeddings.create(
            model=VERTEX, input=["one", "two"], dimensions=3, extra_body={"task_type": "RETRIEVAL_QUERY"}
        )
    assert (len(made.data), made.usage.prompt_tokens) == (2, 6)
    (call,) = known.provider.calls
    assert call.path == f"{PROJECT}/publishers/google/models/text-embedding-005:predict"
    assert call.headers["authorization"] == "Bearer ya29.scripted"
    assert call.json == {
        "instances": [{"content": text, "task_type": "RETRIEVAL_QUERY"} for text in ("one", "two")],
        "parameters": {"autoTruncate": False, "outputDimensionality": 3},
    }
    (row,) = await known.ledger()
    assert (row["provider"], row["input_tokens"], row["cost_micro_usd"]) == ("known", 6, 1)


async def test_a_later_model_of_vertex_takes_one_text(known: Gateway) -> None:
    several = await embed(known, LATER, ["one", "two"])
    assert (several.status_code, several.json()["error"]["code"]) == (400, "untranslatable")
    assert known.provider.calls == []
    one = await embed(known, LATER, "one", dimensions=3)
    assert one.json()["usage"]["prompt_tokens"] == 7
    (call,) = known.provider.calls
    assert call.path == f"{PROJECT}/publishers/google/models/gemini-embedding-2:embedContent"
    assert call.json == {
        "content": {"parts": [{"text": "one"}]},
        "autoTruncate": False,
        "outputDimensionality": 3,
    }


async def test_where_gemini_does_not_say_what_it_used_its_free_count_does(known: Gateway) -> None:
    known.provider.will(batch_embedded(2))
    answer = await embed(known, GEMINI, ["one", "two"])
    assert answer.json()["usage"] == {"prompt_tokens": 11, "total_tokens": 11}
    assert "x-dcoder-token-count" not in answer.headers
    _, asked = known.provider.calls
    assert asked.path == f"/v1beta/models/{GEMINI}:countTokens"
    assert [one["parts"][0]["text"] for one in asked.json["contents"]] == ["one", "two"]
    (row,) = await known.ledger()
    assert (row["input_tokens"], row["usage_known"], row["cost_micro_usd"]) == (11, True, 2)


@pytest.mark.parametrize("second", [google_error(500, "INTERNAL"), whole({}), Script((Cut(),)), Script((Stall(),))])
async def test_vectors_whose_count_nobody_tells_are_of_unknown_cost(known: Gateway, second: Script) -> None:
    known.provider.will(batch_embedded(1), second)
    answer = await embed(known, GEMINI, "one two three")
    assert (answer.status_code, answer.json()["data"][0]["embedding"]) == (200, VECTOR)
    assert answer.headers["x-dcoder-token-count"].startswith("estimate")
    assert answer.headers["x-dcoder-cost-micro-usd"] == "unknown"
    assert 1 <= answer.json()["usage"]["prompt_tokens"] <= 5
    (row,) = await known.ledger()
    assert (row["outcome"], row["usage_known"]) == ("done", False)


async def test_vertex_that_leaves_out_one_count_is_of_unknown_cost(known: Gateway) -> None:
    known.provider.will(predicted(3.0, None))
    answer = await embed(known, VERTEX, ["one", "two"])
    assert answer.headers["x-dcoder-cost-micro-usd"] == "unknown"
    assert len(known.provider.calls) == 1
    (row,) = await known.ledger()
    assert (row["outcome"], row["usage_known"]) == ("done", False)


@pytest.mark.parametrize("model", [GEMINI, VERTEX])
@pytest.mark.parametrize(
    ("status", "reason", "raised"),
    [
        (400, "INVALID_ARGUMENT", openai.BadRequestError),
        (429, "RESOURCE_EXHAUSTED", openai.RateLimitError),
        (500, "INTERNAL", openai.InternalServerError),
    ],
)
async def test_a_refusal_keeps_status_words_and_wait_after_one_attempt(
    known: Gateway, model: str, status: int, reason: str, raised: type[openai.APIStatusError]
) -> None:
    known.provider.will(google_error(status, reason, "no ya29.scripted", [("retry-after", "9")]))
    async with sdk(known) as client:
        with pytest.raises(raised) as refused:
            await client.embeddings.create(model=model, input="one")
    assert refused.value.response.headers["retry-after"] == "9"
    said = refused.value.response.json()["error"]["message"]
    assert said == ("no [key]" if model == VERTEX else "no ya29.scripted")
    assert len(known.provider.calls) == 1
    (row,) = await known.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


BROKEN = [
    batch_embedded(1),
    whole({"embeddings": [{"values": VECTOR}, {"values": []}]}),
    whole({"embeddings": [{"values": VECTOR}, {"values": ["a"]}]}),
    whole({"embeddings": [{"values": VECTOR}, {}]}),
    whole({"predictions": [{"embeddings": {}}, {}]}),
    whole(b'{"embeddings": [{"values": [NaN]}, {"values": [1]}]}'),
    whole(b'{"embeddings": [{"values": [1e999]}, {"values": [1]}]}'),
    whole({"embeddings": [{"values": VECTOR}] * 2, "predictions": {"a": 1}}),
    whole({"embedding": {"values": VECTOR}}),
    whole({}),
    whole(b"<html>"),
]


@pytest.mark.parametrize("script", BROKEN)
async def test_an_answer_that_has_not_a_vector_for_each_text_is_none(known: Gateway, script: Script) -> None:
    known.provider.will(script)
    answer = await embed(known, GEMINI, ["one", "two"])
    assert (answer.status_code, answer.json()["error"]["code"]) == (502, "answer_untranslatable")
    assert len(known.provider.calls) == 1
    (row,) = await known.ledger()
    assert (row["outcome"], row["usage_known"]) == ("provider_error", False)


@pytest.mark.parametrize("script", [Script((b"{", Stall())), Script((b"{", Cut())), Script((), before=(Cut(),))])
async def test_an_answer_that_breaks_is_one_row_of_unknown_cost(known: Gateway, script: Script) -> None:
    known.provider.will(script)
    answer = await embed(known, GEMINI)
    assert answer.status_code in (503, 504)
    assert len(known.provider.calls) == 1
    (row,) = await known.ledger()
    assert (row["outcome"], row["usage_known"]) == ("provider_error", False)


@pytest.mark.parametrize(
    ("more", "param", "code"),
    [
        ({"input": [1, 2, 3]}, "input", "untranslatable"),
        ({"input": [[1, 2], [3]]}, "input", "untranslatable"),
        ({"input": ["one", ""]}, "input", "untranslatable"),
        ({"input": ["one"] * 2049}, "input", "untranslatable"),
        ({"truncate": "END"}, "truncate", "untranslatable"),
        ({"dimensions": 0}, "dimensions", "malformed"),
        ({"dimensions": "3"}, "dimensions", "malformed"),
        ({"encoding_format": "int8"}, "encoding_format", "malformed"),
        ({"task_type": 3}, "task_type", "malformed"),
    ],
)
async def test_what_google_cannot_be_asked_is_refused_and_costs_nothing(
    known: Gateway, more: dict[str, Any], param: str, code: str
) -> None:
    answer = await embed(known, GEMINI, **{"given": more.pop("input", "one"), **more})
    told = answer.json()["error"]
    assert (answer.status_code, told["param"], told["code"]) == (400, param, code)
    assert known.provider.calls == []
    (row,) = await known.ledger()
    assert (row["outcome"], row["cost_micro_usd"]) == ("provider_error", 0)


@pytest.mark.parametrize("model", [CLAUDES[0], f"known/{VERTEX_CLAUDE}"])
async def test_anthropics_models_make_none(known: Gateway, model: str) -> None:
    answer = await embed(known, model)
    told = answer.json()["error"]
    assert (answer.status_code, told["code"], told["param"]) == (400, "other_dialect", "model")
    assert known.provider.calls == []
    assert await known.rows() == []
