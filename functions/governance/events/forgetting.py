"""What need not be remembered for ever so that everything happens once."""

from __future__ import annotations

from shared.postgres import ControlTransaction, TenantTransaction

ANSWERS_KEPT_H = 48
"""How long a call repeated under its `Idempotency-Key` gets the first answer: clients retry within hours."""
EVENTS_KEPT_DAYS = 30
"""The stream keeps an event for a week, a dead letter can be re-driven later."""
ROWS_MAX = 20_000
FORGET_ANSWERS = """
DELETE FROM idempotency_keys WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM idempotency_keys WHERE created_at < now() - make_interval(hours => $1) LIMIT $2))
"""
FORGET_EVENTS = """
DELETE FROM processed_events WHERE ctid = ANY(ARRAY(
    SELECT ctid FROM processed_events WHERE at < now() - make_interval(days => $1) LIMIT $2))
"""


async def forget_past(transaction: TenantTransaction | ControlTransaction) -> None:
    """Delete what is older than its time, a bounded number of rows; the next hour goes on."""
    await transaction.execute(FORGET_ANSWERS, ANSWERS_KEPT_H, ROWS_MAX)
    await transaction.execute(FORGET_EVENTS, EVENTS_KEPT_DAYS, ROWS_MAX)
