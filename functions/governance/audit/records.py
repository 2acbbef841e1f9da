"""Listing sealed records. Their bytes are parsed here and not in SQL, where U+0000 in one would fail the query."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from functions.governance.audit.views import RecordList, RecordView
from shared.postgres import ControlDatabase, TenantDatabase

SCANNED_MAX = 50_000
PAGE = """
SELECT seq, record, sealed_at FROM audit_log
WHERE seq > $1 AND seq <= $1 + $2 AND position($4::bytea IN record) > 0 AND position($5::bytea IN record) > 0
ORDER BY seq LIMIT $3
"""
SEQ_MAX = 2**53


async def page(
    database: TenantDatabase | ControlDatabase, *, after: int, limit: int, filters: Mapping[str, str]
) -> RecordList:
    """Records after a number whose members equal the filters (an empty one fits all). A page may be short or empty
    and still have a `next`: at most `SCANNED_MAX` records are looked at."""
    after = min(max(after, -1), SEQ_MAX)
    end = await database.fetchval("SELECT max(seq) FROM audit_log")
    wanted = {name: text for name, text in filters.items() if text}
    needles = [json.dumps(text, ensure_ascii=False).encode() for text in wanted.values()] + [b"", b""]
    rows = await database.fetch(PAGE, after, SCANNED_MAX, limit, needles[0], needles[1])
    parsed = [(row, json.loads(bytes(row["record"]))) for row in rows]
    views = [
        RecordView(seq=row["seq"], sealed_at=row["sealed_at"], **fields(content))
        for row, content in parsed
        if all(content.get(name) == text for name, text in wanted.items())
    ]
    reached = rows[-1]["seq"] if len(rows) == limit else after + SCANNED_MAX
    return RecordList(records=views, next=reached if end is not None and reached < end else None)


def fields(content: Mapping[str, Any]) -> dict[str, Any]:  # Any: JSON, validated by the view
    names = ("id", "at", "action", "resource", "actor", "outcome", "details", "request_id")
    return {name: content[name] for name in names if name in content}
