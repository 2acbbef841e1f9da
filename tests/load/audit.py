"""How fast the audit log seals, and how long a record waits for it.

    python -m tests.load.audit [--records 40000] [--writers 8] [--seconds 20] [--rate 150]

First a full outbox is sealed: records a second. Then writers commit changes at a steady rate, and a sealer is
woken after a commit, coalesced with the runtime's own delay: the time from a commit's acknowledgement to the
record's checkpoint standing outside the database. The way of the event that wakes it in a running stack is not in
the figure. PostgreSQL runs with fsync; the anchor is the fsynced file, without the object store.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from uuid import UUID, uuid4

from functions.governance.audit.anchors import append_line
from shared.audit.records import canonical
from shared.audit.sealer import seal
from shared.function.after_commit import Coalesced
from shared.function.resources import SEAL_DELAY_S
from shared.ids import TenantId
from tests.fixtures.servers import postgres_server, scratch_directory
from tests.shared.audit.stores import ACME, Stores, stores

SEALED_BAR = 2000
P99_BAR_S = 1.0
FILL = 5000


def records(count: int) -> list[tuple[UUID, str, bytes]]:
    made = []
    for number in range(count):
        record_id = uuid4()
        record = canonical(
            record_id=record_id,
            tenant=ACME,
            action="knowledge-documents.upload",
            resource=f"documents/report-{number}.pdf",
            actor="key:4fj2k1",
            outcome="done",
            at=datetime.now(UTC),
            details={"request_id": str(uuid4()), "etag": "d41d8cd98f00b204e9800998ecf8427e", "bytes": number},
        )
        made.append((record_id, str(ACME), record))
    return made


class Sealer:
    """Seals when it is woken, and notes when each checkpoint was outside."""

    def __init__(self, there: Stores) -> None:
        self._there = there
        self.outside: list[tuple[int, float]] = []

    async def anchor(self, tenant: TenantId, size: int, note: str) -> None:
        append_line(self._there.folder / "checkpoints" / f"{tenant}.jsonl", size, note)
        self.outside.append((size, time.perf_counter()))

    async def run(self, tenant: TenantId = ACME) -> None:
        there = self._there
        while (await seal(tenant, there.own, there.control, signer=there.signer, anchor=self.anchor)).records:
            pass


async def sealed_per_second(there: Stores, count: int) -> float:
    rows = records(count)
    for start in range(0, count, FILL):
        async with there.own.transaction() as transaction:
            await transaction.copy_records("audit_outbox", ("id", "tenant", "record"), rows[start : start + FILL])
    began = time.perf_counter()
    await Sealer(there).run()
    took = time.perf_counter() - began
    assert await there.waiting() == []
    return count / took


async def latencies(there: Stores, *, writers: int, seconds: float, rate: float) -> tuple[list[float], float]:
    """Seconds from acknowledgement to sealed, one for each record; and the rate that was really written."""
    sealer = Sealer(there)
    soon = Coalesced(sealer.run, delay_s=SEAL_DELAY_S)
    acknowledged: dict[UUID, float] = {}
    ends = time.perf_counter() + seconds

    async def write() -> None:
        due = time.perf_counter()
        while (due := due + writers / rate) < ends:
            await asyncio.sleep(due - time.perf_counter())
            [row] = records(1)
            async with there.own.transaction() as transaction:
                await transaction.execute("INSERT INTO audit_outbox (id, tenant, record) VALUES ($1, $2, $3)", *row)
            acknowledged[row[0]] = time.perf_counter()
            soon.ask(ACME)

    began = time.perf_counter()
    await asyncio.gather(*(write() for _ in range(writers)))
    written = len(acknowledged) / (time.perf_counter() - began)
    await soon.close()
    return waits(acknowledged, await there.sealed(), sealer.outside), written


def waits(acknowledged: dict[UUID, float], order: Sequence[UUID], outside: Sequence[tuple[int, float]]) -> list[float]:
    found, covering = [], iter(outside)
    size, at = next(covering)
    for seq, record_id in enumerate(order):
        if record_id not in acknowledged:
            continue
        while size <= seq:
            size, at = next(covering)
        found.append(max(0.0, at - acknowledged[record_id]))
    return found


def percentile(values: Sequence[float], percent: int) -> float:
    return statistics.quantiles(values, n=100)[percent - 1]


async def measure(admin_url: str, folder: Path, wanted: argparse.Namespace) -> None:
    async with stores(admin_url, folder) as there:
        rate = await sealed_per_second(there, wanted.records)
        print(f"{f'sealed from a full outbox of {wanted.records}':<52} {rate:>9,.0f} records/s   bar {SEALED_BAR:,}")
        found, written = await latencies(there, writers=wanted.writers, seconds=wanted.seconds, rate=float(wanted.rate))
        name = f"acknowledged → sealed and outside, {wanted.writers} writers, {written:,.0f}/s"
        for percent in (50, 99):
            bar = f"   bar {P99_BAR_S * 1000:,.0f} ms" if percent == 99 else ""
            print(f"{f'{name}, p{percent}':<52} {percentile(found, percent) * 1000:>9,.0f} ms{bar}")
        began = time.perf_counter()
        verdict = await there.verdict(trusted=[])
        print(f"{'export and verify offline':<52} {verdict.records / (time.perf_counter() - began):>9,.0f} records/s")
        print(verdict.message)
        assert verdict.ok


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--records", type=int, default=40_000, help="in the full outbox")
    parser.add_argument("--writers", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--rate", type=int, default=150, help="changes a second of all writers")
    wanted = parser.parse_args()
    with scratch_directory() as folder, postgres_server(durable=True) as server:
        asyncio.run(measure(server.url, folder, wanted))


if __name__ == "__main__":
    main()
