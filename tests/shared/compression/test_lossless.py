"""What is shortened without loss can be read back; code, numbers and short texts are as they were."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.compression import tables
from shared.compression.code import is_code, outside_fences
from shared.compression.conversation import compressed
from shared.compression.estimate import tokens_in
from shared.compression.lines import squeezed

Json = Any  # Any: JSON
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=9),
    lambda inside: st.lists(inside, max_size=5) | st.dictionaries(st.text(max_size=4), inside, max_size=4),
    max_leaves=20,
)
RECORDS = st.lists(
    st.fixed_dictionaries({"id": st.integers(), "columns": JSON_VALUES, "rows": JSON_VALUES}), max_size=6
)
TIMES = st.integers(0, 59).map(lambda second: f"2026-11-27T10:00:{second:02d},123Z")
MESSAGES = st.sampled_from(
    [" INFO the worker began its work", " WARN a part is missing: 17", "", "no time", "> quoted  "]
)
LOGS = st.lists(st.tuples(TIMES | st.just(""), MESSAGES).map("".join), max_size=30).map("\n".join)
AGAIN = re.compile(r"\[dcoder: the line above (?:(\d+) more times|again at (.*))\]")
FUNCTION = "def total(rows):\n    return sum(row.price  for row in rows)   \n\n\n\nclass Parts:\n    pass\n"


def as_json(text: str) -> Json:
    """What a shortened text says: tables as the lists that they stand for, numbers as they are written."""
    noted = text.startswith(tables.NOTE)
    value = json.loads(text.removeprefix(tables.NOTE), parse_int=str, parse_float=str)
    return opened(value) if noted else value


def opened(value: Json) -> Json:
    if isinstance(value, list):
        return [opened(one) for one in value]
    if not isinstance(value, dict):
        return value
    if list(value) == tables.TABLE:
        return [dict(zip(value["columns"], opened(row), strict=True)) for row in value["rows"]]
    return {name: opened(one) for name, one in value.items()}


def unfolded(text: str) -> list[str]:
    lines: list[str] = []
    for line in text.split("\n"):
        told = AGAIN.fullmatch(line)
        if told is None:
            lines.append(line)
        elif told[1]:
            lines += [lines[-1]] * int(told[1])
        else:
            begun = re.match(r"\S+", lines[-1])
            assert begun is not None
            lines += [time + lines[-1][begun.end() :] for time in told[2].split(", ")]
    return lines


def trimmed(text: str) -> list[str]:
    found = [line if line.startswith(">") else line.rstrip(" \t") for line in text.split("\n")]
    return [line for place, line in enumerate(found) if line or place == 0 or found[place - 1]]


@given(JSON_VALUES | RECORDS, st.sampled_from([None, 2]), st.booleans())
def test_json_says_the_same_and_its_numbers_are_written_the_same(value: Json, indent: int | None, plain: bool) -> None:
    text = json.dumps(value, indent=indent, ensure_ascii=plain)
    shorter = tables.shortened(text)
    if not isinstance(value, dict | list):
        assert shorter is None
        return
    assert shorter is not None
    assert as_json(shorter) == json.loads(text, parse_int=str, parse_float=str)
    assert len(shorter) <= len(json.dumps(value, ensure_ascii=False, separators=(",", ":"))) or not plain


@pytest.mark.parametrize(
    "text", ['{"a":1,"a":2}', "[NaN]", "[1", "{}{}", "[" * 100_000, "null", '[{"a":1e999999999999}', '["\x00"]']
)
def test_what_is_not_plainly_json_is_left_alone(text: str) -> None:
    assert tables.shortened(text) is None


def test_numbers_keep_digits_that_python_would_not_write() -> None:
    text = '[ {"a": 1.50, "b": -0, "c": 1E5, "d": 123456789012345678901234567890.00} ]'
    assert tables.shortened(text) == '[{"a":1.50,"b":-0,"c":1E5,"d":123456789012345678901234567890.00}]'


@given(LOGS)
def test_folded_lines_can_be_unfolded(text: str) -> None:
    assert unfolded(squeezed(text)) == trimmed(text)


@given(st.text(alphabet="ab \t\n>.", max_size=200))
def test_only_white_space_at_ends_of_lines_and_empty_lines_go(text: str) -> None:
    assert unfolded(squeezed(text)) == trimmed(text)


@given(st.lists(st.sampled_from(["prose   ", "```", "~~~", "a = 1   ", "", "", "```py"]), max_size=20).map("\n".join))
def test_what_stands_between_fences_is_as_it_was(text: str) -> None:
    assert outside_fences(text, str) == text
    shorter = outside_fences(text, squeezed)
    assert fenced(shorter) == fenced(text)


def fenced(text: str) -> list[str]:
    """What stands between fences, read another way: line by line."""
    found: list[str] = []
    opened_by = ""
    for line in text.split("\n"):
        if opened_by:
            found.append(line)
            if line.startswith(opened_by):
                opened_by = ""
        elif line.startswith(("```", "~~~")):
            opened_by = line[:3]
            found.append(line)
    return found


@pytest.mark.parametrize(
    "text",
    [
        FUNCTION * 5,
        "\n".join(f"{number:6d}\t{line}" for number, line in enumerate(FUNCTION.split("\n") * 5, 1)),
        "diff --git a/x b/x\n--- a/x\n+++ b/x\n@@ -1,3 +1,3 @@\n-  old   \n+  new   \n" * 5,
        "SELECT a,   b\nFROM parts   \nWHERE a = 1\n\n\n\nORDER BY b;   \n" * 9,
        "func main() {   \n\tfmt.Println(1)   \n}\n" * 9,
        "<html>   \n<body>\n<p>Hi   \n</body>\n" * 9,
    ],
    ids=["python", "numbered", "patch", "sql", "go", "html"],
)
def test_code_is_never_touched(text: str) -> None:
    assert is_code(text)
    messages = [{"role": "tool", "tool_call_id": "a", "content": text}] * 2
    assert compressed(messages, frozenset({"lossless"})).messages is messages


@pytest.mark.parametrize(
    "text",
    ["The parts are in the hall. It is open from 8 to 17.\nAsk at the desk.\n" * 9, "- one thing\n- another\n" * 20],
    ids=["prose", "list"],
)
def test_prose_is_no_code(text: str) -> None:
    assert not is_code(text)


@given(st.text(max_size=100), st.text(max_size=100))
def test_more_text_is_not_fewer_tokens(one: str, other: str) -> None:
    assert (tokens_in(one) > 0) == bool(one)
    assert tokens_in(f"{one}\n{other}") >= max(tokens_in(one), tokens_in(other))
