"""Reading and re-driving dead letters. A foreign or unknown one is `NotFound`."""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID, uuid4

from pydantic import BaseModel

from shared.errors import Invalid, NotFound
from shared.events.cloudevent import CloudEvent
from shared.events.subjects import REDRIVE_FUNCTION, REDRIVE_ID
from shared.ids import TenantId

if TYPE_CHECKING:
    from shared.postgres import ControlDatabase, ControlTransaction

PAGE_MAX = 200
PAGE = """
SELECT * FROM dead_letters
WHERE ($1 = 'platform' OR tenant = $1)
  AND ($2::uuid IS NULL OR (died_at, id) < (SELECT died_at, id FROM dead_letters WHERE id = $2))
ORDER BY died_at DESC, id DESC LIMIT $3
"""
READ = "SELECT * FROM dead_letters WHERE id = $2 AND ($1 = 'platform' OR tenant = $1)"
REDRIVE = """
UPDATE dead_letters SET redriven_at = clock_timestamp(), redrives = redrives + 1
WHERE id = $1 AND (redriven_at IS NULL OR redriven_at < clock_timestamp() - make_interval(secs => $2)) RETURNING *
"""
UNDER_WAY_S = 3600
"""A delivery's attempts end well within this: then the event is handled, or the letter is unmarked again."""


class DeadLetter(BaseModel):
    """An event that `function` gave up, and why. `redriven_at` is set from a re-drive until it dies again."""

    id: UUID
    tenant: str
    function: str
    event_id: str
    event: dict[str, Any]  # Any: the event as it was
    reason: str
    attempts: int
    last_status: int | None
    died_at: datetime
    redriven_at: datetime | None
    redrives: int


class DeadLetters(BaseModel):
    dead_letters: list[DeadLetter]
    next: UUID | None
    """Hand it in as `before` for the following page."""


async def page_of(control: ControlDatabase, tenant: TenantId, *, limit: int, before: UUID | None) -> DeadLetters:
    if not 1 <= limit <= PAGE_MAX:
        raise Invalid(f"limit is 1 to {PAGE_MAX}, not {limit}")
    letters = [letter_of(row) for row in await control.fetch(PAGE, str(tenant), before, limit)]
    return DeadLetters(dead_letters=letters, next=letters[-1].id if len(letters) == limit else None)


async def read_one(control: ControlDatabase | ControlTransaction, tenant: TenantId, letter_id: UUID) -> DeadLetter:
    row = await control.fetchrow(READ, str(tenant), letter_id)
    if row is None:
        raise NotFound(f"there is no dead letter {str(letter_id)!r}")
    return letter_of(row)


async def redrive_one(transaction: ControlTransaction, tenant: TenantId, letter_id: UUID) -> DeadLetter:
    """Mark the letter and emit its event, in one transaction. A re-drive that is under way is not started again."""
    letter = await read_one(transaction, tenant, letter_id)
    marked = await transaction.fetchrow(REDRIVE, letter.id, UNDER_WAY_S)
    if marked is None:
        return await read_one(transaction, tenant, letter_id)
    await transaction.emit(redriven(letter, uuid4()))
    return letter_of(marked)


def redriven(letter: DeadLetter, redrive_id: UUID) -> CloudEvent:
    """The letter's event, addressed to its function, under a message id that the stream has not seen."""
    again = {REDRIVE_FUNCTION: letter.function, REDRIVE_ID: str(redrive_id)}
    return CloudEvent.from_json({**letter.event, **again})


def letter_of(row: object) -> DeadLetter:
    return DeadLetter.model_validate(dict(cast("Any", row)))  # Any: an asyncpg record
