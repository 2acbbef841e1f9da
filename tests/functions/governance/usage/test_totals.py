"""Usage totals are exact, and a tenant sees its own."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import AsyncIterator
from datetime import UTC, date, datetime, timedelta
from typing import Any

import pytest

from functions.governance.usage.function import Asked, reported
from functions.governance.usage.totals import totals
from shared.errors import Invalid, NotFound
from shared.identity import Caller
from shared.ids import PLATFORM, TenantId
from shared.postgres import ControlDatabase
from tests.fixtures.control import control_database
from tests.functions.governance.usage.test_daily_sums import advanced

START = datetime(2026, 10, 30, 22, 0, tzinfo=UTC)
INSERT = """
INSERT INTO usage_ledger (id, started_at, tenant, key_id, request_id, model, provider, feature, outcome,
                          input_tokens, output_tokens, cached_tokens, usage_known, cost_micro_usd, price_known,
                          tags, saved_micro_usd)
VALUES (gen_random_uuid(), $1, $2, $3, 'r', $4, 'p', 'chat', 'done', $5, $6, $7, true, $8, $8::bigint IS NOT NULL, $9,
        $10)
"""
Entry = tuple[datetime, str, str | None, str, int, int, int, int | None, list[str] | None, int | None]
MARKS = ("member", "group")
TAGS: tuple[list[str] | None, ...] = (
    None,
    [],
    ["q4"],
    ["a", "q4"],
    ["key:abc"],
    ["key:abc", "member:ada", "q4"],
    ["member:bob"],
)


@pytest.fixture(scope="module")
async def control(postgres_admin_url: str) -> AsyncIterator[ControlDatabase]:
    async with control_database(postgres_admin_url) as control:
        yield control


@pytest.fixture(scope="module")
async def entries(control: ControlDatabase) -> list[Entry]:
    """A few hundred calls of two tenants over five days; every seventh has no known price."""
    chance = random.Random(7)
    made: list[Entry] = [
        (
            START + timedelta(minutes=chance.randrange(7200)), chance.choice(["acme", "other"]),
            chance.choice(["k1", "k2", None]), chance.choice(["m1", "m2", "m3"]), chance.randrange(2**33),
            chance.randrange(2**33), chance.randrange(100), None if number % 7 == 0 else chance.randrange(2**40),
            chance.choice(TAGS), chance.choice([None, 0, 7, 2**40]),
        )
        for number in range(400)
    ]  # fmt: skip
    for entry in made[:250]:
        await control.execute(INSERT, *entry)
    await advanced(control, 250)
    for entry in made[250:]:
        await control.execute(INSERT, *entry)
    return made


def groups_of(entry: Entry, by: str) -> list[str]:
    tags = entry[8] or []
    of_one = {"day": entry[0].date().isoformat(), "tenant": entry[1], "key": entry[2] or "", "model": entry[3]}
    of_several = {
        "tag": [tag for tag in tags if ":" not in tag],
        **{mark: [tag.removeprefix(f"{mark}:") for tag in tags if tag.startswith(f"{mark}:")] for mark in MARKS},
    }
    return [of_one[by]] if by in of_one else of_several[by] or [""]


@pytest.mark.parametrize("by", ["day", "model", "key", "tenant", "tag", "member", "group"])
@pytest.mark.parametrize("tenant", ["", "acme"])
async def test_totals_are_the_sums_of_the_rows(
    control: ControlDatabase, entries: list[Entry], by: str, tenant: str
) -> None:
    mine = [entry for entry in entries if tenant in ("", entry[1])]
    expected: dict[str, Counter[str]] = {}
    for entry in mine:
        for name in (*groups_of(entry, by), "total"):
            expected.setdefault(name, Counter()).update(
                calls=1, input_tokens=entry[4], output_tokens=entry[5], cached_tokens=entry[6],
                cost_micro_usd=entry[7] or 0, calls_of_unknown_price=int(entry[7] is None),
                saved_micro_usd=entry[9] or 0,
            )  # fmt: skip
    found = await totals(control, by=by, tenant=tenant)
    total = expected.pop("total")
    assert found.total == {"group": "total", **total}
    assert found.groups == [{"group": name, **expected[name]} for name in sorted(expected)]


async def test_days_are_utc_and_both_ends_are_included(control: ControlDatabase, entries: list[Entry]) -> None:
    first, last = date(2026, 10, 31), date(2026, 11, 1)
    found = await totals(control, by="day", since=first, until=last)
    assert [row["group"] for row in found.groups] == ["2026-10-31", "2026-11-01"]
    assert found.total["calls"] == sum(first <= entry[0].date() <= last for entry in entries)


async def test_the_total_is_over_all_groups_even_when_some_are_left_out(
    control: ControlDatabase, entries: list[Entry]
) -> None:
    found = await totals(control, by="model", groups_max=2)
    assert (len(found.groups), found.truncated, found.total["calls"]) == (2, True, len(entries))


async def test_nothing_used_is_a_total_of_nothing(control: ControlDatabase) -> None:
    found = await totals(control, by="model", tenant="nobody")
    assert (found.groups, found.total["calls"], found.total["cost_micro_usd"]) == ([], 0, 0)


def caller(role: str, tenant: TenantId) -> Caller:
    return Caller(tenant, "test", role, "key")


async def test_a_tenant_sees_its_own_and_nothing_of_another(control: ControlDatabase, entries: list[Entry]) -> None:
    acme = caller("admin", TenantId("acme"))
    seen = await reported(control, acme, Asked("tenant"))
    assert [row.group for row in seen.rows] == ["acme"]
    with pytest.raises(NotFound):
        await reported(control, acme, Asked("model", tenant="other"))


async def test_an_operator_sees_every_tenant_or_the_one_it_names(control: ControlDatabase, entries: list[Any]) -> None:
    operator = caller("operator", PLATFORM)
    everyone = await reported(control, operator, Asked("tenant"))
    one = await reported(control, operator, Asked("tenant", tenant="other"))
    assert [row.group for row in everyone.rows] == ["acme", "other"]
    assert [row.group for row in one.rows] == ["other"]


async def test_a_range_that_ends_before_it_begins_is_refused(control: ControlDatabase) -> None:
    with pytest.raises(Invalid):
        await reported(control, caller("operator", PLATFORM), Asked("day", date(2026, 2, 1), date(2026, 1, 1)))
