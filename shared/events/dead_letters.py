"""Dead letters: events that a function will never handle, kept in the control database until somebody decides."""

from __future__ import annotations

import base64
import binascii
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from shared.errors import Malformed
from shared.events.cloudevent import CloudEvent
from shared.identity import TOKEN_EXTENSION

if TYPE_CHECKING:
    from shared.postgres import ControlDatabase

REASON_CHARS_MAX = 2000
PATH = "/dead-letters/"
"""Followed by the function's name: where a broker sends what it gave up."""
BROKER_ATTEMPTS_MAX = 12
"""As on the local host: the first, and eleven retries."""
FUNCTION = re.compile(r"[a-z][a-z0-9-]{0,62}")
ADDED = "knative"
"""How the extensions begin that a Broker adds: the error, the time of arrival, the hops left."""
AGAIN = frozenset({404, 408, 409, 429})
BURY = """
INSERT INTO dead_letters (tenant, function, event_id, event, reason, attempts, last_status)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (function, event_id) DO UPDATE SET
    reason = excluded.reason, attempts = excluded.attempts, last_status = excluded.last_status,
    event = excluded.event, died_at = clock_timestamp(), redriven_at = NULL
"""


@dataclass(frozen=True)
class Undelivered:
    """What a broker says of an event that it gave up."""

    function: str
    status: int | None
    """The last answer's; None when there was none, or the broker does not tell."""
    said: str

    @property
    def reason(self) -> str:
        answer = f"answered {self.status}" if self.status else "did not take it"
        return f"{self.function} {answer}{f': {self.said}' if self.said else ''}"

    @property
    def attempts(self) -> int:
        """How often a broker tries: it does not count for us."""
        once = self.status is not None and 400 <= self.status < 500 and self.status not in AGAIN
        return 1 if once else BROKER_ATTEMPTS_MAX


def undelivered(path: str, event: CloudEvent) -> Undelivered:
    """What the path and Knative's error extensions tell. Raises `Malformed` for a path that names no function."""
    function = path.removeprefix(PATH)
    if not FUNCTION.fullmatch(function):
        raise Malformed(f"{path[:100]!r} does not end with the name of a function")
    code = event.extensions.get("knativeerrorcode", "")
    status = int(code) if re.fullmatch(r"[1-5][0-9]{2}", code) else None
    return Undelivered(function, status, error_text(event.extensions.get("knativeerrordata", "")))


def error_text(data: str) -> str:
    """The last answer's body: Knative sends it in base64 or, from some parts, as it was."""
    try:
        return base64.b64decode(data, validate=True).decode().strip()
    except (binascii.Error, ValueError):
        return data


async def bury(
    control: ControlDatabase,
    event: CloudEvent,
    *,
    function: str,
    reason: str,
    attempts: int,
    last_status: int | None = None,
) -> None:
    """Keep the event with the reason why `function` gave it up. Once per function and event; safe to repeat."""
    document = {
        name: value for name, value in event.to_json().items() if name != TOKEN_EXTENSION and not name.startswith(ADDED)
    }
    text = reason.replace("\x00", "")[:REASON_CHARS_MAX]
    await control.execute(BURY, str(event.tenant), function, event.id, document, text, attempts, last_status)
