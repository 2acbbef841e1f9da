"""Prompts made shorter on their way to the provider, for keys and requests that want it.

Whoever does not want it pays for knowing that alone. What goes wrong in here is logged, and the caller's own bytes are
sent.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from starlette.requests import Request
from starlette.responses import Response

from functions.gateway.llm.bodies import Wanted
from functions.gateway.llm.credentials import Provider
from shared.compression.conversation import RETRIEVAL_TOOL, Compressed, compressed
from shared.compression.estimate import tokens_in
from shared.compression.modes import MODES, Mode
from shared.compression.stored import Compression, Saving, original_id
from shared.errors import Malformed, Problem
from shared.function import Call
from shared.postgres import TenantDatabase
from shared.secrets import TenantSecrets
from shared.telemetry import log
from shared.usage import Tokens, cost_micro_usd, price_of

HEADER = "x-dcoder-compression"
FEATURES = frozenset({"chat", "messages", "count_tokens", "responses"})
OFF: frozenset[Mode] = frozenset()
Relay = Callable[[Wanted, Provider, str], Coroutine[None, None, Response]]
BODY_BYTES_MAX = 4 * 1024 * 1024
"""Larger ones are sent as they are."""
AT_ONCE_BYTES_MAX = 8 * 1024
"""What is larger is shortened in a thread, so that others' calls go on meanwhile."""
PURPOSE = "Gives the whole text of an earlier tool result that was put aside."
PARAMETERS = {
    "type": "object",
    "properties": {"id": {"type": "string", "description": "The id in the note that stands in its place."}},
    "required": ["id"],
}
ANTHROPICS = {"name": RETRIEVAL_TOOL, "description": PURPOSE, "input_schema": PARAMETERS}
TOOLS: Mapping[str, Mapping[str, Any]] = {  # Any: JSON
    "chat": {
        "type": "function",
        "function": {"name": RETRIEVAL_TOOL, "description": PURPOSE, "parameters": PARAMETERS},
    },
    "messages": ANTHROPICS,
    "count_tokens": ANTHROPICS,
    "responses": {
        "type": "function", "name": RETRIEVAL_TOOL, "description": PURPOSE, "parameters": PARAMETERS, "strict": False,
    },
}  # fmt: skip
"""By what is asked for. A response that a chat makes is asked for as a chat."""


def wish_of(request: Request) -> frozenset[Mode] | None:
    """`x-dcoder-compression: off`, or some of `lossless, reversible, passages`. None where the request says nothing.
    Raises `Malformed`."""
    told = request.headers.get(HEADER)
    if told is None:
        return None
    names = {name.strip().lower() for name in told.split(",")}
    if names == {"off"}:
        return OFF
    if not names <= set(MODES):
        raise Malformed(f"{HEADER!r} is off, or some of {', '.join(MODES)}", param=HEADER)
    return frozenset(mode for mode in MODES if mode in names)


@dataclass(frozen=True)
class Short:
    """A body as it is sent, and what was done to it; None when that failed."""

    wanted: Wanted
    how: Compressed | None

    @property
    def header(self) -> str:
        how = self.how
        if how is None:
            return "failed"
        names = ", ".join(mode for mode in MODES if mode in how.modes) or "none"
        sizes = f"original-bytes={how.original_bytes}; sent-bytes={how.sent_bytes}"
        return f"{names}; {sizes}; saved-tokens={how.saved_tokens}"


