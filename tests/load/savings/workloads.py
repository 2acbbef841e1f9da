"""The four workloads: requests in OpenAI's dialect, made from the texts beside this file with fixed seeds.

Each is what its name says people do, at a size that a laptop runs in a minute. They are ours, not somebody's traffic.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

DATA = Path(__file__).with_name("data")
MODEL = "gpt-4o-mini"
AT_ONCE = 8
FAQ_REQUESTS, FAQ_EXPONENT, REWORDED = 320, 1.1, 0.4
SMALL_LETTERS = 0.2
GREETINGS = ("", "", "", "Hi! ", "Hello, ", "Quick question: ", "Please help. ")
READERS, TURNS, PASSAGES_EACH, SAME_READER = 24, 4, 5, 0.3
PROGRAMMERS, CODE_TURNS = 12, 5
AGENTS, STEPS, ASKED_AGAIN = 10, 14, 0.1
Json = Any  # Any: JSON
SUPPORT = "You answer questions of customers of a software company. Be brief, and say so when you do not know."
READER = "Answer from the documents alone, in one sentence, and say where it stands."
PROGRAMMER = "You help programmers with their code. Use the tools to look at it before you answer."
AGENT = "You look after a warehouse's machines. Use the tools; finish when the order is carried out."


@dataclass(frozen=True)
class Asked:
    """A request, and the name of the only right answer."""

    messages: Sequence[Json]
    answer: str
    tools: Sequence[Json] = ()
    told: str = ""
    """A sentence of the documents that answers it."""

    @property
    def body(self) -> Json:
        tools = {"tools": list(self.tools)} if self.tools else {}
        return {"model": MODEL, "messages": list(self.messages), "max_tokens": 200, **tools}


@dataclass(frozen=True)
class Workload:
    """Waves of requests: those of one are sent at once, and the next follows when all are answered."""

    name: str
    modes: str
    waves: Sequence[Sequence[Asked]] = field(repr=False)


def workloads() -> list[Workload]:
    return [
        Workload("FAQ, Zipf repeats", "lossless", list(waves(faq()))),
        Workload("document chat", "lossless, passages", list(waves(documents()))),
        Workload("code chat", "lossless, reversible", list(waves(code()))),
        Workload("agent loop", "lossless, reversible", [[one] for one in agents()]),
    ]


def waves(asked: Sequence[Asked]) -> Iterator[Sequence[Asked]]:
    for start in range(0, len(asked), AT_ONCE):
        yield asked[start : start + AT_ONCE]


def lines_of(name: str) -> list[str]:
    text = (DATA / name).read_text()
    return [line for line in text.splitlines() if line and not line.startswith("# ")]


def faq() -> list[Asked]:
    """Questions by Zipf's law, two in five in other words than the usual ones, more than half with some greeting,
    some in small letters."""
    random = Random(1)
    questions = [line.split(" | ") for line in lines_of("faq.txt")]
    random.shuffle(questions)
    weights = [1 / rank**FAQ_EXPONENT for rank in range(1, len(questions) + 1)]
    chosen = random.choices(questions, weights, k=FAQ_REQUESTS)
    return [faq_asked(random, one) for one in chosen]


def faq_asked(random: Random, question: Sequence[str]) -> Asked:
    name, usual, *others = question
    text = random.choice(others) if random.random() < REWORDED else usual
    text = text.lower() if random.random() < SMALL_LETTERS else text
    return Asked([system(SUPPORT), user(random.choice(GREETINGS) + text)], f"faq {name}")


def documents() -> list[Asked]:
    """Readers who ask one thing after the other, each with the passages that a search found. Some ask what another
    reader asked."""
    random = Random(2)
    passages = list(passages_of("passages.txt"))
    readers: list[list[Asked]] = []
    for _ in range(READERS):
        if readers and random.random() < SAME_READER:
            readers.append(random.choice(readers))
            continue
        readers.append(list(reading(random, passages)))
    return [turn[place] for place in range(TURNS) for turn in readers]


def passages_of(name: str) -> Iterator[tuple[str, str, list[tuple[str, str]]]]:
    for block in "\n".join(lines_of(name)).split("\n---\n"):
        title, text, *asked = block.split("\n")
        questions = [line.removeprefix("? ").split(" = ") for line in asked]
        yield title, text, [(question, sentence) for question, sentence in questions]


def reading(random: Random, passages: Sequence[tuple[str, str, list[tuple[str, str]]]]) -> Iterator[Asked]:
    messages: list[Json] = [system(READER)]
    for title, text, questions in random.sample(passages, TURNS):
        question, sentence = random.choice(questions)
        found = [(title, text), *((one[0], one[1]) for one in random.sample(passages, PASSAGES_EACH - 1))]
        random.shuffle(found)
        given = "\n".join(f'<document title="{name}">{body}</document>' for name, body in found)
        messages.append(user(f"{given}\n\n{question}"))
        answer = f"documents {question} {' '.join(name for name, _ in found)} {len(messages)}"
        yield Asked(list(messages), answer, told=sentence)
        messages.append(assistant(sentence))


def code() -> list[Asked]:
    """Programmers whose questions need files, listings, searches and the log of a test run."""
    random = Random(3)
    programmers = [list(programming(random, number)) for number in range(PROGRAMMERS)]
    return [turn for turns in zip(*programmers, strict=True) for turn in turns]


def programming(random: Random, number: int) -> Iterator[Asked]:
    messages: list[Json] = [system(PROGRAMMER)]
    file = (DATA / "code.txt").read_text()
    for turn in range(CODE_TURNS):
        messages.append(user(f"Programmer {number}: why does test {turn} of file {random.randrange(40)} fail?"))
        for name, result in (("read_file", file), ("list_files", listing(random)), ("run_tests", test_log(random))):
            messages += called(f"{number}-{turn}-{name}", name, result)
        yield Asked(list(messages), f"code {number} {turn}", CODE_TOOLS)
        messages.append(assistant(f"Because of line {random.randrange(30)}: it counts from one."))


def agents() -> Iterator[Asked]:
    """Agents that look at parts, machines' logs and orders, step by step. Some start the same order again."""
    random = Random(4)
    for number in range(AGENTS):
        seed = number if random.random() > 0.2 else number // 2
        yield from acting(Random(1000 + seed), seed)


