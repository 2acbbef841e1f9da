"""A tenant's quotas as stored, read at most a few times a second; and what the ledger says of each."""

from __future__ import annotations

import json

from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.quotas.counters import OpenRow, Sums
from shared.quotas.limits import Limits, Quota, Scope
from shared.remembering import Remembered
from shared.usage.prices import Charge

REMEMBERED_S = 0.4
SETTLING_S = 0.5
"""How old a quota has to be to refuse something. It exceeds `REMEMBERED_S`: until then a process that has not heard of
it may settle a call without it, and such a call could be missing in the counter. Both together are below a second."""
REMEMBERED_MAX = 2000
QUOTAS_MAX = 1000

QUOTAS = """
SELECT id, scope, name, metric, span, amount, hard, at_limit,
       created_at < clock_timestamp() - make_interval(secs => $2) AS enforced
  FROM quotas WHERE tenant = $1 ORDER BY id LIMIT $3
"""
SUMS = """
SELECT pg_current_snapshot()::text AS snapshot,
       (SELECT coalesce(json_agg(json_build_array(bucket, used)), '[]')
          FROM (SELECT {bucket} AS bucket, {amount} AS used FROM usage_ledger
                 WHERE tenant = $1 AND started_at >= {since} AND {scope} AND model NOT LIKE 'doc-chat/%'
                 GROUP BY 1) AS sums) AS used,
       (SELECT coalesce(json_agg(json_build_array(
                   id, (extract(epoch FROM started_at) * 1000000)::bigint, reserved_micro_usd, reserved_tokens)), '[]')
          FROM usage_open WHERE tenant = $1 AND {scope} AND model NOT LIKE 'doc-chat/%') AS open
"""
AMOUNTS = {
    "micro_usd": "coalesce(sum(coalesce(charged_micro_usd, cost_micro_usd)), 0)::bigint",
    "tokens": "sum(coalesce(charged_tokens, input_tokens + output_tokens))::bigint",
    "requests": "count(*)",
    "parallel": "0",
}
SCOPES: dict[Scope, str] = {
    "tenant": "$2 = ''",
    "key": "(key_id = $2 OR 'key:' || $2 = ANY(tags))",
    "member": "'member:' || $2 = ANY(tags)",
    "group": "'group:' || $2 = ANY(tags)",
    "tag": "$2 = ANY(tags)",
    "model": "model = $2",
}
CLOCKS_APART_S = 60
NONE = Limits()


class StoredQuotas:
    """Every tenant's quotas, each remembered for less than half a second."""

    def __init__(self, control: ControlDatabase) -> None:
        self._control = control
        self._remembered = Remembered[TenantId, Limits](fresh_s=REMEMBERED_S, kept_max=REMEMBERED_MAX)

    async def of(self, tenant: TenantId) -> Limits:
        """The tenant's quotas. Raises `Problem` when they cannot be read."""
        return await self._remembered.get(tenant, lambda: self._read(tenant))

    def last_known(self, tenant: TenantId) -> Limits:
        """As they were when last read; for who cannot wait."""
        return self._remembered.last_known(tenant) or NONE

    async def _read(self, tenant: TenantId) -> Limits:
        rows = await self._control.fetch(QUOTAS, tenant, SETTLING_S, QUOTAS_MAX)
        quotas = (
            Quota(
                row["id"], row["scope"], row["name"], row["metric"], row["span"], row["amount"], row["hard"],
                row["enforced"], row["at_limit"],
            )
            for row in rows
        )  # fmt: skip
        return Limits(tuple(quotas))


def bucket_and_since(window: str) -> tuple[str, str]:
    """SQL for the second in which a row's bucket begins, and for the earliest row that can count."""
    kind, _, unit = window.partition(":")
    if kind == "calendar":
        start = "extract(epoch FROM date_trunc('{unit}', {at} AT TIME ZONE 'UTC'))::bigint".format
        since = f"to_timestamp({start(unit=unit, at=f'(now() - interval $${CLOCKS_APART_S} s$$)')})"
        return start(unit=unit, at="started_at"), since
    if kind == "rolling":
        length = int(unit) // 60
        since = f"now() - interval '{61 * length + CLOCKS_APART_S} s'"
        return f"(floor(extract(epoch FROM started_at) / {length}) * {length})::bigint", since
    return "0", "'-infinity'"


async def sums_of(control: ControlDatabase, tenant: TenantId, quota: Quota) -> Sums:
    """What the ledger says of a quota's counter, in one statement and so in one snapshot."""
    bucket, since = bucket_and_since(quota.window)
    sql = SUMS.format(bucket=bucket, since=since, amount=AMOUNTS[quota.metric], scope=SCOPES[quota.scope])
    row = await control.fetchrow(sql, tenant, quota.name)
    assert row is not None
    opened = [
        OpenRow(str(call).replace("-", ""), started_us, Charge(micro_usd, tokens))
        for call, started_us, micro_usd, tokens in json.loads(row["open"])
    ]
    used = [(second, amount) for second, amount in json.loads(row["used"])]
    return Sums(row["snapshot"], used, opened)
