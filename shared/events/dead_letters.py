"""Dead letters: events that a function will never handle, kept in the control database until somebody decides."""

from __future__ import annotations

from typing import TYPE_CHECKING

from shared.events.cloudevent import CloudEvent
from shared.identity import TOKEN_EXTENSION

if TYPE_CHECKING:
    from shared.postgres import ControlDatabase

REASON_CHARS_MAX = 2000
BURY = """
INSERT INTO dead_letters (tenant, function, event_id, event, reason, attempts, last_status)
VALUES ($1, $2, $3, $4, $5, $6, $7)
ON CONFLICT (function, event_id) DO UPDATE SET
    reason = excluded.reason, attempts = excluded.attempts, last_status = excluded.last_status,
    event = excluded.event, died_at = clock_timestamp(), redriven_at = NULL
"""


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
    document = {name: value for name, value in event.to_json().items() if name != TOKEN_EXTENSION}
    text = reason.replace("\x00", "")[:REASON_CHARS_MAX]
    await control.execute(BURY, str(event.tenant), function, event.id, document, text, attempts, last_status)