def acting(random: Random, number: int) -> Iterator[Asked]:
    messages: list[Json] = [
        system(AGENT),
        user(f"Order {number}: find out which machine lacks which part, and order it."),
    ]
    for step in range(STEPS):
        yield Asked(list(messages), f"agent {number} {step}", AGENT_TOOLS)
        name, result = random.choice(
            [("list_parts", parts(random)), ("read_log", machine_log(random)), ("list_orders", orders(random))]
        )
        messages += called(f"{number}-{step}", name, result)


def parts(random: Random) -> str:
    rows = [
        {"id": random.randrange(10**6), "name": random.choice(["seal", "pump", "valve"]), "stocked": one % 3 > 0,
         "price": {"amount": random.randrange(1, 900) / 4, "currency": "EUR"}}
        for one in range(random.randrange(20, 60))
    ]  # fmt: skip
    return json.dumps(rows, indent=2)


def orders(random: Random) -> str:
    rows = [{"order": random.randrange(10**5), "machine": random.randrange(40)} for _ in range(random.randrange(3, 30))]
    return json.dumps({"orders": rows, "page": 1, "next": None}, indent=2)


def machine_log(random: Random) -> str:
    lines = []
    for second in range(random.randrange(60, 140)):
        text = (
            "INFO pump: pressure is steady" if random.random() < 0.85 else f"WARN pump: {random.randrange(99)} degrees"
        )
        lines.append(f"2026-03-01T04:{second // 60:02d}:{second % 60:02d}Z {text}")
    return "\n".join(lines)


def listing(random: Random) -> str:
    rows = [
        {"path": f"src/part_{one}.py", "bytes": random.randrange(9000), "changed": "2026-03-01"} for one in range(40)
    ]
    return json.dumps(rows, indent=2)


def test_log(random: Random) -> str:
    failed = random.randrange(60)
    return "\n".join(
        f"12:00:{one:02d} tests of one part: {'1 failed' if one == failed else 'all passed'}" for one in range(60)
    )


def called(name: str, tool: str, result: str) -> list[Json]:
    """A tool's call and what it returned."""
    call = {"id": f"call_{name}", "type": "function", "function": {"name": tool, "arguments": "{}"}}
    return [
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": result},
    ]


def system(text: str) -> Json:
    return {"role": "system", "content": text}


def user(text: str) -> Json:
    return {"role": "user", "content": text}


def assistant(text: str) -> Json:
    return {"role": "assistant", "content": text}


def tool(name: str, purpose: str) -> Json:
    parameters = {"type": "object", "properties": {"of": {"type": "string", "description": "Which one is meant."}}}
    return {"type": "function", "function": {"name": name, "description": purpose, "parameters": parameters}}


CODE_TOOLS = [
    tool("read_file", "Gives a file's text."),
    tool("list_files", "Lists the files of a folder."),
    tool("run_tests", "Runs the tests and gives their log."),
]
AGENT_TOOLS = [
    tool("list_parts", "Lists parts of the stock."),
    tool("read_log", "Gives the last lines of a machine's log."),
    tool("list_orders", "Lists open orders."),
]