@dataclass(frozen=True)
class Compressing:
    """One call's."""

    request: Request
    compression: Compression
    call: Call
    tenant: TenantDatabase
    sealing: TenantSecrets

    @property
    def counting(self) -> bool:
        """Whether tokens are counted only: nothing is saved then, and nothing asked for again."""
        return self.request.url.path.endswith("/count_tokens")

    async def modes(self, feature: str) -> frozenset[Mode]:
        """How this call's prompt is compressed: as the request says, else as is stored for its key. Raises
        `Malformed`."""
        if feature not in FEATURES:
            return OFF
        told = wish_of(self.request)
        if told is not None:
            return told
        try:
            return await self.compression.modes_of(self.tenant, self.call.caller)
        except Problem as failure:
            log("compression_not_known", request_id=self.call.request_id, error=failure.code)
            return OFF

    def relayed(self, relay: Relay, modes: frozenset[Mode], feature: str) -> Relay:
        """`relay`, asked with a shorter prompt."""

        async def relayed(wanted: Wanted, provider: Provider, model: str) -> Response:
            short = await self.shortened(wanted, modes, feature)
            return self.told(await relay(short.wanted, provider, model), short, provider, model)

        return relayed

    async def shortened(self, wanted: Wanted, modes: frozenset[Mode], feature: str) -> Short:
        """The body to be sent. It does not raise."""
        if len(wanted.raw) > BODY_BYTES_MAX:
            return Short(wanted, unchanged(wanted))
        try:
            return await self._shortened(wanted, modes, feature)
        except Exception as failure:  # noqa: BLE001  whatever it is, the call is made with the caller's own bytes
            # of its type alone: its words may be the caller's
            log("compression_failed", request_id=self.call.request_id, error=type(failure).__name__)
            return Short(wanted, None)

    async def _shortened(self, wanted: Wanted, modes: frozenset[Mode], feature: str) -> Short:
        tools = wanted.content.get("tools")
        if not isinstance(tools, list) or not tools:
            modes -= {"reversible"}  # who has no tools cannot ask for what was put aside
        owner = self.call.caller.owner
        turns = turns_in(wanted)
        work = (turns.items, modes, lambda text: original_id(self.sealing, owner, text))
        if len(wanted.raw) > AT_ONCE_BYTES_MAX:
            how = await asyncio.to_thread(compressed, *work)
        else:
            how = compressed(*work)
        if not self.counting:
            await self.compression.keep(self.tenant, self.sealing, owner, how.originals)
        content = {**wanted.content, turns.member: how.messages}
        if "reversible" in modes and not any(named(tool) == RETRIEVAL_TOOL for tool in tools or ()):
            tool = TOOLS["chat" if turns.of_chat and feature == "responses" else feature]
            content["tools"] = [*(tools or ()), tool]
            how = counted(how, json.dumps(tool))
        elif how.messages is turns.items:
            return Short(wanted, how)
        return Short(Wanted(wanted.model, content, json.dumps(content).encode()), how)

    def told(self, response: Response, short: Short, provider: Provider, model: str) -> Response:
        """The response with what was saved in a header, and that in the tenant's database."""
        response.headers[HEADER] = short.header
        how = short.how
        if (
            how is not None
            and not self.counting
            and how.sent_bytes != how.original_bytes
            and response.status_code < 400
        ):
            price = price_of(model, self.call.process.clock.now().date(), provider=provider.of.prices)
            saved = cost_micro_usd(price, Tokens(abs(how.saved_tokens)))
            saving = Saving(
                self.call.request_id, self.call.caller.key_id, model, sorted(how.modes), how.original_bytes,
                how.sent_bytes, how.saved_tokens, -saved if saved and how.saved_tokens < 0 else saved,
            )  # fmt: skip
            self.compression.save(self.tenant, saving)
        return response


@dataclass(frozen=True)
class Turns:
    """A conversation, and the member of the body that it stands in."""

    member: str
    items: Sequence[Any]  # Any: JSON

    @property
    def of_chat(self) -> bool:
        return self.member == "messages"


def turns_in(wanted: Wanted) -> Turns:
    """A chat's or message's, or a response's, whose input may be a text alone."""
    if "messages" in wanted.content:
        return Turns("messages", wanted.content["messages"])
    given = wanted.content["input"]
    return Turns("input", [{"role": "user", "content": given}] if isinstance(given, str) else given)


def named(tool: object) -> object:
    """A tool's name in either dialect."""
    if not isinstance(tool, dict):
        return None
    function = tool.get("function")
    return function.get("name") if isinstance(function, dict) else tool.get("name")


def counted(how: Compressed, tool: str) -> Compressed:
    """With what the description of the tool adds."""
    return replace(how, sent_bytes=how.sent_bytes + len(tool), saved_tokens=how.saved_tokens - tokens_in(tool))


def unchanged(wanted: Wanted) -> Compressed:
    return Compressed((), len(wanted.raw), len(wanted.raw), 0, OFF)
