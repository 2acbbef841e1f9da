"""JSON without white space, and lists of objects with the same members as tables.

Numbers keep the digits that they were written with. `{"columns":[…],"rows":[[…],…]}` stands for a list of objects, each
row with its values in the order of the columns; a note before it says so. Strings may be escaped in another way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from shared.compression.marks import mark

NOTE = mark('JSON; each {"columns","rows"} is a list of objects whose members have these names') + "\n"
ROWS_LEAST = 3
COLUMNS_LEAST = 2
TABLE = ["columns", "rows"]
Json = Any  # Any: JSON


class Number(str):
    """A number as it was written, where Python would write it in another way."""

    __slots__ = ()


class Ambiguous(ValueError):
    """Readers may read it in two ways: a member twice, a number that is none."""


def shortened(text: str) -> str | None:
    """The same JSON in fewer characters; None when the text is not one JSON object or list."""
    if not text.lstrip().startswith(("{", "[")):
        return None
    try:
        value = json.loads(
            text, parse_int=integer, parse_float=fraction, parse_constant=refused, object_pairs_hook=members
        )
        plain = rendered(value)
        if has_tables(value):
            return plain  # one of its own would be taken for one of ours
        tabulated = NOTE + rendered(in_tables(value))
    except (ValueError, RecursionError):
        return None
    return min(plain, tabulated, key=len)


def integer(written: str) -> int | Number:
    value = int(written)
    return value if str(value) == written else Number(written)


def fraction(written: str) -> float | Number:
    value = float(written)
    return value if repr(value) == written else Number(written)


def refused(constant: str) -> Json:
    raise Ambiguous(constant)


def members(pairs: list[tuple[str, Json]]) -> dict[str, Json]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise Ambiguous("a member is named twice")
    return found


def has_tables(value: Json) -> bool:
    if isinstance(value, dict):
        return list(value) == TABLE or any(has_tables(one) for one in value.values())
    return isinstance(value, list) and any(has_tables(one) for one in value)


def in_tables(value: Json) -> Json:
    if isinstance(value, dict):
        return {name: in_tables(one) for name, one in value.items()}
    if not isinstance(value, list):
        return value
    inside = [in_tables(one) for one in value]
    columns = columns_of(value)
    if not columns:
        return inside
    return {"columns": columns, "rows": [list(row.values()) for row in inside]}


def columns_of(rows: Sequence[Json]) -> list[str]:
    """The names that all of these objects have in the same order; none where it makes no table."""
    if len(rows) < ROWS_LEAST or not all(isinstance(row, dict) for row in rows):
        return []
    first = list(rows[0])
    return first if len(first) >= COLUMNS_LEAST and all(list(row) == first for row in rows) else []


def rendered(value: Json) -> str:
    if not has_numbers_as_written(value):
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return written(value)


def has_numbers_as_written(value: Json) -> bool:
    if isinstance(value, dict):
        return any(map(has_numbers_as_written, value.values()))
    return any(map(has_numbers_as_written, value)) if isinstance(value, list) else isinstance(value, Number)


def written(value: Json) -> str:
    if isinstance(value, Number):
        return str(value)
    if isinstance(value, dict):
        return (
            "{"
            + ",".join(f"{json.dumps(name, ensure_ascii=False)}:{written(one)}" for name, one in value.items())
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(map(written, value)) + "]"
    return json.dumps(value, ensure_ascii=False)
