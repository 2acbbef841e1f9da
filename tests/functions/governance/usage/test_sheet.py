"""Usage as comma-separated values: the same figures, and nothing that a spreadsheet would run."""

from __future__ import annotations

import csv
import io
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from functions.governance.usage.sheet import harmless, sheet
from shared.function.app import build
from shared.function.catalog import select
from shared.function.process import Process
from shared.ids import TenantId
from shared.postgres import ControlDatabase
from shared.settings import Settings
from tests.fixtures.platform import key_for

HOSTILE = ("=1+1", "+1", "-1", "@x", "\t=1", "\r=1", " =1", "=cmd|'/C calc'!A0", "\uff1d1", '=HYPERLINK("http://x")')
CALL = """
INSERT INTO usage_ledger (id, started_at, tenant, key_id, request_id, model, provider, feature, outcome, input_tokens,
                          usage_known, cost_micro_usd, price_known, saved_micro_usd)
VALUES (gen_random_uuid(), now(), $1, $2, 'r', $3, 'p', 'chat', 'done', 5, true, 7, true, 11)
"""


def read(text: str) -> list[list[str]]:
    return list(csv.reader(io.StringIO(text, newline="")))


@pytest.mark.parametrize("text", HOSTILE)
def test_a_formula_is_a_text(text: str) -> None:
    (cell,) = read(sheet(["a"], [{"a": text}]))[1]
    assert cell == f"'{text}"


@given(st.lists(st.text(), min_size=1, max_size=3), st.integers())
def test_a_row_is_read_as_it_was_written(texts: list[str], number: int) -> None:
    names = [str(place) for place in range(len(texts))]
    row: dict[str, object] = {**dict(zip(names, texts, strict=True)), "n": number}
    _, cells = read(sheet([*names, "n"], [row]))
    assert cells == [*(str(harmless(text)) for text in texts), str(number)]
    assert not any(cell.lstrip().startswith(("=", "+", "-", "@")) for cell in cells[:-1])


@pytest.fixture
async def client(settings: Settings, process: Process, tenant: TenantId) -> AsyncIterator[httpx.AsyncClient]:
    application = build(select(("governance-usage",)), settings)
    transport = httpx.ASGITransport(application, raise_app_exceptions=False)
    key = await key_for(process, tenant)
    headers = {"authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(transport=transport, base_url="http://platform", headers=headers) as client:
        yield client
    await application.process.close()


async def asked(client: httpx.AsyncClient, accept: str = "*/*", **query: Any) -> httpx.Response:
    return await client.get("/v1/usage", params=query, headers={"accept": accept})


async def test_a_report_is_a_sheet_when_it_is_asked_for_as_one(
    client: httpx.AsyncClient, control: ControlDatabase, tenant: TenantId
) -> None:
    found = await control.fetchrow("SELECT id, name FROM virtual_keys WHERE tenant = $1 LIMIT 1", tenant)
    assert found is not None
    key = found["id"]
    for model in ('=2+3,"x"', "m"):
        await control.execute(CALL, tenant, key, model)
    as_json = (await asked(client, by="model")).json()
    for answer in (await asked(client, by="model", format="csv"), await asked(client, "text/csv", by="model")):
        assert answer.headers["content-type"].startswith("text/csv")
        assert answer.headers["content-disposition"] == 'attachment; filename="usage-by-model.csv"'
        head, *rows = read(answer.text)
        assert head == ["model", *(name for name in as_json["total"] if name not in ("group", "name"))]
        assert [row[0] for row in rows] == ['\'=2+3,"x"', "m"]
        assert [[int(cell) for cell in row[1:]] for row in rows] == [
            [row[name] for name in head[1:]] for row in as_json["rows"]
        ]
    assert (await asked(client, "text/csv", by="model", format="json")).json() == as_json
    by_key = (await asked(client, by="key")).json()["rows"]
    assert (found["name"], 22) in [(row["name"], row["saved_micro_usd"]) for row in by_key if row["group"] == key]
    assert read((await asked(client, by="key", format="csv")).text)[0][:2] == ["key", "name"]
