"""How well the semantic cache tells the same question in other words from one that nearly says the same.

`python -m tests.load.gateway.semantic` prints the shares over two sets of labelled pairs: `semantic_pairs.txt`, written
by whoever wrote the guards, and `semantic_pairs_independent.txt`, written by somebody who had not read them. Each is
shown for the half that lists, forms and the threshold may be made by, and for the half that is held out: of the
rewordings, how many get the kept answer; of the questions that differ in little, how many get a wrong one; both by
kind, with exact binomial intervals. It counts a question against the one it was made from, and every rewording against
every question that differs; and it asks each question of the half in one scope with all others. Then it draws random
requests and counts answers that cross a tenant, a parameter or a tool, in either cache.
"""

from __future__ import annotations

import asyncio
import hashlib
import itertools
import random
import time
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from functions.gateway.llm.semantic.asked import Asked, asked_in
from functions.gateway.llm.semantic.entries import CANDIDATES_MAX
from functions.gateway.llm.semantic.guards import WORDS, agreement, difference
from functions.gateway.llm.semantic.reading import Reading, read
from functions.gateway.llm.semantic.redundancy import REDUNDANT, shortened
from shared.embeddings import Embeddings
from shared.ids import TenantId
from shared.llm.answers import key_of
from shared.llm.thresholds import DOUBT, calibrated, share_at_most
from shared.secrets import TenantSecrets, new_data_key

if TYPE_CHECKING:
    import numpy as np

PAIRS = Path(__file__).with_name("semantic_pairs.txt")
INDEPENDENT = Path(__file__).with_name("semantic_pairs_independent.txt")
TURNS = " >> "
BOUND = 0.01
REQUESTS = 20_000


@dataclass
class Group:
    """A question; what says the same, what differs in little, and what differs so beside a rewording, with its kind."""

    domain: str
    question: str
    reworded: list[tuple[str, str]] = field(default_factory=list)
    differing: list[tuple[str, str]] = field(default_factory=list)
    beside: list[tuple[str, str]] = field(default_factory=list)

    @property
    def held_out(self) -> bool:
        return hashlib.sha256(self.question.encode()).digest()[0] % 2 == 1

    @property
    def same(self) -> list[str]:
        return [text for _, text in self.reworded]

    @property
    def texts(self) -> list[str]:
        return [self.question, *(text for _, text in self.reworded + self.differing + self.beside)]


def groups(path: Path) -> list[Group]:
    found: list[Group] = []
    domain = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        mark, text = line[:1], line[1:].strip()
        if mark == "#":
            domain = text
        elif mark == "=":
            found.append(Group(domain, text))
        elif mark in ("+", "-", "~"):
            kind, parted, other = (part.strip() for part in text.partition("|"))
            of = {"+": found[-1].reworded, "-": found[-1].differing, "~": found[-1].beside}[mark]
            of.append((kind, other) if parted else ("", kind))
    return found


def asked_of(text: str) -> Asked:
    """As the gateway has it of a conversation whose turns of the user are these."""
    messages: list[dict[str, str]] = []
    for turn in text.split(TURNS):
        messages += [{"role": "user", "content": turn}, {"role": "assistant", "content": "Yes."}]
    asked = asked_in({"model": "gpt-4o-mini", "messages": messages[:-1]})
    assert asked is not None
    return asked


