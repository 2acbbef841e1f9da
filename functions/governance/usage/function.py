"""Usage: what a tenant's calls of models used and cost, from the ledger."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel

from shared.errors import Invalid, NotFound
from shared.function import Function, Scale, Tick
from shared.identity import Caller
from shared.postgres import ControlDatabase
from shared.usage import Ledger

usage = Function(scale=Scale(max=5))

GROUPS = {"day": "started_at::date::text", "model": "model", "key": "coalesce(key_id, '')", "tenant": "tenant"}


class UsageRow(BaseModel):
    """Totals of one group. `cost_micro_usd` leaves out the calls whose price is not known; those are counted apart."""

    group: str
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_micro_usd: int
    calls_of_unknown_price: int


class UsageReport(BaseModel):
    by: str
    rows: list[UsageRow]


@usage.get("/v1/usage", permission="usage:read")
async def report(
    control: ControlDatabase,
    caller: Caller,
    by: Literal["day", "model", "key", "tenant"] = "model",
    since: date | None = None,
    until: date | None = None,
    tenant: str = "",
) -> UsageReport:
    """Totals by day, model, key or tenant. A tenant sees its own; an operator sees all, or the one named."""
    if caller.role != "operator" and tenant not in ("", caller.tenant):
        raise NotFound(f"there is no tenant {tenant[:40]!r}")
    if since and until and since > until:
        raise Invalid("since is after until")
    of = tenant if caller.role == "operator" else caller.tenant
    rows = await control.fetch(
        f"SELECT {GROUPS[by]} AS group, count(*) AS calls, sum(input_tokens)::bigint AS input_tokens,"
        " sum(output_tokens)::bigint AS output_tokens, sum(cached_tokens)::bigint AS cached_tokens,"
        " coalesce(sum(cost_micro_usd), 0)::bigint AS cost_micro_usd,"
        " count(*) FILTER (WHERE NOT price_known) AS calls_of_unknown_price"
        " FROM usage_ledger WHERE ($1 = '' OR tenant = $1) AND ($2::date IS NULL OR started_at >= $2)"
        " AND ($3::date IS NULL OR started_at < $3 + 1) GROUP BY 1 ORDER BY 1 LIMIT 1000",
        of,
        since,
        until,
    )
    return UsageReport(by=by, rows=[UsageRow(**row) for row in rows])


@usage.every("* * * * *")
async def sweep(tick: Tick, ledger: Ledger) -> None:
    """Close the calls of processes that died, and make the coming months' partitions."""
    await ledger.sweep()
