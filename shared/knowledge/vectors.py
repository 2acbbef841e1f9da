"""A question's vector, from the cache when it was asked before."""

from __future__ import annotations

from hashlib import sha256
from typing import Protocol

from shared.embeddings import Embeddings
from shared.knowledge.index import as_text

KEPT_S = 3600


class VectorCache(Protocol):
    """What is needed of `shared.redis.Cache`. A cache that is away misses."""

    async def get(self, key: str) -> bytes | None: ...
    async def set(self, key: str, value: bytes, ttl_s: int) -> None: ...


async def question_vector(text: str, embeddings: Embeddings, cache: VectorCache) -> str:
    """The vector in pgvector's text form."""
    key = f"vector:{embeddings.model}:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"
    kept = await cache.get(key)
    if kept is not None:
        return kept.decode()
    vector = as_text((await embeddings.embed([text]))[0].tolist())
    await cache.set(key, vector.encode(), KEPT_S)
    return vector