class Judge:
    """The cache's own decision."""

    def __init__(self) -> None:
        self._embeddings = Embeddings()
        self._vectors: dict[str, np.ndarray[Any, Any]] = {}
        self._readings: dict[str, Reading] = {}
        self._shortened: dict[tuple[str, ...], bool] = {}

    async def learn(self, texts: Iterable[str]) -> None:
        """Make the vectors of these texts' last turns, each alone, as the gateway asks for them: beside others they
        differ a little."""
        unknown = sorted({asked_of(text).question for text in texts} - self._vectors.keys())
        for text in unknown:
            (self._vectors[text],) = await self._embeddings.embed([text])
        self._readings |= {text: read(text) for text in unknown}

    def cosine(self, one: str, other: str) -> float:
        """0 where the turns before differ."""
        left, right = asked_of(one), asked_of(other)
        return float(self._vectors[left.question] @ self._vectors[right.question]) if left.rest == right.rest else 0.0

    async def similarity(self, one: str, other: str) -> float:
        """0 where the scope differs or a guard sees a difference."""
        before, after = asked_of(one), asked_of(other)
        if before.rest != after.rest:
            return 0.0
        one, other = before.question, after.question
        left, right = self._readings[one], self._readings[other]
        if differing := difference(left, right):
            shorter = shortened((one, left), (other, right)) if differing == WORDS else []
            if not shorter or not await self._redundant(tuple(text for pair in shorter for text in pair)):
                return 0.0
        return self.cosine(one, other) * agreement(left, right)

    async def _redundant(self, texts: tuple[str, ...]) -> bool:
        """As the gateway asks for it: all of them at once."""
        if texts not in self._shortened:
            vectors = await self._embeddings.embed(list(texts))
            pairs = zip(vectors[::2], vectors[1::2], strict=True)
            self._shortened[texts] = all(float(one @ other) >= REDUNDANT for one, other in pairs)
        return self._shortened[texts]

    async def found(self, asked: str, kept: Sequence[str], threshold: float) -> str:
        """Which of the kept questions' answers is given, or an empty text."""
        for one in sorted(kept, key=lambda each: -self.cosine(asked, each))[:CANDIDATES_MAX]:
            if await self.similarity(asked, one) >= threshold:
                return one
        return ""

    async def close(self) -> None:
        await self._embeddings.close()


def share(hits: Sequence[bool]) -> str:
    """With the exact binomial interval that has the true share in it with 95 % confidence (Clopper and Pearson)."""
    wrong, of = sum(hits), len(hits)
    low, high = (1 - share_at_most(of - wrong, of, DOUBT / 2), share_at_most(wrong, of, DOUBT / 2)) if of else (0, 1)
    return f"{wrong:4} of {of:4} = {100 * wrong / max(of, 1):5.1f} %   ({100 * low:.1f} to {100 * high:.1f})"


@dataclass(frozen=True)
class Pair:
    """Two questions as labelled. `direct`: one was made from the other, and differs in nothing but its kind."""

    one: str
    other: str
    same: bool
    direct: bool
    kind: str = ""


def pairs_of(half: Iterable[Group]) -> Iterator[Pair]:
    for group in half:
        yield from (Pair(group.question, text, True, True, kind) for kind, text in group.reworded)
        for kind, text in group.differing:
            yield Pair(group.question, text, False, True, kind)
            yield from (Pair(same, text, False, False, kind) for same in group.same)
        for kind, text in group.beside:
            yield from (Pair(one, text, False, False, kind) for one in (group.question, *group.same))


async def report(name: str, half: list[Group], judge: Judge, threshold: float) -> None:
    given = [(pair, await judge.similarity(pair.one, pair.other) >= threshold) for pair in pairs_of(half)]
    right = [(pair.kind, hit) for pair, hit in given if pair.same]
    apart = sum(pair.same and asked_of(pair.one).rest != asked_of(pair.other).rest for pair, _ in given)
    wrong = [(pair.kind, hit) for pair, hit in given if not pair.same and pair.direct]
    crossed = [(pair.kind, hit) for pair, hit in given if not pair.same and not pair.direct]
    print(f"{name}: {len(half)} groups of {len({one.domain for one in half})} domains, threshold {threshold:.2f}")
    print(f"  rewordings that get the kept answer              {share([hit for _, hit in right])}")
    print(f"  of them another earlier turn, which is another scope {apart:4}")
    print(f"  edits that get a wrong answer                    {share([hit for _, hit in wrong])}")
    print(f"  edits beside rewordings that get a wrong answer  {share([hit for _, hit in crossed])}")
    print(f"  edits of either sort that get a wrong answer     {share([hit for _, hit in wrong + crossed])}")
    await together(half, judge, threshold)
    by_kind("rewordings", right)
    by_kind("edits", wrong)
    by_kind("edits beside rewordings", crossed)


def by_kind(name: str, given: Iterable[tuple[str, bool]]) -> None:
    of_kind = defaultdict(list)
    for kind, hit in given:
        of_kind[kind].append(hit)
    if len(of_kind) > 1:
        print(f"  {name} by kind:")
        for kind, hits in sorted(of_kind.items()):
            print(f"    {kind:14} {share(hits)}")


