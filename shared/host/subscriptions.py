"""Who gets which events, and what an answer means: the pure part of delivery."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from shared.events.subjects import filters
from shared.function.catalog import Deployable
from shared.function.declaration import Route
from shared.function.invoke import LLM_FUNCTION
from shared.settings import Settings

CONCURRENCY_MAX = 16
AGAIN = frozenset({408, 425, 429})


@dataclass(frozen=True)
class Subscription:
    """A function that takes events: where it is, what it listens to, and how much of it at once."""

    function: str
    url: str
    filters: tuple[str, ...]
    concurrency: int = 1
    timeout_s: float = 30.0


@dataclass(frozen=True)
class Retry:
    """Twelve attempts with these delays stretch over about twenty minutes."""

    attempts_max: int = 12
    first_s: float = 1.0
    delay_s_max: float = 300.0

    def delay_s(self, attempt: int, chance: float) -> float:
        """How long to wait after attempt 1, 2, …: doubled each time, ± 50 % by `chance` in [0, 1)."""
        return min(self.delay_s_max, self.first_s * 2.0 ** min(attempt - 1, 30)) * (0.5 + chance)


def verdict(status: int | None) -> Literal["done", "again", "never"]:
    """What an answer means: see the module `delivery`."""
    if status is None or status in AGAIN or status >= 500:
        return "again"
    return "done" if 200 <= status < 300 else "never"


def retry_after_s(header: str, s_max: float) -> float:
    """`Retry-After` in seconds, bounded; 0 for its absence and for dates."""
    return min(float(header), s_max) if header.isascii() and header.isdecimal() else 0.0


def events_at_once(concurrency: int) -> int:
    """Half of what a function takes: eight long documents in work would keep everybody from listing theirs."""
    return max(1, min(concurrency // 2, CONCURRENCY_MAX))


def subscriptions(deployables: Iterable[Deployable], settings: Settings) -> list[Subscription]:
    """One subscription per function that has event triggers or schedules."""
    found = []
    for one in deployables:
        triggers = [
            operation.trigger for operation in one.function.operations if not isinstance(operation.trigger, Route)
        ]
        if wanted := filters(one.name, triggers):
            found.append(
                Subscription(
                    function=one.name,
                    url=f"{settings.llm_url if one.name == LLM_FUNCTION else settings.platform_url}/events/{one.name}",
                    filters=tuple(wanted),
                    concurrency=events_at_once(one.function.scale.concurrency),
                    timeout_s=one.function.timeout_s,
                )
            )
    return found
