"""A report as comma-separated values (RFC 4180), which a spreadsheet opens without running anything."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping, Sequence

FORMULA = ("=", "+", "-", "@", "|", "%", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""What begins a formula in some spreadsheet, full-width forms included."""
CONTROL = ("\t", "\r", "\n")


def harmless(value: object) -> object:
    """The value; a text that a spreadsheet could take for a formula has an apostrophe before it (OWASP: CSV
    injection)."""
    if not isinstance(value, str):
        return value
    suspect = value.startswith(CONTROL) or value.lstrip().startswith(FORMULA)
    return f"'{value}" if suspect else value


def sheet(head: Sequence[str], rows: Iterable[Mapping[str, object]]) -> str:
    """One line for the head and one for each row."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\r\n")
    writer.writerow(head)
    writer.writerows([harmless(row[name]) for name in head] for row in rows)
    return text.getvalue()
