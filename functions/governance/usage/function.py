"""Usage: what a tenant's calls of models used and cost, from the ledger."""

from __future__ import annotations

from datetime import date
from typing import Literal

from pydantic import BaseModel

from functions.governance.usage.totals import advance, totals
from shared.errors import Invalid, NotFound
from shared.function import Function, Scale, Tick
from shared.identity import Caller
from shared.postgres import ControlDatabase
from shared.quotas import Meter

usage = Function(scale=Scale(max=5))


class UsageRow(BaseModel):
    """Totals of one group. `cost_micro_usd` leaves out the calls whose cost is not known (their price is not in the
    table, or nobody said what they used); those are counted apart."""

    group: str
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_micro_usd: int
    calls_of_unknown_price: int


class UsageReport(BaseModel):
    """`total` is over all groups, also when `truncated` says that there are more than the 1,000 in `rows`."""

    by: str
    rows: list[UsageRow]
    total: UsageRow
    truncated: bool


@usage.get("/v1/usage", permission="usage:read")
async def report(
    control: ControlDatabase,
    caller: Caller,
    by: Literal["day", "model", "provider", "feature", "key", "tenant"] = "model",
    since: date | None = None,
    until: date | None = None,
    tenant: str = "",
) -> UsageReport:
    """Totals by day (UTC), model, provider, feature, key or tenant.

    A tenant sees its own; an operator sees all, or the one named.
    """
    if caller.role != "operator" and tenant not in ("", caller.tenant):
        raise NotFound(f"there is no tenant {tenant[:40]!r}")
    if since and until and since > until:
        raise Invalid("since is after until")
    of = tenant if caller.role == "operator" else str(caller.tenant)
    found = await totals(control, by=by, tenant=of, since=since, until=until)
    return UsageReport(
        by=by,
        rows=[UsageRow(**row) for row in found.groups],
        total=UsageRow(**found.total),
        truncated=found.truncated,
    )


@usage.every("* * * * *")
async def sweep(tick: Tick, meter: Meter, control: ControlDatabase) -> None:
    """End the calls of processes that died, make the coming months' partitions, and bring the daily sums up."""
    await meter.sweep()
    await advance(control)