def by_cosine_alone(half: list[Group], judge: Judge) -> None:
    """What the vectors would give without guards: the rewordings nearer than all but one in a hundred of the edits."""
    edits = sorted(judge.cosine(pair.one, pair.other) for pair in pairs_of(half) if not pair.same and pair.direct)
    threshold = edits[-1 - int(BOUND * len(edits))]
    same = [judge.cosine(pair.one, pair.other) > threshold for pair in pairs_of(half) if pair.same]
    print(f"by the cosine alone, above {threshold:.3f} for at most {BOUND:.0%} wrong: {share(same)}")


async def together(half: list[Group], judge: Judge, threshold: float) -> None:
    """All questions of the half kept in one scope, and each other text asked."""
    kept = {one.question: one for one in half}
    right = wrong = asked = 0
    for one in half:
        for text in one.texts[1:]:
            asked += 1
            found = await judge.found(text, list(kept), threshold)
            good = bool(found) and kept[found] is one and text in one.same
            right += good
            wrong += bool(found) and not good
    print(f"  all in one scope: {right} right and {wrong} wrong answers to {asked} questions")


async def calibrate(half: list[Group], judge: Judge) -> None:
    """What `shared/llm/thresholds.py` has to say of what was held out."""
    seen = [await judge.similarity(pair.one, pair.other) for pair in pairs_of(half) if not pair.same]
    wrong = sorted(round(each, 4) for each in seen if each)
    print(f"calibrated on {len(seen)} pairs that differ; similarities of those that no guard stopped: {wrong}")
    for bound in (0.005, 0.01, 0.02, 0.05):
        print(f"  to begin with, for at most {100 * bound:.1f} % wrong: {calibrated(bound, wrong, len(seen)):.2f}")


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


async def crossings(half: list[Group], judge: Judge, threshold: float) -> None:
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
        found = None
        for before in scopes.get(scope, []):
            if await judge.similarity(one.question, before.question) >= threshold:
                found = before
                break
        if found is not None:
            semantic_hits += 1
            crossed += (found.tenant, found.rest) != (one.tenant, one.rest)
        exact[key] = one
        scopes.setdefault(scope, []).append(one)
    keys = {key for _, key in exact} | {key for _, key in scopes}
    crossed += len(exact) + len(scopes) - len(keys)  # two tenants with one key
    print(f"random requests: {REQUESTS}, exact hits {hits}, semantic hits {semantic_hits}, across a scope {crossed}")


def timed(half: Sequence[Group]) -> None:
    texts = list(dict.fromkeys(asked_of(text).question for one in half for text in one.texts))
    started = time.process_time()
    for text in texts:
        read.__wrapped__(text)
    each_us = (time.process_time() - started) / len(texts) * 1e6
    pairs = [(read(asked_of(pair.one).question), read(asked_of(pair.other).question)) for pair in pairs_of(half)]
    started = time.process_time()
    for one, other in pairs:
        _ = difference(one, other) or agreement(one, other)
    both_us = (time.process_time() - started) / len(pairs) * 1e6
    print(f"processor time, a question: {each_us:.0f} µs to read, {both_us:.0f} µs to compare with a candidate")


async def main() -> None:
    sets = {"": groups(PAIRS), "independent, ": groups(INDEPENDENT)}
    texts = list(dict.fromkeys(text for found in sets.values() for one in found for text in one.texts))
    judge = Judge()
    await judge.learn(texts)
    threshold = calibrated(BOUND)
    await calibrate([one for found in sets.values() for one in found if one.held_out], judge)
    for name, found in sets.items():
        await report(f"{name}half for learning", [one for one in found if not one.held_out], judge, threshold)
        held_out = [one for one in found if one.held_out]
        await report(f"{name}held out", held_out, judge, threshold)
        by_cosine_alone(held_out, judge)
    await crossings([one for one in sets[""] if one.held_out], judge, threshold)
    timed([one for one in sets[""] if one.held_out])
    await judge.close()


if __name__ == "__main__":
    asyncio.run(main())
