"""The scripted provider as one that knows each question's answer, counts tokens, and keeps a cache of prompts."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from shared.compression import passages
from shared.compression.conversation import RETRIEVAL_TOOL
from shared.compression.estimate import tokens_in
from tests.fixtures.provider import Pause, Received, Script, completion, usage
from tests.load.savings.workloads import ASKED_AGAIN, Asked

Json = Any  # Any: JSON
WRITTEN_TOKENS = 60
CACHED_LEAST, CACHED_STEP = 1024, 128
"""OpenAI, "Prompt caching": prefixes of 1,024 tokens and more, in steps of 128."""
THINKS_S = 0.1
STUB = re.compile(RETRIEVAL_TOOL + r"\(id='(\w+)'\)")
TITLE = re.compile(r'<document title="([^"]*)">')


@dataclass
class Knowing:
    """`answers`: by what `key_of` finds in the messages."""

    answers: Mapping[str, Asked]
    prefixes: set[bytes] = field(default_factory=set)
    kept: dict[str, bool] = field(default_factory=dict)
    """By answer, whether the sentence that it is in was in the prompt."""

    def answer(self, call: Received) -> Script:
        body = call.json
        asked = self.answers[key_of(body["messages"])]
        if asked.told:
            self.kept[asked.answer] = asked.told in body["messages"][-1]["content"]
        sent, cached = self.counted(body)
        used = usage(sent, WRITTEN_TOKENS, cached=cached)
        stubs = STUB.findall(json.dumps(body["messages"]))
        if stubs and body["messages"][-1].get("tool_call_id") != "again" and wants_again(asked.answer):
            called = {"name": RETRIEVAL_TOOL, "arguments": json.dumps({"id": stubs[0]})}
            told = completion("", used=used, tool_calls=[{"id": "again", "type": "function", "function": called}])
        else:
            told = completion(asked.answer, used=used)
        return Script(told.steps, told.status, told.headers, before=(Pause(THINKS_S),))

    def counted(self, body: Json) -> tuple[int, int]:
        """Tokens of the prompt, and how many of them a prompt before had at its beginning."""
        prefix, total, cached = hashlib.sha256(), 0, 0
        for part in (body.get("tools"), *body["messages"]):
            text = json.dumps(part, ensure_ascii=False)
            prefix.update(text.encode())
            total += tokens_in(text_of(part)) + 4
            if prefix.digest() in self.prefixes:
                cached = total
            self.prefixes.add(prefix.digest())
        return total, cached // CACHED_STEP * CACHED_STEP if cached >= CACHED_LEAST else 0


def text_of(part: Json) -> str:
    """What a model reads of a message or of the tools: the content as it is, the rest as JSON."""
    if not isinstance(part, dict):
        return json.dumps(part) if part else ""
    rest = {name: value for name, value in part.items() if name not in ("role", "content")}
    return str(part.get("content") or "") + (json.dumps(rest) if rest else "")


def wants_again(answer: str) -> bool:
    """Whether the model has to look at what was put aside: one in ten, always the same ones."""
    return hashlib.sha256(answer.encode()).digest()[0] < 256 * ASKED_AGAIN


def key_of(messages: Json) -> str:
    """What tells a request from the others, whether it was compressed or not: nothing of it is ever touched."""
    own = [one for one in messages if one.get("tool_call_id") != "again" and not calls_again(one)]
    users = [one["content"] for one in own if one["role"] == "user"]
    said = [[passages.without_passages(text).strip(), TITLE.findall(text)] for text in users]
    return json.dumps([len(own), messages[0]["content"], said])


def calls_again(message: Json) -> bool:
    return any(call["id"] == "again" for call in message.get("tool_calls") or ())
