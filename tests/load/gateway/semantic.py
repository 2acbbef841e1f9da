"""How well the semantic cache tells the same question in other words from one that nearly says the same.

`python -m tests.load.gateway.semantic` prints the shares over `semantic_pairs.txt`, for the half by which lists, forms and
the threshold were made, and for the half that was held out: of the rewordings, how many get the kept answer; of the
questions that differ in little, how many get a wrong one. It counts a question against the one it was made from, and every
rewording against every question that differs; and it asks each question of the half in one scope with all the others.
Then it draws random requests and counts answers that cross a tenant, a parameter or a tool, in either cache.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.gateway.llm.semantic.asked import asked_in
from functions.gateway.llm.semantic.entries import CANDIDATES_MAX
from functions.gateway.llm.semantic.guards import agreement, difference
from functions.gateway.llm.semantic.reading import Reading, read
from shared.embeddings import Embeddings
from shared.ids import TenantId
from shared.llm.answers import key_of
from shared.llm.thresholds import DOUBT, calibrated, share_at_most
from shared.secrets import TenantSecrets, new_data_key

if TYPE_CHECKING:
    import numpy as np

PAIRS = Path(__file__).with_name("semantic_pairs.txt")
BOUND = 0.01
REQUESTS = 20_000


@dataclass
class Group:
    """A question, what says the same, and what differs in little with the kind of difference."""

    domain: str
    question: str
    same: list[str] = field(default_factory=list)
    differing: list[tuple[str, str]] = field(default_factory=list)

    @property
    def held_out(self) -> bool:
        return hashlib.sha256(self.question.encode()).digest()[0] % 2 == 1

    @property
    def texts(self) -> list[str]:
        return [self.question, *self.same, *(text for _, text in self.differing)]


def groups(path: Path = PAIRS) -> list[Group]:
    found: list[Group] = []
    domain = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        kind, text = line[:1], line[1:].strip()
        if kind == "#":
            domain = text
        elif kind == "=":
            found.append(Group(domain, text))
        elif kind == "+":
            found[-1].same.append(text)
        elif kind == "-":
            of, _, other = text.partition("|")
            found[-1].differing.append((of.strip(), other.strip()))
    return found


@dataclass(frozen=True)
class Judge:
    """The cache's own decision, with the vectors made beforehand."""

    vectors: dict[str, np.ndarray[Any, Any]]
    readings: dict[str, Reading]

    def similarity(self, one: str, other: str) -> float:
        """0 where a guard sees a difference."""
        left, right = self.readings[one], self.readings[other]
        if difference(left, right):
            return 0.0
        return float(self.vectors[one] @ self.vectors[other]) * agreement(left, right)

    def found(self, asked: str, kept: Sequence[str], threshold: float) -> str:
        """Which of the kept questions' answers is given, or an empty text."""
        nearest = sorted(kept, key=lambda one: -float(self.vectors[asked] @ self.vectors[one]))[:CANDIDATES_MAX]
        return next((one for one in nearest if self.similarity(asked, one) >= threshold), "")


async def judge_of(texts: Sequence[str]) -> Judge:
    embeddings = Embeddings()
    vectors = await embeddings.embed(texts)
    await embeddings.close()
    return Judge(dict(zip(texts, vectors, strict=True)), {text: read(text) for text in texts})


def share(hits: int, of: int) -> str:
    return f"{hits:4} of {of:4} = {100 * hits / of:5.1f} %"


def report(name: str, half: list[Group], judge: Judge, threshold: float) -> None:
    given = [judge.similarity(one.question, text) >= threshold for one in half for text in one.same]
    wrong = [judge.similarity(one.question, text) >= threshold for one in half for _, text in one.differing]
    crossed = [
        judge.similarity(same, text) >= threshold for one in half for same in one.same for _, text in one.differing
    ]
    bound = share_at_most(sum(wrong), len(wrong), DOUBT)
    print(f"{name}: {len(half)} groups of {len({one.domain for one in half})} domains, threshold {threshold:.2f}")
    print(f"  rewordings that get the kept answer                  {share(sum(given), len(given))}")
    print(f"  edits that get a wrong answer                        {share(sum(wrong), len(wrong))}", end="")
    print(f"   (95 % sure: at most {100 * bound:.1f} %)")
    print(f"  edits compared with rewordings, wrong                {share(sum(crossed), len(crossed))}")
    alone = sum(wrong) + sum(given)
    print(f"  wrong among all answers given from the cache         {share(sum(wrong), alone)}")
    together(half, judge, threshold)
    kinds = sorted({kind for one in half for kind, _ in one.differing})
    told = {
        kind: [judge.similarity(one.question, text) >= threshold for one in half for of, text in one.differing if of == kind]
        for kind in kinds
    }  # fmt: skip
    print("  wrong by kind of edit: " + ", ".join(f"{kind} {sum(of)}/{len(of)}" for kind, of in told.items()))


