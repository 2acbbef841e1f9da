"""A function, stated once: `Function` collects the operations that its decorators record.

Standard library only, and nothing is built here: servers, schemas and manifests are derived from the
declaration by `shared.function.catalog` and what reads it.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Literal, TypeVar

Handler = Callable[..., Awaitable[Any]]  # Any: handlers differ in every parameter; injection checks them
H = TypeVar("H", bound=Handler)

PERMISSION = re.compile(r"[a-z]+(-[a-z]+)*:[a-z]+(-[a-z]+)*")
READING_VERBS = frozenset({"read", "use", "export"})
MIB = 1024 * 1024


@dataclass(frozen=True)
class Scale:
    """How many instances, and how many calls each handles at once. `reason` is required to leave the defaults."""

    min: int = 0
    max: int = 20
    concurrency: int = 40
    reason: str = ""

    def __post_init__(self) -> None:
        if not 0 <= self.min <= self.max or self.max < 1:
            raise ValueError(f"Scale needs 0 <= min <= max and max >= 1, got min={self.min} max={self.max}")
        if not 1 <= self.concurrency <= 1000:
            raise ValueError(f"Scale.concurrency is 1 to 1000, got {self.concurrency}")
        if self.min > 0 and not self.reason:
            raise ValueError("Scale.min above 0 keeps an instance awake for ever: give the reason")


@dataclass(frozen=True)
class Route:
    """An HTTP operation. `raw` handlers are Starlette endpoints; the others become FastAPI path operations.

    `shown_once`: the answer holds a secret, so it is not kept for a retry with the same idempotency key.
    """

    method: str
    path: str
    permission: str
    raw: bool = False
    success: int = 200
    body_bytes_max: int | None = None
    shown_once: bool = False

    @property
    def changes(self) -> bool:
        """Whether a successful call leaves something behind that has to be audited: any verb but `READING_VERBS`.

        An export answers with a stream, which no transaction can hold back: its handler writes the record itself.
        """
        return self.permission.rpartition(":")[2] not in READING_VERBS


@dataclass(frozen=True)
class ObjectCreated:
    """An object came to be, or was overwritten, under `prefix/` of a tenant's bucket."""

    prefix: str


@dataclass(frozen=True)
class ObjectRemoved:
    """An object under `prefix/` of a tenant's bucket was deleted."""

    prefix: str


@dataclass(frozen=True)
class DomainEvent:
    """A platform event, by its CloudEvents type, for example `dcoder.audit.pending`."""

    type: str


@dataclass(frozen=True)
class Every:
    """A durable schedule: five cron fields, an IANA time zone, and what to do about ticks missed in an outage."""

    cron: str
    per: Literal["platform", "tenant"] = "platform"
    zone: str = "UTC"
    catch_up: Literal["skip", "once", "all"] = "once"


@dataclass(frozen=True)
class Minute:
    """A minute has passed. Who says so shows no token, because a PingSource cannot: the handler gets nothing of the
    message, and may do only what would happen within the minute anyway. See decision 10."""


@dataclass(frozen=True)
class DeadLettered:
    """A broker gave up a function's event. The handler gets the event, signed as ever, and an `Undelivered`."""


Trigger = Route | ObjectCreated | ObjectRemoved | DomainEvent | Every | Minute | DeadLettered


@dataclass(frozen=True)
class Operation:
    """A handler and what starts it."""

    handler: Handler
    trigger: Trigger

    @property
    def name(self) -> str:
        return self.handler.__name__


@dataclass
class Function:
    """A deployable unit. The folder that holds it gives the name: functions/knowledge/search → knowledge-search."""

    scale: Scale = field(default_factory=Scale)
    timeout_s: int = 30
    body_bytes_max: int = 1 * MIB
    dialect: Literal["problem", "openai"] = "problem"
    """How errors look: RFC 9457 problems, or what OpenAI's SDKs parse."""
    image: Literal["functions", "translate"] = "functions"
    """The image that holds what its handlers import (`dcoder image build --variant`)."""
    early: Callable[[], None] | None = None
    """Loads what every call needs and takes long: in a container at its start, else at the first call."""
    operations: list[Operation] = field(default_factory=list, init=False)

    def get(self, path: str, *, permission: str, success: int = 200) -> Callable[[H], H]:
        return self._record(Route("GET", path, permission, success=success))

    def post(
        self,
        path: str,
        *,
        permission: str,
        success: int = 200,
        body_bytes_max: int | None = None,
        shown_once: bool = False,
    ) -> Callable[[H], H]:
        return self._record(
            Route("POST", path, permission, success=success, body_bytes_max=body_bytes_max, shown_once=shown_once)
        )

    def put(
        self, path: str, *, permission: str, success: int = 200, body_bytes_max: int | None = None
    ) -> Callable[[H], H]:
        return self._record(Route("PUT", path, permission, success=success, body_bytes_max=body_bytes_max))

    def patch(self, path: str, *, permission: str, success: int = 200) -> Callable[[H], H]:
        return self._record(Route("PATCH", path, permission, success=success))

    def delete(self, path: str, *, permission: str, success: int = 204) -> Callable[[H], H]:
        return self._record(Route("DELETE", path, permission, success=success))

    def route(
        self, path: str, *, method: str = "POST", permission: str, body_bytes_max: int | None = None
    ) -> Callable[[H], H]:
        """A raw Starlette endpoint `async (call: Call) -> Response`: no FastAPI on the path, everything else alike."""
        return self._record(Route(method, path, permission, raw=True, body_bytes_max=body_bytes_max))

    def on(self, trigger: ObjectCreated | ObjectRemoved | DomainEvent | Minute | DeadLettered) -> Callable[[H], H]:
        return self._record(trigger)

    def every(
        self,
        cron: str,
        *,
        per: Literal["platform", "tenant"] = "platform",
        zone: str = "UTC",
        catch_up: Literal["skip", "once", "all"] = "once",
    ) -> Callable[[H], H]:
        return self._record(Every(cron, per, zone, catch_up))

    def _record(self, trigger: Trigger) -> Callable[[H], H]:
        if isinstance(trigger, Route) and not PERMISSION.fullmatch(trigger.permission):
            raise ValueError(f"permission {trigger.permission!r} of {trigger.path} is not of the form 'documents:read'")

        def record(handler: H) -> H:
            self.operations.append(Operation(handler, trigger))
            return handler

        return record
