"""Time as something a function asks for, so that a test can pin it."""

from __future__ import annotations

import time
from datetime import UTC, datetime


class Clock:
    """The system's clock. Tests hand in a subclass that stands still or jumps."""

    def now(self) -> datetime:
        """The current time, aware, UTC."""
        return datetime.now(UTC)

    def monotonic_s(self) -> float:
        return time.monotonic()
