"""What the gateway asks to have translated."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any, Literal

from shared.errors import Malformed, NotFound

Json = dict[str, Any]  # Any: JSON
Dialect = Literal["openai", "anthropic"]


@dataclass(frozen=True)
class Asked:
    """One call. `body` is the caller's, with a model's name that is of no meaning here."""

    dialect: Dialect
    provider: str
    model: str
    """What the provider calls it."""
    body: Json = field(repr=False)
    limit: int | None = None
    """The most tokens of an answer, where the caller has not said it and a budget needs one."""

    @property
    def stream(self) -> bool:
        return self.body.get("stream") is True


def parsed(dialect: str, raw: bytes) -> Asked:
    """Raises `NotFound` for an unknown dialect and `Malformed` for what the gateway does not send."""
    if dialect not in ("openai", "anthropic"):
        raise NotFound(f"{dialect[:40]!r} is no dialect that is translated; known: openai, anthropic")
    try:
        told = json.loads(raw)
        return Asked(
            "anthropic" if dialect == "anthropic" else "openai",
            str(told["provider"]),
            str(told["model"]),
            dict(told["body"]),
            None if told.get("limit") is None else int(told["limit"]),
        )
    except (ValueError, TypeError, LookupError, RecursionError):
        raise Malformed("the body is not what the gateway sends: provider, model and body") from None
