"""How long totals of 30 days over 5,000,000 calls take: python -m tests.load.usage [rows]

20 tenants with 8 keys each, every key with three tags, ask 12 models for 3 features. The daily sums are up to date but
for a minute of calls at 100/s. Each question is asked seven times, the median is printed; beside it, the same total
from the rows alone, which must be equal. Bar: 200 ms.
"""

from __future__ import annotations

import asyncio
import os
import statistics
import sys
import time

from functions.governance.usage.totals import COUNTS, GROUPS, advance, totals
from shared.postgres import ControlDatabase
from tests.fixtures.control import control_database
from tests.fixtures.servers import postgres_server

ROWS = 5_000_000
AT_ONCE = 250_000
SINCE_LAST_MINUTE = 6_000
TIMES = 7
BAR_MS = 200
MONTH = """
CREATE TABLE usage_ledger_of_benchmark PARTITION OF usage_ledger
FOR VALUES FROM ('2026-09-01 00:00+00') TO ('2026-10-01 00:00+00')
"""
FILL = """
INSERT INTO usage_ledger (id, started_at, tenant, key_id, request_id, model, provider, feature, outcome,
                          input_tokens, output_tokens, cached_tokens, usage_known, cost_micro_usd, price_known,
                          tags, saved_micro_usd)
SELECT gen_random_uuid(), timestamptz '2026-09-01 00:00+00' + random() * interval '30 days',
       'tenant-' || n % 20, 'key-' || n % 160, 'request-' || n, 'model-' || n / 160 % 12, 'provider',
       'feature-' || n / 1920 % 3, 'done', n % 5000, n % 700, n % 900, true,
       CASE WHEN n % 50 > 0 THEN n % 30000 END, n % 50 > 0,
       ARRAY['member:m' || n % 40, 'team-' || n % 16, 'tag-' || n % 5], CASE WHEN n % 10 = 0 THEN n % 30000 END
FROM generate_series($1::bigint, $2::bigint) n
"""
ROWS_ALONE = """
SELECT count(*) AS calls, sum(input_tokens)::bigint AS input_tokens, sum(output_tokens)::bigint AS output_tokens,
       sum(cached_tokens)::bigint AS cached_tokens, sum(cost_micro_usd)::bigint AS cost_micro_usd,
       count(*) FILTER (WHERE cost_micro_usd IS NULL) AS calls_of_unknown_price,
       sum(saved_micro_usd)::bigint AS saved_micro_usd
FROM usage_ledger
"""


async def fill(control: ControlDatabase, rows: int) -> None:
    await control.execute(MONTH)
    for first in range(0, rows - SINCE_LAST_MINUTE, AT_ONCE):
        await control.execute(FILL, first, min(first + AT_ONCE, rows - SINCE_LAST_MINUTE) - 1)
        await advance(control)  # as each minute does; here a larger step
    await control.execute(FILL, rows - SINCE_LAST_MINUTE, rows - 1)
    await control.execute("VACUUM ANALYZE usage_daily")
    await control.execute("ANALYZE usage_ledger")


async def asked_ms(control: ControlDatabase, by: str, tenant: str) -> float:
    times = []
    for _ in range(TIMES):
        started = time.perf_counter()
        await totals(control, by=by, tenant=tenant)
        times.append(1000 * (time.perf_counter() - started))
    return statistics.median(times)


async def main() -> int:
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else ROWS
    with postgres_server() as server:
        async with control_database(server.url) as control:
            started = time.perf_counter()
            await fill(control, rows)
            summed = await control.fetchval("SELECT count(*) FROM usage_daily")
            print(f"{os.cpu_count()} cores; {rows:,} calls in {summed:,} daily sums, filled in", end=" ")
            print(f"{time.perf_counter() - started:.0f} s; median of {TIMES}; bar {BAR_MS} ms")
            slowest = 0.0
            for tenant in ("", "tenant-7"):
                for by in GROUPS:
                    taken = await asked_ms(control, by, tenant)
                    slowest = max(slowest, taken)
                    print(f"  {tenant or 'all tenants':<12} by {by:<9} {taken:6.0f} ms")
            started = time.perf_counter()
            alone = await control.fetchrow(ROWS_ALONE)
            assert alone is not None
            found = (await totals(control, by="day")).total
            print(f"  from the rows alone {1000 * (time.perf_counter() - started):.0f} ms", end="; ")
            equal = dict(alone) == {name: found[name] for name in COUNTS}
            print("the same total" if equal else "ANOTHER TOTAL")
    return 0 if equal and slowest <= BAR_MS else 1


if __name__ == "__main__":
    sys.exit(asyncio.run(main()))
