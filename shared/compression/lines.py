"""Lines of text: white space at their ends, more than one empty line, lines of logs that come again."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import groupby

from shared.compression.marks import mark

TIME = re.compile(
    r"\[?\d{4}-\d\d-\d\d[T ]\d\d:\d\d(?::\d\d(?:[.,]\d{1,9})?)?(?:Z|[+-]\d\d:?\d\d)?\]?"
    r"|\[?\d\d:\d\d:\d\d(?:[.,]\d{1,9})?\]?|[A-Z][a-z]{2} [ \d]\d \d\d:\d\d:\d\d"
)
LINE_CHARS_LEAST = 24


def squeezed(text: str) -> str:
    """The text without white space at the ends of lines (quoted lines keep theirs), with one empty line where there
    were several, and each run of the same line once. Of lines that differ in the time they begin with, all times stay.
    """
    return "\n".join(folded(trimmed(text)))


def trimmed(text: str) -> list[str]:
    """Lines without white space at their ends, and never two empty ones in a row."""
    kept: list[str] = []
    for line in text.split("\n"):
        shorter = line if line.startswith(">") else line.rstrip(" \t")
        if shorter or not kept or kept[-1]:
            kept.append(shorter)
    return kept


def folded(lines: list[str]) -> Iterator[str]:
    for (_, message), run in groupby(map(timed, lines), key=lambda one: (bool(one[0]), one[1])):
        times = [time for time, _ in run]
        first = times[0] + message
        yield first
        again = times[1:]
        if not again:
            continue
        note = noted(times)
        if len(note) < sum(len(time) + len(message) + 1 for time in again):
            yield note
        else:
            yield from (time + message for time in again)


def noted(times: list[str]) -> str:
    """What stands for all of a run but its first line."""
    again = times[1:]
    if len(set(times)) == 1:
        return mark(f"the line above {len(again)} more times")
    return mark(f"the line above again at {', '.join(again)}")


def timed(line: str) -> tuple[str, str]:
    """The time that a line begins with, and what follows it. Short lines have none: nothing is gained by them."""
    found = TIME.match(line) if len(line) >= LINE_CHARS_LEAST else None
    return (found[0], line[found.end() :]) if found else ("", line)
