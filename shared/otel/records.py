"""What is told of a call, as plain values: written down on its path in microseconds, made into spans elsewhere."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING, Literal

from shared.otel import names

if TYPE_CHECKING:
    from shared.usage.prices import Tokens

Value = str | bool | int | float | tuple[str, ...]
Attributes = Mapping[str, Value]
TEXT_MAX = 200
MODEL = re.compile(rb'"model":\s*"([^"\\]{1,200})"')
ID = re.compile(rb'"id":\s*"([^"\\]{1,200})"')
REASON = re.compile(rb'"(?:finish|stop)_reason":\s*"([a-z_]{1,40})"')


@dataclass(frozen=True, slots=True)
class Measured:
    """One value of a metric."""

    metric: str
    value: float
    attributes: Attributes


@dataclass(frozen=True, slots=True)
class FunctionCall:
    """A call of a function, as it was answered. `traceparent` is the span's own, `received` what its caller sent."""

    name: str
    method: str
    route: str
    status: int
    duration_s: float
    ended_ns: int
    tenant: str
    request_id: str
    traceparent: str
    received: str

    @property
    def span_name(self) -> str:
        return f"{self.method} {self.route}"

    @property
    def error(self) -> str:
        return str(self.status) if self.status >= 500 else ""

    def attributes(self) -> dict[str, Value]:
        return {
            names.HTTP_METHOD: self.method,
            names.HTTP_ROUTE: self.route,
            names.HTTP_STATUS: self.status,
            names.FUNCTION: self.name,
            names.REQUEST_ID: self.request_id,
            names.TENANT: hashed(self.tenant),
            **errors(self.error),
        }

    def measured(self) -> Iterator[Measured]:
        of_http = (names.HTTP_METHOD, names.HTTP_ROUTE, names.HTTP_STATUS, names.ERROR_TYPE)
        told = self.attributes()
        yield Measured(names.HTTP_DURATION, self.duration_s, {name: told[name] for name in of_http if name in told})


@dataclass(slots=True)
class ModelCall:
    """A model's call: of what was asked and answered, nothing but its shape.

    Times are seconds since the function's call began; `head` and `reason` are the few bytes of a stream in which the
    model's name, the answer's id and the reason of its end stand.
    """

    feature: str
    provider: str
    """The kind of it."""
    model: str
    """As the caller named it."""
    tenant: str
    traceparent: str
    stream: bool = False
    max_tokens: int | None = None
    temperature: float | None = None
    top_p: float | None = None
    began_s: float = 0.0
    first_s: float | None = None
    ended_s: float = 0.0
    ended_ns: int = 0
    chunks: int = 0
    used: Tokens | None = None
    cost_micro_usd: int | None = None
    saved_micro_usd: int | None = None
    cache: Literal["", "hit", "semantic", "coalesced"] = ""
    error: str = ""
    answered_by: str = ""
    answer_id: str = ""
    reasons: tuple[str, ...] = ()
    head: bytes = field(default=b"", repr=False)
    reason: bytes = field(default=b"", repr=False)

    @property
    def operation(self) -> str:
        return names.OPERATIONS.get(self.feature, self.feature)

    @property
    def span_name(self) -> str:
        return f"{self.operation} {self.model[:TEXT_MAX]}"

    @property
    def duration_s(self) -> float:
        return max(0.0, self.ended_s - self.began_s)

    def shared(self) -> dict[str, Value]:
        """What the metrics have in common: few values each, no request's own."""
        return {
            names.OPERATION: self.operation,
            names.PROVIDER: names.PROVIDERS.get(self.provider, self.provider),
            names.REQUEST_MODEL: self.model[:TEXT_MAX],
            **errors(self.error),
        }

    def attributes(self) -> dict[str, Value]:
        told: dict[str, Value | None] = {
            **self.shared(),
            names.TENANT: hashed(self.tenant),
            names.FEATURE: self.feature,
            names.REQUEST_STREAM: self.stream or None,
            names.REQUEST_MAX_TOKENS: self.max_tokens,
            names.REQUEST_TEMPERATURE: self.temperature,
            names.REQUEST_TOP_P: self.top_p,
            names.RESPONSE_MODEL: self.answered_by[:TEXT_MAX] or found(MODEL, self.head) or None,
            names.RESPONSE_ID: self.answer_id[:TEXT_MAX] or found(ID, self.head) or None,
            names.RESPONSE_FINISH_REASONS: self.reasons
            or ((reason,) if (reason := found(REASON, self.reason)) else None),
            names.RESPONSE_TIME_TO_FIRST_CHUNK: None if self.first_s is None else self.first_s - self.began_s,
            names.CACHE: self.cache or None,
            names.COST: self.cost_micro_usd,
            names.SAVED: self.saved_micro_usd,
            **self._tokens(),
        }
        return {name: value for name, value in told.items() if value is not None}

    def measured(self) -> Iterator[Measured]:
        shared = self.shared()
        if self.used is not None and not self.cache:
            yield Measured(names.TOKEN_USAGE, self.used.input, {**shared, names.TOKEN_TYPE: "input"})
            yield Measured(names.TOKEN_USAGE, self.used.output, {**shared, names.TOKEN_TYPE: "output"})
        if not self.cache:
            yield Measured(names.CLIENT_DURATION, self.duration_s, shared)
            yield Measured(names.OVERHEAD, self.began_s, shared)
        yield Measured(names.SERVER_DURATION, self.ended_s, shared)
        if self.first_s is not None:
            yield from self._of_stream(shared, self.first_s)
        with_tenant = {**shared, names.TENANT: hashed(self.tenant)}
        if self.cost_micro_usd:
            yield Measured(names.COST_TOTAL, self.cost_micro_usd, with_tenant)
        if self.saved_micro_usd:
            yield Measured(names.SAVED_TOTAL, self.saved_micro_usd, with_tenant)

    def _of_stream(self, shared: Attributes, first_s: float) -> Iterator[Measured]:
        yield Measured(names.CLIENT_FIRST_CHUNK, first_s - self.began_s, shared)
        yield Measured(names.SERVER_FIRST_TOKEN, first_s, shared)
        rest_s = max(0.0, self.ended_s - first_s)
        if self.chunks > 1:
            yield Measured(names.CLIENT_PER_CHUNK, rest_s / (self.chunks - 1), shared)
        if self.used is not None and self.used.output > 1:
            yield Measured(names.SERVER_PER_TOKEN, rest_s / (self.used.output - 1), shared)

    def _tokens(self) -> dict[str, Value | None]:
        used = self.used
        if used is None:
            return {}
        return {
            names.INPUT_TOKENS: used.input,
            names.OUTPUT_TOKENS: used.output,
            names.CACHE_READ_TOKENS: used.cached or None,
            names.CACHE_CREATION_TOKENS: used.written_5m + used.written_1h or None,
            names.REASONING_TOKENS: used.reasoning or None,
        }


Record = FunctionCall | ModelCall


def errors(kind: str) -> dict[str, Value]:
    return {names.ERROR_TYPE: kind} if kind else {}


def found(pattern: re.Pattern[bytes], data: bytes) -> str:
    match = pattern.search(data)
    return match[1].decode("utf-8", "replace") if match else ""


@lru_cache(maxsize=4096)
def hashed(tenant: str) -> str:
    """The same for the same tenant, and not its name."""
    return hashlib.sha256(f"dcoder-tenant:{tenant}".encode()).hexdigest()[:16]
