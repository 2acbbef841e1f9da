"""The figures of a workload, and the table of all."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from httpx import Headers

from tests.load.savings.workloads import Workload

SIZES = re.compile(r"original-bytes=(\d+); sent-bytes=(\d+)")
COST, CACHE, COMPRESSION = "x-dcoder-cost-micro-usd", "x-dcoder-cache", "x-dcoder-compression"
KINDS = {"hit": "exact", "coalesced": "coalesced", "miss": "", "off": ""}
"""By how the cache's header begins. Whatever else it says is an answer to the same question in other words."""


@dataclass(frozen=True)
class Row:
    """`wrong`: answers given again that are not those of the question. `kept`: of the sentences that hold an answer,
    how many were in the prompt, and of how many."""

    name: str
    calls: int
    again: int
    hits: Mapping[str, int]
    wrong: int
    original_bytes: int
    sent_bytes: int
    before_micro_usd: int
    after_micro_usd: int
    kept: tuple[int, int]

    @property
    def told(self) -> dict[str, str]:
        return dict(zip(TITLES, self.cells, strict=True))

    @property
    def cells(self) -> list[str]:
        given = sum(self.hits.values())
        shares = [share(self.hits.get(kind, 0), self.calls) for kind in ("exact", "coalesced", "semantic")]
        return [
            self.name, str(self.calls), *shares, share(self.wrong, given) if given else "-",
            share(self.sent_bytes, self.original_bytes), f"{self.kept[0]}/{self.kept[1]}" if self.kept[1] else "-",
            str(self.again), dollars(self.before_micro_usd), dollars(self.after_micro_usd),
            share(self.before_micro_usd - self.after_micro_usd, self.before_micro_usd),
        ]  # fmt: skip


TITLES = (
    "workload", "calls", "exact hits", "coalesced", "semantic hits", "wrong of hits", "bytes sent of bytes asked",
    "answers kept in passages", "asked for again", "USD before", "USD after", "saved",
)  # fmt: skip


def row_of(
    workload: Workload,
    before: Sequence[Headers],
    after: Sequence[tuple[Headers, bool | None]],
    kept: Mapping[str, bool],
) -> Row:
    hits = Counter(kind for headers, _ in after if (kind := kind_of(headers)))
    sizes = [found for headers, _ in after if (found := SIZES.search(headers.get(COMPRESSION, "")))]
    return Row(
        workload.name,
        len(after),
        sum(1 for _, right in after if right is None),
        hits,
        sum(1 for headers, right in after if kind_of(headers) and right is False),
        sum(int(one[1]) for one in sizes),
        sum(int(one[2]) for one in sizes),
        sum(int(headers[COST]) for headers in before),
        sum(int(headers[COST]) for headers, _ in after),
        (sum(kept.values()), len(kept)),
    )


def kind_of(headers: Headers) -> str:
    """How an answer was given again; empty when it was made for this call."""
    return KINDS.get(headers[CACHE].partition(";")[0].strip(), "semantic")


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole:.1f} %" if whole else "-"


def dollars(micro_usd: int) -> str:
    return f"{micro_usd / 1_000_000:.6f}"


def text_table(rows: Sequence[Row]) -> str:
    """As Markdown."""
    lines = [TITLES, ["---", *["---:"] * (len(TITLES) - 1)], *(row.cells for row in rows)]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines)
