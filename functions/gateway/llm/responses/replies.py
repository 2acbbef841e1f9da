"""A response's object, and a whole chat completion as one.

Source: OpenAI's API reference, "The response object".
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from functions.gateway.llm.bodies import Wanted

Json = dict[str, Any]  # Any: JSON
ECHOED: Mapping[str, object] = {
    "instructions": None, "max_output_tokens": None, "max_tool_calls": None, "metadata": {},
    "parallel_tool_calls": True, "previous_response_id": None, "prompt_cache_key": None, "reasoning": {},
    "safety_identifier": None, "service_tier": None, "temperature": 1.0, "text": {"format": {"type": "text"}},
    "tool_choice": "auto", "tools": [], "top_logprobs": 0, "top_p": 1.0, "truncation": "disabled", "user": None,
}  # fmt: skip
"""What a response repeats of its request, and what stands there when nothing was said."""
PREFIXES = {"message": "msg", "function_call": "fc", "function_call_output": "fco", "reasoning": "rs"}
CUT_BY = {"length": "max_output_tokens", "content_filter": "content_filter"}


def new_id(kind: str) -> str:
    """`resp_…`, `msg_…`, `fc_…`, `rs_…`: as long as OpenAI's."""
    return f"{kind}_{secrets.token_hex(25)}"


@dataclass
class Reply:
    """A response that is being made."""

    wanted: Wanted
    stored: bool
    id: str = field(default_factory=lambda: new_id("resp"))
    created_at: int = field(default_factory=lambda: int(time.time()))
    output: list[Json] = field(default_factory=list)
    usage: Json | None = None
    finish: str = "stop"

    @property
    def cut_by(self) -> str:
        """Why it is incomplete; empty when it is not."""
        return CUT_BY.get(self.finish, "")

    def document(self, status: str, *, error: Json | None = None) -> Json:
        """The object, with that status."""
        told = {name: self.wanted.content.get(name) for name in ECHOED}
        over = status in ("completed", "incomplete")
        return {
            "id": self.id,
            "object": "response",
            "created_at": self.created_at,
            "completed_at": int(time.time()) if over else None,
            "status": status,
            "background": False,
            "error": error,
            "incomplete_details": {"reason": self.cut_by} if status == "incomplete" else None,
            "model": self.wanted.model,
            "output": list(self.output),
            "store": self.stored,
            "usage": self.usage,
            **{name: ECHOED[name] if value is None else value for name, value in told.items()},
        }

    def ended(self) -> Json:
        """The object of one that has ended as a provider ends an answer."""
        return self.document("incomplete" if self.cut_by else "completed")

    @property
    def tokens(self) -> int:
        """What it adds to the input of one that goes on from it."""
        return int(self.usage["total_tokens"]) if self.usage else 0


def take(reply: Reply, completion: Json) -> None:
    """Put a whole chat completion into the reply."""
    choice = first_of(completion.get("choices"))
    message = object_of(choice.get("message"))
    reply.finish = str(choice.get("finish_reason") or "stop")
    reply.usage = usage_of(completion.get("usage"))
    status = "incomplete" if reply.cut_by else "completed"
    if reasoning := message.get("reasoning_content") or message.get("reasoning"):
        reply.output.append(reasoning_item(new_id("rs"), str(reasoning), "completed"))
    parts = []
    if isinstance(message.get("content"), str) and message["content"]:
        logprobs = choice.get("logprobs")
        parts.append(text_part(message["content"], logprobs_in(logprobs)))
    if isinstance(message.get("refusal"), str) and message["refusal"]:
        parts.append({"type": "refusal", "refusal": message["refusal"]})
    calls = [one for one in message.get("tool_calls") or [] if isinstance(one, dict)]
    if parts or not calls:
        item = message_item(new_id("msg"), parts, status)
        reply.output.append(item | ({"citations": message["citations"]} if message.get("citations") else {}))
    for call in calls:
        function = object_of(call.get("function"))
        told = {"call_id": call.get("id"), "name": function.get("name"), "arguments": function.get("arguments")}
        reply.output.append(call_item(new_id("fc"), told, status))


def first_of(choices: object) -> Json:
    return object_of(choices[0]) if isinstance(choices, list) and choices else {}


def object_of(value: object) -> Json:
    return value if isinstance(value, dict) else {}


def message_item(item_id: str, parts: list[Json], status: str) -> Json:
    return {"id": item_id, "type": "message", "status": status, "role": "assistant", "content": parts}


def text_part(text: str, logprobs: list[Json]) -> Json:
    return {"type": "output_text", "text": text, "annotations": [], "logprobs": logprobs}


def reasoning_item(item_id: str, text: str, status: str) -> Json:
    content = [{"type": "reasoning_text", "text": text}] if text else []
    return {"id": item_id, "type": "reasoning", "summary": [], "content": content, "status": status}


def call_item(item_id: str, told: Json, status: str) -> Json:
    """`told`: call_id, name, arguments."""
    return {"id": item_id, "type": "function_call", "status": status, **told}


def with_id(item: Json) -> Json:
    """The item as it is kept: of a type, with an id, the parts of its content in a list."""
    kind = str(item.get("type") or "message")
    told = {**item, "type": kind}
    if kind == "message" and isinstance(item.get("content"), str):
        part = "output_text" if item.get("role") == "assistant" else "input_text"
        told["content"] = [{"type": part, "text": item["content"]}]
    if not isinstance(item.get("id"), str):
        told["id"] = new_id(PREFIXES.get(kind, "item"))
    return told


def logprobs_in(value: object) -> list[Json]:
    content = value.get("content") if isinstance(value, dict) else None
    return [one for one in content if isinstance(one, dict)] if isinstance(content, list) else []


def usage_of(usage: object) -> Json | None:
    """A chat's usage as a response's. None when it tells no counts."""
    if not isinstance(usage, dict):
        return None
    sent, written = usage.get("prompt_tokens"), usage.get("completion_tokens", 0)
    if not isinstance(sent, int) or not isinstance(written, int):
        return None
    return {
        "input_tokens": sent,
        "input_tokens_details": {"cached_tokens": detail(usage, "prompt_tokens_details", "cached_tokens")},
        "output_tokens": written,
        "output_tokens_details": {"reasoning_tokens": detail(usage, "completion_tokens_details", "reasoning_tokens")},
        "total_tokens": sent + written,
    }


def detail(usage: Json, group: str, member: str) -> int:
    details = usage.get(group)
    count = details.get(member) if isinstance(details, dict) else None
    return count if isinstance(count, int) else 0
