"""Acknowledged → sealed, end to end on a stack of its own: HTTP call, commit, event over JetStream, sealer.

    python -m tests.load.sealing [--calls 600] [--per-second 100]

Each call stores a provider's credentials, which is audited. A record's own time and the time it was sealed are both
the database's; the difference is what is printed.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import time
from datetime import datetime

import httpx

from tests.fixtures.stack import stack

PROVIDER = {"base_url": "https://api.example.com/v1", "api_key": "sk-bench", "models": ["bench"], "check": False}


async def drive(url: str, key: str, *, calls: int, per_second: float) -> int:
    """Make the calls at that rate; returns how many were acknowledged."""
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(base_url=url, headers=headers, timeout=30) as client:
        began = time.perf_counter()
        tasks = []
        for number in range(calls):
            await asyncio.sleep(max(0.0, began + number / per_second - time.perf_counter()))
            tasks.append(asyncio.create_task(client.put(f"/v1/secrets/providers/bench-{number}", json=PROVIDER)))
        answers = await asyncio.gather(*tasks)
    return sum(answer.status_code == 200 for answer in answers)


def sealed(url: str, key: str, wanted: int) -> list[float]:
    """Seconds from each record's time to its sealing, once all are sealed."""
    deadline = time.monotonic() + 30
    headers = {"authorization": f"Bearer {key}"}
    while True:
        found: list[float] = []
        cursor = -1
        while True:
            query = {"after": str(cursor), "limit": "1000", "action": "governance-secrets.put_provider"}
            page = httpx.get(f"{url}/v1/audit/records", params=query, headers=headers, timeout=30).json()
            found += [delay_s(one) for one in page["records"]]
            if page.get("next") is None:
                break
            cursor = page["next"]
        if len(found) >= wanted or time.monotonic() > deadline:
            return found
        time.sleep(0.2)


def delay_s(record: dict[str, str]) -> float:
    return (datetime.fromisoformat(record["sealed_at"]) - datetime.fromisoformat(record["at"])).total_seconds()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--calls", type=int, default=600)
    parser.add_argument("--per-second", type=float, default=100.0)
    options = parser.parse_args()
    with stack() as (_, said):
        url, key = said["platform_url"], said["tenant_key"]
        done = asyncio.run(drive(url, key, calls=options.calls, per_second=options.per_second))
        delays = sorted(sealed(url, key, done))
    middle, tail = delays[len(delays) // 2], delays[int(len(delays) * 0.99)]
    print(f"{os.cpu_count()} cores; {done} changes at {options.per_second:.0f}/s, {len(delays)} sealed")
    print(f"acknowledged → sealed   p50 {middle * 1000:.0f} ms   p99 {tail * 1000:.0f} ms   bar p99 1000 ms")


if __name__ == "__main__":
    main()