def together(half: list[Group], judge: Judge, threshold: float) -> None:
    """All questions of the half kept in one scope, and each other text asked."""
    group_of = {one.question: number for number, one in enumerate(half)}
    kept = list(group_of)
    right = wrong = asked = 0
    for number, one in enumerate(half):
        for text in one.same:
            asked += 1
            found = judge.found(text, kept, threshold)
            right += bool(found) and group_of[found] == number
            wrong += bool(found) and group_of[found] != number
        for _, text in one.differing:
            asked += 1
            wrong += bool(judge.found(text, kept, threshold))
    print(f"  all in one scope: {right} right and {wrong} wrong answers to {asked} questions")


def calibrate(half: list[Group], judge: Judge) -> None:
    """What `shared/llm/thresholds.py` has to say of the half for learning."""
    negatives = [
        judge.similarity(text, other)
        for one in half
        for text in (one.question, *one.same)
        for _, other in one.differing
    ]
    wrong = sorted(round(each, 4) for each in negatives if each)
    print(f"calibrated on {len(negatives)} pairs that differ; similarities of those no guard stopped: {wrong}")
    for bound in (0.005, 0.01, 0.02, 0.05):
        print(f"  to begin with, for at most {100 * bound:.1f} % wrong: {calibrated(bound, wrong, len(negatives)):.2f}")


@dataclass(frozen=True)
class Drawn:
    """A random request: who asks, what for, and with what."""

    tenant: int
    rest: tuple[object, ...]
    question: str

    @property
    def body(self) -> dict[str, Any]:  # Any: JSON
        model, temperature, tool, system, before = self.rest
        turns = [{"role": "user", "content": before}, {"role": "assistant", "content": "Yes."}] if before else []
        tools = {"tools": [{"type": "function", "function": {"name": tool, "parameters": {}}}]} if tool else {}
        messages = [{"role": "system", "content": system}, *turns, {"role": "user", "content": self.question}]
        return {"model": model, "temperature": temperature, **tools, "messages": messages}


def drawn(chance: random.Random, questions: Sequence[str]) -> Iterator[Drawn]:
    while True:
        yield Drawn(
            chance.randrange(3),
            (
                chance.choice(["gpt-4o-mini", "gpt-4o"]),
                chance.choice([0, 0.5, 1]),
                chance.choice(["", "search", "weather"]),
                chance.choice(["Be brief.", "Be kind."]),
                chance.choice(["", "I use a Mac.", "I use Windows."]),
            ),
            chance.choice(questions),
        )


def crossings(half: list[Group], judge: Judge, threshold: float) -> None:
    """Answers given across tenants, parameters, tools or turns, by both caches, over random requests."""
    chance = random.Random(5)
    tenants = [TenantSecrets(new_data_key(TenantId(f"tenant-{number}"))) for number in range(3)]
    questions = [text for one in half[:8] for text in one.texts]
    exact: dict[tuple[int, str], Drawn] = {}
    scopes: dict[tuple[int, str], list[Drawn]] = {}
    hits, semantic_hits, crossed = 0, 0, 0
    for one in itertools.islice(drawn(chance, questions), REQUESTS):
        sealing = tenants[one.tenant]
        key = (one.tenant, key_of(sealing, {"route": "chat"}, one.body))
        asked = asked_in(one.body)
        assert asked is not None
        scope = (one.tenant, key_of(sealing, {"route": "chat", "of": "scope"}, asked.rest))
        if (kept := exact.get(key)) is not None:
            hits += 1
            crossed += kept != one
            continue
        found = next(
            (kept for kept in scopes.get(scope, []) if judge.similarity(one.question, kept.question) >= threshold), None
        )
        if found is not None:
            semantic_hits += 1
            crossed += (found.tenant, found.rest) != (one.tenant, one.rest)
        exact[key] = one
        scopes.setdefault(scope, []).append(one)
    keys = {key for _, key in exact} | {key for _, key in scopes}
    crossed += len(exact) + len(scopes) - len(keys)  # two tenants with one key
    print(f"random requests: {REQUESTS}, exact hits {hits}, semantic hits {semantic_hits}, across a scope {crossed}")


def timed(texts: Sequence[str]) -> None:
    started = time.perf_counter()
    for text in texts:
        read(text)
    each_us = (time.perf_counter() - started) / len(texts) * 1e6
    print(f"reading a question: {each_us:.0f} µs, of {len(texts)}")


async def main() -> None:
    found = groups()
    texts = list(dict.fromkeys(text for one in found for text in one.texts))
    judge = await judge_of(texts)
    learning = [one for one in found if not one.held_out]
    held_out = [one for one in found if one.held_out]
    threshold = calibrated(BOUND)
    calibrate(learning, judge)
    report("half for learning", learning, judge, threshold)
    report("held out", held_out, judge, threshold)
    crossings(held_out, judge, threshold)
    timed(texts)


if __name__ == "__main__":
    asyncio.run(main())
