"""What the gateway asks to have translated."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from shared.errors import Malformed
from shared.llm.translation import ROUTES, Route

Json = dict[str, Any]  # Any: JSON


@dataclass(frozen=True)
class Asked:
    """One call. `body` is the caller's, with a model's name that is of no meaning here."""

    route: Route
    provider: str
    model: str
    """What the provider calls it."""
    body: Json = field(repr=False)
    most: int | None = None
    """How many tokens are reserved for an answer whose length the caller has not limited."""
    bounded: bool = False
    """Whether the answer must not be longer than that."""

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True


def parsed(raw: bytes) -> Asked:
    """Raises `Malformed` for what the gateway does not send."""
    try:
        told = json.loads(raw)
        most = told.get("most")
        return Asked(
            ROUTES[told["route"]],
            str(told["provider"]),
            str(told["model"]),
            dict(told["body"]),
            None if most is None else int(most),
            told.get("bounded") is True,
        )
    except (ValueError, TypeError, LookupError, AttributeError, RecursionError):
        raise Malformed("the body is not what the gateway sends: route, provider, model and body") from None
