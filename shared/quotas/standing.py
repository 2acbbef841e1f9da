"""How a quota stands, in one word, and what is told of it. Plain values; nothing here is asked of a server."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from shared.quotas.counters import State
from shared.quotas.limits import EVER, Quota

Standing = Literal["below", "reached", "spent"]
"""`reached`: all of a soft limit is used. `spent`: all of a hard one is, or it has turned a call away."""
UPDATED = "dcoder.quota.updated"
TOLD_EVERY_S = 0.25
"""Between two events of one scope, as a key or a member with all its quotas."""
RATE_TOLD_EVERY_S = 5.0
"""Between two events of one rate: at its limit it changes with nearly every call."""
AGAIN_S = 60.0
"""After so long it is looked again how a rate stands that was at its limit, though nobody calls."""
RATES = frozenset({"rolling:60", "rolling:3600", "calendar:minute", "calendar:hour"})


@dataclass(frozen=True)
class Told:
    """What the last event said. `taken` is what counts against the limit, in the metric's unit."""

    version: int
    standing: Standing
    amount: int
    taken: int
    resets_at: datetime | None
    at: datetime


def is_rate(quota: Quota) -> bool:
    return quota.metric == "parallel" or quota.window in RATES


def taken_of(quota: Quota, state: State) -> int:
    """What of a counter counts against the limit: calls at once are only ever reserved."""
    return state.reserved if quota.metric == "parallel" else state.used


def standing_of(quota: Quota, taken: int, *, now: datetime, refused: int = 0, told: Told | None = None) -> Standing:
    """How the quota stands. `refused`: the amount of a call that it has turned away.

    A hard limit that has turned away a call that would not fit even without those in flight is spent, although smaller
    calls may fit: until its window has passed, less of it is used, or it is changed.
    """
    if taken >= quota.amount:
        return "spent" if quota.hard else "reached"
    if quota.hard and 0 < refused <= quota.amount < taken + refused:
        return "spent"
    stays = (
        told is not None
        and told.standing == "spent"
        and told.amount == quota.amount
        and quota.metric != "parallel"
        and taken >= told.taken
        and (told.resets_at is None or told.resets_at > now)
    )
    return "spent" if stays else "below"


def changed(quota: Quota, standing: Standing, told: Told | None) -> bool:
    return told is None or (told.standing, told.amount) != (standing, quota.amount)


def resets_at(state: State, now: datetime) -> datetime | None:
    """When all that is counted has left the window, to the nearest second; None for never."""
    if state.ends_ms < 0:
        return None
    return (now + timedelta(milliseconds=state.ends_ms + 500)).replace(microsecond=0)


def due_at(quota: Quota, standing: Standing, resets: datetime | None, now: datetime) -> datetime | None:
    """When to look again though nobody calls; None when only calls or people change it."""
    if standing == "below" or (quota.window == EVER and quota.metric != "parallel"):
        return None
    if quota.window.startswith("calendar:"):
        return resets
    return now + timedelta(seconds=AGAIN_S)
