"""The savings report counts each kind of hit, and wrong ones; nothing claims a saving without its table."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from httpx import Headers

from tests.load.savings.__main__ import known
from tests.load.savings.page import page
from tests.load.savings.provider import Knowing
from tests.load.savings.table import TITLES, Row, row_of, text_table
from tests.load.savings.workloads import Workload, workloads

ROOT = Path(__file__).parents[3]
EMPTY = Workload("empty", "lossless", [])
CLAIM = re.compile(r"\b(?:sav|cheap|cost|less)\w*\b[^.|]{0,80}\b70\s?%|\b70\s?%[^.|]{0,80}\b(?:sav|cheap|cost|less)\w*")


def told(cache: str, *, cost: int = 0, **more: str) -> Headers:
    return Headers({"x-dcoder-cache": cache, "x-dcoder-cost-micro-usd": str(cost), **more})


def row() -> Row:
    sizes = {"x-dcoder-compression": "lossless; original-bytes=1000; sent-bytes=250; saved-tokens=180"}
    before = [told("off", cost=10)] * 4
    after = [
        (told("miss", cost=8, **sizes), True),
        (told("hit; age=3; saved-micro-usd=8"), True),
        (told("semantic; similarity=0.97; age=3; saved-micro-usd=8"), False),
        (told("coalesced"), True),
    ]
    return row_of(EMPTY, before, after, {"one": True, "other": False})


def test_each_kind_of_hit_is_counted_and_so_is_a_wrong_one() -> None:
    assert row().cells == [
        "empty", "4", "25.0 %", "25.0 %", "25.0 %", "33.3 %", "25.0 %", "1/2", "0", "0.000040", "0.000008", "80.0 %",
    ]  # fmt: skip


def test_table_and_page_hold_every_cell() -> None:
    for text in (text_table([row()]), page([row()])):
        assert all(cell in text for cell in (*TITLES, *row().cells))


def test_the_workloads_are_the_same_each_time_and_no_two_answers_are_confused() -> None:
    first, again = workloads(), workloads()
    assert first == again
    for workload in first:
        assert known(workload)


def test_a_prompt_that_begins_as_one_before_is_counted_as_cached() -> None:
    provider = Knowing({})
    long = {"role": "user", "content": "some words of a text " * 400}
    assert provider.counted({"messages": [long]})[1] == 0
    total, cached = provider.counted({"messages": [long, {"role": "assistant", "content": "Yes."}]})
    assert 1024 <= cached < total
    assert provider.counted({"messages": [{"role": "system", "content": "x"}, long]})[1] == 0


@pytest.mark.parametrize(
    "path", [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))], ids=lambda path: str(path.relative_to(ROOT))
)
def test_seventy_per_cent_are_claimed_beside_the_table_only(path: Path) -> None:
    text = path.read_text()
    assert not CLAIM.search(text) or all(title in text for title in TITLES)
