"""Exact totals of the ledger, in one statement: the daily sums, and the rows that are not in them yet."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date
from typing import Any

from shared.postgres import ControlDatabase

GROUPS_MAX = 1000
COLUMNS: Mapping[str, str] = {
    "day": "day",
    "model": "model",
    "provider": "provider",
    "feature": "feature",
    "key": "key_id",
    "tenant": "tenant",
}
"""Groups of which each call has one."""
OF_TAGS: Mapping[str, str] = {
    "tag": "tag NOT LIKE '%:%'",
    "member": "tag LIKE 'member:%'",
    "group": "tag LIKE 'group:%'",
}
"""Groups of which a call may have several, and counts in each: its tags of one kind. What has a colon is none of those
that people give."""
GROUPS = (*COLUMNS, *OF_TAGS)
COUNTS = (
    "calls", "input_tokens", "output_tokens", "cached_tokens", "cost_micro_usd", "calls_of_unknown_price",
    "saved_micro_usd",
)  # fmt: skip
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
       (cost_micro_usd IS NULL)::int, coalesce(saved_micro_usd, 0)
FROM (SELECT *, (started_at AT TIME ZONE 'UTC')::date AS day FROM usage_ledger) AS ledger
WHERE entered >= (SELECT upto FROM mark)
  AND ($1 = '' OR tenant = $1)
  AND ($2::date IS NULL OR started_at >= $2::timestamp AT TIME ZONE 'UTC')
  AND ($3::date IS NULL OR started_at < ($3 + 1)::timestamp AT TIME ZONE 'UTC')
"""
NULLABLE: Mapping[str, str] = {"key_id": "coalesce(key_id, '')", "tags": "coalesce(tags, '{}')"}
"""Of the ledger, what is empty in the daily sums instead."""
LABELS = "SELECT id, name FROM virtual_keys WHERE id = ANY($1) AND ($2 = '' OR tenant = $2)"

Row = dict[str, Any]  # Any: a database row's values


@dataclass(frozen=True)
class Totals:
    """`groups` by name, at most as many as asked for; `total` over all of them, those left out included."""

    groups: list[Row]
    total: Row
    truncated: bool


async def totals(
    control: ControlDatabase,
    *,
    by: str,
    tenant: str = "",
    since: date | None = None,
    until: date | None = None,
    groups_max: int = GROUPS_MAX,
) -> Totals:
    """`tenant` empty means all tenants. `since` and `until` are days in UTC, both included."""
    rows = await control.fetch(statement(by, groups_max), tenant, since, until)
    total, *groups = [sums_of(row.items()) for row in rows]
    return Totals(groups[:groups_max], total, len(groups) > groups_max)


async def names_of_keys(control: ControlDatabase, keys: list[str], tenant: str) -> dict[str, str]:
    """What people called these keys, by id. A revoked key is still known; one of a tenant that is gone is not."""
    return {row["id"]: row["name"] for row in await control.fetch(LABELS, keys, tenant)}


async def advance(control: ControlDatabase) -> None:
    """Bring the daily sums up to the oldest transaction that is still open. What is shown does not change by it."""
    await control.execute("SELECT usage_daily_advance()")


def statement(by: str, groups_max: int = GROUPS_MAX) -> str:
    """The totals by group, that of all groups first. Rows are added up once, by what they have in common; the rest is
    made of those sums. Calls with the same tags count for each of them."""
    tagged = by in OF_TAGS
    grouped = "tags" if tagged else COLUMNS[by]
    calls = f"{SUMMED.format(grouped=grouped)} UNION ALL {TAIL.format(grouped=NULLABLE.get(grouped, grouped))}"
    name = "coalesce(regexp_replace(tag, '^(member|group):', ''), '')" if tagged else "grouped::text"
    source = f"summed LEFT JOIN LATERAL unnest(grouped) AS tag ON {OF_TAGS[by]}" if tagged else "summed"
    return (
        f"{MARK}, summed AS MATERIALIZED (SELECT grouped, {SUMS} FROM ({calls}) AS calls GROUP BY grouped)"
        f" SELECT 1 AS whole, NULL AS grouped, {SUMS} FROM summed"
        f" UNION ALL SELECT 0, {name}, {SUMS} FROM {source} GROUP BY 2 ORDER BY 1 DESC, 2 LIMIT {groups_max + 2}"
    )


def sums_of(row: Iterable[tuple[str, Any]]) -> Row:
    """A row of the statement as a group's totals."""
    sums = dict(row)
    whole, name = sums.pop("whole"), sums.pop("grouped")
    return {"group": "total" if whole else name, **sums}
