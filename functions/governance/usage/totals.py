"""Exact totals of the ledger, in one statement."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from shared.postgres import ControlDatabase

GROUPS_MAX = 1000
GROUPS: Mapping[str, str] = {
    "day": "(started_at AT TIME ZONE 'UTC')::date::text",
    "model": "model",
    "key": "coalesce(key_id, '')",
    "tenant": "tenant",
}
SUMS = """
count(*) AS calls, coalesce(sum(input_tokens), 0)::bigint AS input_tokens,
coalesce(sum(output_tokens), 0)::bigint AS output_tokens, coalesce(sum(cached_tokens), 0)::bigint AS cached_tokens,
coalesce(sum(cost_micro_usd), 0)::bigint AS cost_micro_usd,
count(*) FILTER (WHERE cost_micro_usd IS NULL) AS calls_of_unknown_price
"""
WITHIN = """
FROM usage_ledger
WHERE ($1 = '' OR tenant = $1)
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
    rows = await control.fetch(
        f"SELECT grouping(grouped) AS whole, grouped, {SUMS} FROM (SELECT {GROUPS[by]} AS grouped, * {WITHIN}) AS calls"
        f" GROUP BY GROUPING SETS ((grouped), ()) ORDER BY 1 DESC, 2 LIMIT {GROUPS_MAX + 2}",
        tenant,
        since,
        until,
    )
    total, *groups = [sums_of(row.items()) for row in rows]
    return Totals(groups[:GROUPS_MAX], total, len(groups) > GROUPS_MAX)


def sums_of(row: Iterable[tuple[str, Any]]) -> Row:
    """A row of the statement as a group's totals."""
    sums = dict(row)
    whole, name = sums.pop("whole"), sums.pop("grouped")
    return {"group": "total" if whole else name, **sums}
