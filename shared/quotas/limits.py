"""What a tenant may use: limits by scope, metric and window. Plain values; nothing here is asked of a server."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

Scope = Literal["tenant", "key", "member", "group", "tag", "model"]
AtLimit = Literal["finish", "stop"]
"""What becomes of a stream when a hard limit on money or tokens has no more room: it was reserved whole and finishes,
or it is reserved as it goes and stops between two events."""
Metric = Literal["micro_usd", "tokens", "requests", "parallel"]

CALENDAR = ("minute", "hour", "day", "week", "month")
ROLLING_S = {"minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400, "month": 30 * 86_400}
EVER = "ever"
WRITTEN = "doc-chat/"
MARKED: frozenset[Scope] = frozenset({"key", "member", "group"})
"""Scopes whose names are marks among a key's tags: the first key it was rotated from, its member, its groups. Nobody
can write one as a tag, for tags have no colon; every row of the ledger has them, so a limit counts by them."""
FOUND_MAX = 1000
AMOUNT_MAX = 2**50
"""About 1.1 billion USD in micro-USD. Far below 2^53, up to which the script's numbers are exact, sums included."""


@dataclass(frozen=True)
class Quota:
    """One limit as stored. `window` is `calendar:<unit>` (UTC, weeks from Monday), `rolling:<seconds>` or `ever`.

    A soft one (`hard` is false) refuses nothing. A young one (`enforced` is false) refuses nothing yet: every process
    has to know it first, so that none settles a call without it.
    """

    id: int
    scope: Scope
    name: str
    metric: Metric
    window: str
    amount: int
    hard: bool
    enforced: bool = True
    at_limit: AtLimit = "finish"

    @property
    def counter(self) -> str:
        return f"c{self.id}"

    @cached_property
    def refuses(self) -> bool:
        return self.hard and self.enforced

    @cached_property
    def as_asked(self) -> tuple[str, str]:
        """What the counters' script is told of it, before and after the amount."""
        return f"c{self.id} {self.amount} ", " 1" if self.refuses else " 0"

    @cached_property
    def mark(self) -> str:
        """What a key that is concerned has among its tags."""
        return mark_of(self.scope, self.name) if self.scope in MARKED else self.name

    def concerns(self, key_id: str | None, tags: Collection[str], model: str) -> bool:
        match self.scope:
            case "tenant":
                return True
            case "key":
                return self.name == key_id or self.mark in tags
            case "model":
                return self.name == model
        return self.mark in tags

    def said(self) -> str:
        """The limit in words, for the caller who met it."""
        whose = {"tenant": "the tenant", "key": "this key"}.get(self.scope, f"the {self.scope} {self.name!r}")
        amount = f"{self.amount / 1_000_000:.6f} USD" if self.metric == "micro_usd" else f"{self.amount} {self.metric}"
        if self.metric == "parallel":
            return f"{whose} may make {self.amount} calls at once"
        return f"{whose} may use {amount} {said_window(self.window)}"


@dataclass(frozen=True)
class Limits:
    """All quotas of a tenant as they were once read."""

    quotas: tuple[Quota, ...] = ()
    _found: dict[tuple[str | None, Sequence[str], str], tuple[Quota, ...]] = field(default_factory=dict, repr=False)

    def concerning(self, key_id: str | None, tags: Sequence[str], model: str) -> tuple[Quota, ...]:
        """As the function of that name, and remembered: calls are alike. `tags` are in order."""
        alike = key_id, tags, model
        found = self._found.get(alike)
        if found is None:
            found = concerning(self.quotas, key_id=key_id, tags=tags, model=model)
            if len(self._found) < FOUND_MAX:
                self._found[alike] = found
        return found


def mark_of(scope: Scope, name: str) -> str:
    """The mark of a scope's name among a key's tags."""
    return f"{scope}:{name}"


def lineage_tag(key_id: str) -> str:
    """The mark of the keys that are rotated from this one: what limits it limits them."""
    return mark_of("key", key_id)


def named_by(tags: Iterable[str], scope: Scope) -> list[str]:
    """The names that a key's marks have for a scope."""
    return [tag.removeprefix(f"{scope}:") for tag in tags if tag.startswith(f"{scope}:")]


def said_window(window: str) -> str:
    kind, _, unit = window.partition(":")
    if kind == EVER:
        return "in all"
    if kind == "calendar":
        return f"a {unit} (UTC)"
    return f"in any {unit} seconds"


def window_of(unit: str, *, rolling: bool) -> str:
    """The window's stored form. `ever` neither begins nor ends."""
    if unit == EVER:
        return EVER
    return f"rolling:{ROLLING_S[unit]}" if rolling else f"calendar:{unit}"


def concerning(quotas: Iterable[Quota], *, key_id: str | None, tags: Collection[str], model: str) -> tuple[Quota, ...]:
    """Those that a call with this key to this model counts against. `doc-chat/<model>` is counted where it is made: as
    the call of the model that writes."""
    if model.startswith(WRITTEN):
        return ()
    return tuple(quota for quota in quotas if quota.concerns(key_id, tags, model))
