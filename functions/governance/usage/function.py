"""Usage: what a tenant's calls of models used and cost, from the ledger."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import Response

from functions.governance.usage.sheet import sheet
from functions.governance.usage.totals import GROUPS_MAX, advance, names_of_keys, totals
from shared.errors import Invalid, NotFound
from shared.function import Function, Scale, Tick
from shared.identity import Caller
from shared.postgres import ControlDatabase
from shared.quotas import Meter

usage = Function(scale=Scale(max=5))


CSV = "text/csv"
CSV_GROUPS_MAX = 100_000


class UsageRow(BaseModel):
    """Totals of one group. `cost_micro_usd` leaves out the calls whose cost is not known (their price is not known, or
    nobody said what they used); those are counted apart. `saved_micro_usd` is what answers had cost that were given
    again instead of asking a provider."""

    group: str
    name: str = ""
    """What people call a key."""
    calls: int
    input_tokens: int
    output_tokens: int
    cached_tokens: int
    cost_micro_usd: int
    calls_of_unknown_price: int
    saved_micro_usd: int


class UsageReport(BaseModel):
    """`total` is over all groups, also when `truncated` says that there are more than the 1,000 in `rows`. A call with
    two tags counts for both, and once in `total`."""

    by: str
    rows: list[UsageRow]
    total: UsageRow
    truncated: bool


@usage.get("/v1/usage", permission="usage:read")
async def report(
    request: Request,
    control: ControlDatabase,
    caller: Caller,
    by: Literal["day", "model", "provider", "feature", "key", "member", "group", "tag", "tenant"] = "model",
    since: date | None = None,
    until: date | None = None,
    tenant: str = "",
    format: Literal["json", "csv", ""] = "",
) -> UsageReport | Response:
    """Totals by day (UTC), model, provider, feature, key, member, group, tag or tenant.

    A tenant sees its own; an operator sees all, or the one named. With `format=csv`, or `Accept: text/csv`, as
    comma-separated values of up to 100,000 groups and without the total.
    """
    as_csv = format == "csv" or (not format and CSV in request.headers.get("accept", ""))
    asked = Asked(by, since, until, tenant)
    found = await reported(control, caller, asked, groups_max=CSV_GROUPS_MAX if as_csv else GROUPS_MAX)
    return as_sheet(found) if as_csv else found


@dataclass(frozen=True)
class Asked:
    """Of whom, which days, and by what."""

    by: str
    since: date | None = None
    until: date | None = None
    tenant: str = ""


async def reported(
    control: ControlDatabase, caller: Caller, asked: Asked, *, groups_max: int = GROUPS_MAX
) -> UsageReport:
    """Raises `NotFound` for another's tenant, and `Invalid` for days that are none."""
    if caller.role != "operator" and asked.tenant not in ("", caller.tenant):
        raise NotFound(f"there is no tenant {asked.tenant[:40]!r}")
    if asked.since and asked.until and asked.since > asked.until:
        raise Invalid("since is after until")
    of = asked.tenant if caller.role == "operator" else str(caller.tenant)
    found = await totals(control, by=asked.by, tenant=of, since=asked.since, until=asked.until, groups_max=groups_max)
    keys = [row["group"] for row in found.groups] if asked.by == "key" else []
    names = await names_of_keys(control, keys, of) if keys else {}
    rows = [UsageRow(**row, name=names.get(row["group"], "")) for row in found.groups]
    return UsageReport(by=asked.by, rows=rows, total=UsageRow(**found.total), truncated=found.truncated)


def as_sheet(found: UsageReport) -> Response:
    """Raises `Invalid` instead of leaving out what nobody would miss."""
    if found.truncated:
        raise Invalid(f"there are more than {len(found.rows)} groups; ask for fewer days")
    unnamed = () if found.by == "key" else ("name",)
    head = [found.by, *(name for name in UsageRow.model_fields if name not in ("group", *unnamed))]
    text = sheet(head, [row.model_dump() | {found.by: row.group} for row in found.rows])
    disposition = {"content-disposition": f'attachment; filename="usage-by-{found.by}.csv"'}
    return Response(text, media_type=f"{CSV}; header=present", headers=disposition)


@usage.every("* * * * *")
async def sweep(tick: Tick, meter: Meter, control: ControlDatabase) -> None:
    """End the calls of processes that died, make the coming months' partitions, and bring the daily sums up."""
    await meter.sweep()
    await advance(control)
