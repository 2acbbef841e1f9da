"""One call's way to an answer that was given to the same question in other words. It never fails a call.

The scope, in which nothing may differ, comes first; then the nearest questions by a vector of the platform's own model;
then guards, of which each knows a difference that no nearness makes good; and only then the similarity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from operator import mul
from typing import Any
from uuid import UUID

from functions.gateway.llm.neighbours import SEARCH, content_of
from functions.gateway.llm.semantic import entries
from functions.gateway.llm.semantic.asked import Asked, is_for_others
from functions.gateway.llm.semantic.entries import Entry
from functions.gateway.llm.semantic.guards import WORDS, agreement, difference
from functions.gateway.llm.semantic.reading import read
from functions.gateway.llm.semantic.redundancy import REDUNDANT, shortened
from shared.function.invoke import Invoke
from shared.llm.answers import Answers, Kept, key_of
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets
from shared.telemetry import log

LOOKUP_S = 0.25
"""For how long a call waits for a lookup. A model that has to start takes longer: that call misses."""
KEEPING_S = 20.0
NEARLY_MAX = 2
"""How many entries that differ in a word or two are looked at more closely."""
EMBEDDINGS = "/v1/knowledge/embeddings"


@dataclass(frozen=True)
class Found:
    """A kept answer, and why it is given."""

    kept: Kept
    hit: UUID
    entry: UUID
    similarity: float
    threshold: float

    @property
    def said(self) -> str:
        return (
            f"semantic; similarity={self.similarity:.4f}; threshold={self.threshold:.4f};"
            f" entry={self.entry}; hit={self.hit}"
        )

    @property
    def logged(self) -> dict[str, object]:
        return {
            "similarity": round(self.similarity, 4),
            "threshold": round(self.threshold, 4),
            "entry": self.entry,
            "hit": self.hit,
        }


class Lookup:
    """Of one question, in one tenant."""

    def __init__(
        self,
        asked: Asked,
        scope: Mapping[str, Any],  # Any: JSON
        *,
        answers: Answers,
        tenant: TenantDatabase,
        sealing: TenantSecrets,
        invoke: Invoke,
    ) -> None:
        self._asked = asked
        self._scope = key_of(sealing, {**scope, "of": "scope"}, asked.rest)
        of_application = {name: value for name, value in scope.items() if name != "epoch"}
        self._application = key_of(sealing, {**of_application, "of": "application"}, asked.application)
        self._answers, self._tenant, self._sealing, self._invoke = answers, tenant, sealing, invoke
        self._known_vector = ""

    async def find(self) -> Found | None:
        """An answer that will do. None when there is none, or when that takes too long to say."""
        try:
            async with asyncio.timeout(LOOKUP_S):
                return await self._found()
        except Exception as failure:  # noqa: BLE001  whatever it is, the provider can still be asked
            log("semantic_lookup_failed", error=type(failure).__name__)
            return None

    async def keep(self, answer: str, kept: Kept, ttl_s: int) -> None:
        """Let the kept answer be found by who asks in other words, when it may be."""
        try:
            if not is_for_others(kept.content_type, kept.body):
                return
            async with asyncio.timeout(KEEPING_S):
                vector = await self._vector(KEEPING_S)
                sealed = await self._sealing.seal(entries.PURPOSE, self._asked.question.encode())
                await entries.keep(self._tenant, self._scope, self._application, sealed, vector, answer, ttl_s)
        except Exception as failure:  # noqa: BLE001  the answer has been given
            log("semantic_entry_not_kept", error=type(failure).__name__)

    async def _found(self) -> Found | None:
        if not await entries.any_in(self._tenant, self._scope):
            return None
        vector = await self._vector(LOOKUP_S)
        threshold = await self._answers.threshold(self._tenant, self._application)
        asked = read(self._asked.question)
        nearly: list[tuple[Entry, float, list[tuple[str, str]]]] = []
        for entry in await entries.nearest(self._tenant, self._sealing, self._scope, vector):
            if entry.cosine < threshold:
                break  # the others are further away still
            before = read(entry.question)
            similarity = entry.cosine * agreement(asked, before)
            differing = difference(asked, before) if similarity >= threshold else "similarity"
            if not differing:
                return await self._given(entry, similarity, threshold)
            if differing == WORDS:
                shorter = shortened((self._asked.question, asked), (entry.question, before))
                nearly.extend([(entry, similarity, shorter)] if shorter else [])
        for entry, similarity, shorter in nearly[:NEARLY_MAX]:
            if await self._redundant(shorter):
                return await self._given(entry, similarity, threshold)
        return None

    async def _redundant(self, shorter: list[tuple[str, str]]) -> bool:
        """Whether each question says the same without its word."""
        vectors = await self._vectors([text for pair in shorter for text in pair], LOOKUP_S)
        pairs = zip(vectors[::2], vectors[1::2], strict=True)
        return all(sum(map(mul, one, other)) >= REDUNDANT for one, other in pairs)

    async def _given(self, entry: Entry, similarity: float, threshold: float) -> Found | None:
        """The entry's answer, noted so that it can be marked as wrong. An entry whose answer is gone goes too."""
        kept = await self._answers.find(self._sealing, entry.answer)
        if kept is None:
            await entries.forget(self._tenant, entry.id)
            return None
        hit = await entries.note_hit(self._tenant, self._application, entry.id, similarity, threshold)
        return Found(kept, hit, entry.id, similarity, threshold) if hit else None

    async def _vector(self, timeout_s: float) -> str:
        if not self._known_vector:
            self._known_vector = entries.as_text((await self._vectors([self._asked.question], timeout_s))[0])
        return self._known_vector

    async def _vectors(self, texts: list[str], timeout_s: float) -> list[list[float]]:
        told = await self._invoke.request(SEARCH, "POST", EMBEDDINGS, json={"input": texts}, timeout_s=timeout_s)
        vectors: list[list[float]] = content_of(told)["vectors"]
        return vectors
