"""CSV, XLSX and JSON: rows that name their columns, values that name their path."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from datetime import datetime, time
from pathlib import Path
from typing import Any

from functions.knowledge.documents.parsers.outline import Outline, Parsed, Unparseable

CELLS_MAX = 2_000_000
SAMPLE_CHARS = 65_536
FIELD_CHARS_MAX = 1_000_000
VALUES_MAX = 1_000_000
JSON_BYTES_MAX = 50_000_000
MIDNIGHT = time()
JSON = Any  # a JSON value


def parse_csv(text: str) -> Parsed:
    csv.field_size_limit(FIELD_CHARS_MAX)
    outline = Outline()
    header: list[str] = []
    cells = 0
    try:
        for row in csv.reader(io.StringIO(text), dialect_of(text[:SAMPLE_CHARS])):
            cells += len(row)
            if cells > CELLS_MAX:
                raise Unparseable("too_large", f"the table has more than {CELLS_MAX} cells")
            if not header and any(cell.strip() for cell in row):
                header = row
                outline.add("heading", " | ".join(cell for cell in row if cell.strip()))
            else:
                outline.row(header, row)
    except csv.Error as flaw:
        raise Unparseable("corrupt", f"the file is no CSV: {flaw}") from flaw
    return outline.parsed()


def dialect_of(sample: str) -> type[csv.Dialect]:
    try:
        return csv.Sniffer().sniff(sample, delimiters=",;\t|")
    except csv.Error:
        return csv.excel


def parse_xlsx(path: Path) -> Parsed:
    import openpyxl

    outline = Outline()
    with path.open("rb") as source:  # by its name, openpyxl would refuse what has no extension
        try:
            book = openpyxl.load_workbook(source, read_only=True, data_only=True, keep_links=False)
        except (KeyError, ValueError, OSError, SyntaxError) as flaw:
            raise Unparseable("corrupt", f"the workbook cannot be opened: {flaw}"[:300]) from flaw
        cells = 0
        for number, sheet in enumerate(book.worksheets, start=1):
            outline.page = number
            sheet.reset_dimensions()
            outline.heading(1, sheet.title)
            cells = read_sheet(outline, sheet.iter_rows(values_only=True), cells)
    return outline.parsed()


def read_sheet(outline: Outline, rows: Iterator[tuple[object, ...]], cells: int) -> int:
    header: list[str] = []
    for row in rows:
        cells += len(row) + 1
        if cells > CELLS_MAX:
            raise Unparseable("too_large", f"the workbook has more than {CELLS_MAX} cells")
        texts = [shown(value) for value in row]
        if not header and any(texts):
            header = texts
            outline.add("row", " | ".join(text for text in texts if text))
        else:
            outline.row(header, texts)
    return cells


def shown(value: object) -> str:
    """A cell as its owner sees it: a day without the midnight that the format gives it."""
    if isinstance(value, datetime) and value.time() == MIDNIGHT:
        return str(value.date())
    return "" if value is None else str(value)


def parse_json(text: str) -> Parsed:
    """Each value with its path. What is no single JSON value is read as one value per line."""
    if len(text) > JSON_BYTES_MAX:
        raise Unparseable("too_large", f"JSON of more than {JSON_BYTES_MAX} characters is not taken")
    try:
        value = loaded(text)
    except RecursionError as deep:
        raise Unparseable("corrupt", "the JSON is nested too deeply") from deep
    except ValueError:
        return parse_ndjson(text)
    outline = Outline()
    if isinstance(value, list):
        for index, element in enumerate(value):
            outline.add("row", flattened(element, f"[{index}]"))
    elif isinstance(value, dict):
        for key, element in value.items():
            outline.add("row", flattened(element, key))
    else:
        outline.add("row", flattened(value, ""))
    return outline.parsed()


def loaded(text: str) -> JSON:
    """The value, its numbers as they are written: a quotation must find `1.10` and a number of 5,000 digits again."""
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)


def parse_ndjson(text: str) -> Parsed:
    outline = Outline()
    for number, line in enumerate(text.splitlines(), start=1):
        if line.strip():
            try:
                outline.add("row", flattened(loaded(line), ""))
            except (ValueError, RecursionError) as flaw:
                raise Unparseable("corrupt", f"line {number} is not JSON: {flaw}"[:300]) from flaw
    return outline.parsed()


def flattened(value: JSON, path: str) -> str:
    """`path.to[0].value: text`, a line each, depth first."""
    lines: list[str] = []
    waiting: list[tuple[str, JSON]] = [(path, value)]
    while waiting:
        at, found = waiting.pop()
        if isinstance(found, dict):
            waiting.extend((f"{at}.{key}" if at else str(key), one) for key, one in reversed(found.items()))
        elif isinstance(found, list):
            waiting.extend((f"{at}[{index}]", one) for index, one in reversed(list(enumerate(found))))
        elif found is not None:
            spelled = str(found).lower() if isinstance(found, bool) else str(found)
            lines.append(f"{at}: {spelled}" if at else spelled)
        if len(lines) > VALUES_MAX:
            raise Unparseable("too_large", f"the JSON holds more than {VALUES_MAX} values")
    return "\n".join(lines)
