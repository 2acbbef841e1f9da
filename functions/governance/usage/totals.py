"""Exact totals of the ledger, in one statement: the daily sums, and the rows that are not in them yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from shared.postgres import ControlDatabase

GROUPS_MAX = 1000
GROUPS: Mapping[str, str] = {
    "day": "day::text",
    "model": "model",
    "provider": "provider",
    "feature": "feature",
    "key": "key_id",
    "tenant": "tenant",
}
COUNTS = ("calls", "input_tokens", "output_tokens", "cached_tokens", "cost_micro_usd", "calls_of_unknown_price")
SUMS = ", ".join(f"coalesce(sum({count}), 0)::bigint AS {count}" for count in COUNTS)
MARK = """
WITH mark AS MATERIALIZED (
    SELECT CASE WHEN system = (SELECT system_identifier FROM pg_control_system()) THEN upto ELSE '0' END AS upto
    FROM usage_daily_mark
)"""
"""Where the daily sums end. Of another server's sums none are taken: see `usage_daily_restart`."""
SUMMED = f"""
SELECT {{grouped}} AS grouped, {", ".join(COUNTS)}
FROM usage_daily
WHERE ($1 = '' OR tenant = $1) AND ($2::date IS NULL OR day >= $2) AND ($3::date IS NULL OR day <= $3)
  AND (SELECT upto FROM mark) > '0'
"""
TAIL = """
SELECT {grouped} AS grouped, 1, input_tokens, output_tokens, cached_tokens, coalesce(cost_micro_usd, 0),
       (cost_micro_usd IS NULL)::int
FROM (SELECT *, (started_at AT TIME ZONE 'UTC')::date AS day FROM usage_ledger) AS ledger
WHERE entered >= (SELECT upto FROM mark)
  AND ($1 = '' OR tenant = $1)
  AND ($2::date IS NULL OR started_at >= $2::timestamp AT TIME ZONE 'UTC')
  AND ($3::date IS NULL OR started_at < ($3 + 1)::timestamp AT TIME ZONE 'UTC')
"""

Row = dict[str, Any]  # Any: a database row's values


@dataclass(frozen=True)
class Totals:
    """`groups` by name, at most 1,000; `total` over all of them, those left out included."""

    groups: list[Row]
    total: Row
    truncated: bool


async def totals(
    control: ControlDatabase, *, by: str, tenant: str = "", since: date | None = None, until: date | None = None
) -> Totals:
    """`tenant` empty means all tenants. `since` and `until` are days in UTC, both included."""
    rows = await control.fetch(statement(by), tenant, since, until)
    total, *groups = [sums_of(row.items()) for row in rows]
    return Totals(groups[:GROUPS_MAX], total, len(groups) > GROUPS_MAX)


async def advance(control: ControlDatabase) -> None:
    """Bring the daily sums up to the oldest transaction that is still open. What is shown does not change by it."""
    await control.execute("SELECT usage_daily_advance()")


def statement(by: str) -> str:
    """The totals by group, that of all groups first."""
    tail = TAIL.format(grouped="coalesce(key_id, '')" if by == "key" else GROUPS[by])
    calls = f"{SUMMED.format(grouped=GROUPS[by])} UNION ALL {tail}"
    return (
        f"{MARK} SELECT grouping(grouped) AS whole, grouped, {SUMS} FROM ({calls}) AS calls"
        f" GROUP BY GROUPING SETS ((grouped), ()) ORDER BY 1 DESC, 2 LIMIT {GROUPS_MAX + 2}"
    )


def sums_of(row: Iterable[tuple[str, Any]]) -> Row:
    """A row of the statement as a group's totals."""
    sums = dict(row)
    whole, name = sums.pop("whole"), sums.pop("grouped")
    return {"group": "total" if whole else name, **sums}
