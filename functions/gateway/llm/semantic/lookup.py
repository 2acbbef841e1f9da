"""One call's way to an answer that was given to the same question in other words. It never fails a call.

The scope, in which nothing may differ, comes first; then the nearest questions by a vector of the platform's own model;
then guards, of which each knows a difference that no nearness makes good; and only then the similarity.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from uuid import UUID

from functions.gateway.llm.neighbours import SEARCH, content_of
from functions.gateway.llm.semantic import entries
from functions.gateway.llm.semantic.asked import Asked, is_for_others
from functions.gateway.llm.semantic.entries import Entry
from functions.gateway.llm.semantic.guards import agreement, difference
from functions.gateway.llm.semantic.reading import read
from shared.function.invoke import Invoke
from shared.llm.answers import Answers, Kept, key_of
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets
from shared.telemetry import log

LOOKUP_S = 0.25
"""For how long a call waits for a lookup. A model that has to start takes longer: that call misses."""
KEEPING_S = 20.0
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
        if not is_for_others(kept.content_type, kept.body):
            return
        try:
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
        for entry in await entries.nearest(self._tenant, self._sealing, self._scope, vector):
            before = read(entry.question)
            similarity = entry.cosine * agreement(asked, before)
            if similarity >= threshold and not difference(asked, before):
                return await self._given(entry, similarity, threshold)
        return None

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
            body = {"input": [self._asked.question]}
            told = await self._invoke.request(SEARCH, "POST", EMBEDDINGS, json=body, timeout_s=timeout_s)
            self._known_vector = entries.as_text(content_of(told)["vectors"][0])
        return self._known_vector
