"""What telemetry is told of a model's call: when what happened, how much, whose; never what was said.

Nothing of it is done in a process without a collector but to look whether there is one.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass, field
from time import perf_counter, time_ns
from typing import TYPE_CHECKING, Any

from functions.gateway.llm.credentials import Provider
from functions.gateway.llm.models import OWN
from shared.function import Call
from shared.otel import ModelCall, Telemetry

if TYPE_CHECKING:
    from functions.gateway.llm.settlement import Settlement

HEAD_BYTES = 1024
REASON = b'_reason":'
REASON_BYTES = 64
LENGTHS = ("max_completion_tokens", "max_output_tokens", "max_tokens")


Content = Mapping[str, Any]  # Any: JSON of the caller's


@dataclass(frozen=True)
class Asked:
    """A call on its way, in a process with a collector. `provider` is the kind of it, `model` as the caller said."""

    telemetry: Telemetry
    call: Call
    feature: str
    provider: str
    model: str
    content: Content


current: ContextVar[Asked | None] = ContextVar("dcoder_asked", default=None)


def observe(call: Call, feature: str, *, provider: Provider | None, model: str, content: Content) -> None:
    """From here on the call's settlements are told. Without a provider the model is built in."""
    if (telemetry := call.process.telemetry) is not None:
        kind = provider.kind if provider is not None else OWN
        current.set(Asked(telemetry, call, feature, kind, model, content))


@dataclass
class Observation:
    """One settlement of a call, from its reservation to its end."""

    asked: Asked
    began: float = field(default_factory=perf_counter)
    first: float | None = None
    chunks: int = 0
    head: bytes = b""
    reason: bytes = b""

    def piece(self, piece: bytes) -> None:
        """A piece of a stream, on its way to the caller."""
        self.chunks += 1
        if self.first is None:
            self.first, self.head = perf_counter(), piece[:HEAD_BYTES]
        if (at := piece.rfind(REASON)) >= 0:
            self.reason = piece[max(0, at - REASON_BYTES) : at + REASON_BYTES]

    def ended(self, settlement: Settlement) -> None:
        """Tell how it ended."""
        asked, answer, ended = self.asked, settlement.answer, settlement.metered.ended
        call, content, started = asked.call, asked.content, asked.call.started
        asked.telemetry.put(
            ModelCall(
                feature=asked.feature,
                provider=asked.provider,
                model=asked.model,
                tenant=call.caller.tenant,
                traceparent=call.traceparent,
                stream=content.get("stream") is True,
                max_tokens=next(filter(None, (number(content, name) for name in LENGTHS)), None),
                temperature=fraction(content, "temperature"),
                top_p=fraction(content, "top_p"),
                began_s=self.began - started,
                first_s=None if self.first is None else self.first - started,
                ended_s=perf_counter() - started,
                ended_ns=time_ns(),
                chunks=self.chunks,
                used=settlement.used,
                cost_micro_usd=ended.cost_micro_usd if ended is not None else None,
                saved_micro_usd=settlement.saved_micro_usd,
                cache=settlement.cache,
                error="" if settlement.outcome == "done" else settlement.refusal or settlement.outcome,
                answered_by=text(answer.get("model")),
                answer_id=text(answer.get("id")),
                reasons=reasons_in(answer),
                head=self.head,
                reason=self.reason,
            )
        )


def observation() -> Observation | None:
    asked = current.get()
    return None if asked is None else Observation(asked)


def number(content: Content, name: str) -> int | None:
    value = content.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53 else None


def fraction(content: Content, name: str) -> float | None:
    value = content.get(name)
    return (
        float(value) if isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < 2**53 else None
    )


def text(value: object) -> str:
    return value if isinstance(value, str) else ""


def reasons_in(answer: dict[str, Any]) -> tuple[str, ...]:  # Any: JSON of the provider's
    """Why the answers ended: of OpenAI's choices, or of Anthropic's message."""
    choices = answer.get("choices")
    told = [one.get("finish_reason") for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    return tuple(reason[:40] for reason in (*told, answer.get("stop_reason")) if isinstance(reason, str))
