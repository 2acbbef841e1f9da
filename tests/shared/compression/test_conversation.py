"""A longer conversation begins with the same bytes; what is protected is as it was; what is left out can be found."""

from __future__ import annotations

import copy
import hashlib
import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shared.compression.conversation import ASIDE_STEP_BYTES, FRESH_ROUNDS, RETRIEVAL_TOOL, compressed, put_aside
from shared.compression.modes import Mode

Json = Any  # Any: JSON
STRICT: list[frozenset[Mode]] = [frozenset({"lossless"}), frozenset({"passages"}), frozenset({"lossless", "passages"})]
PARAGRAPH = "The pump in hall seven was checked. It had run for days without a stop. " * 5
PASSAGES = (
    "<document index='1'>The garden is green. Refunds take a while. The roof is red. Pumps are old. "
    "The staff is kind. Coffee is served. 'Quoted words' stay. Part X-17 stays.</document>"
)
RESULTS = st.sampled_from(
    [
        json.dumps([{"id": number, "name": f"part {number}"} for number in range(30)], indent=2),
        "\n".join(f"2026-11-27 10:00:{second:02d} the worker began its work again" for second in range(20)),
        f"{PARAGRAPH}\n\nAnother paragraph.   \n\n\n\n{PARAGRAPH}",
        f"Found:\n\n{PARAGRAPH}",
        PASSAGES * 4,
        "def f():\n    return 1   \n\n\n" * 20,
        "short",
        PARAGRAPH * 30,
    ]
)
WORDS = st.sampled_from(
    ["How are refunds made?", "And the pumps?", f"Read this. {PASSAGES * 3} What of the roof?", "  \n" * 200]
)
TURNS = st.lists(st.tuples(WORDS, st.lists(RESULTS, max_size=4)), min_size=1, max_size=5)


def in_openai(turns: Json) -> list[Json]:
    messages: list[Json] = [{"role": "system", "content": "Be  brief.   \n\n\n" * 50}]
    for words, results in turns:
        messages.append({"role": "user", "content": words})
        for result in results:
            call = {
                "id": f"c{len(messages)}",
                "type": "function",
                "function": {"name": "f", "arguments": '{ "a" : 1 }'},
            }
            messages.append({"role": "assistant", "content": None, "tool_calls": [call]})
            messages.append({"role": "tool", "tool_call_id": call["id"], "content": result})
        messages.append({"role": "assistant", "content": "Done.   \n\n\n\n" * 40})
    return messages


def in_anthropics(turns: Json) -> list[Json]:
    messages: list[Json] = []
    for words, results in turns:
        messages.append({"role": "user", "content": [{"type": "text", "text": words}]})
        for result in results:
            name = f"t{len(messages)}"
            called = {"type": "tool_use", "id": name, "name": "f", "input": {"a": 1}}
            told = {"type": "tool_result", "tool_use_id": name, "content": [{"type": "text", "text": result}]}
            messages += [{"role": "assistant", "content": [called]}, {"role": "user", "content": [told]}]
        messages.append({"role": "assistant", "content": [{"type": "text", "text": "Done.   \n\n\n\n" * 40}]})
    return messages


def in_responses(turns: Json) -> list[Json]:
    """As a response's input: what the model thought and called, calls side by side, is items of one answer."""
    items: list[Json] = [{"role": "developer", "content": "Be  brief.   \n\n\n" * 50}]
    for words, results in turns:
        items.append({"role": "user", "content": [{"type": "input_text", "text": words}]})
        names = [f"c{len(items)}_{number}" for number in range(len(results))]
        items.append({"type": "reasoning", "id": f"rs_{len(items)}", "summary": []})
        items += [{"type": "function_call", "call_id": name, "name": "f", "arguments": '{ "a" : 1 }'} for name in names]
        told = zip(names, results, strict=True)
        items += [{"type": "function_call_output", "call_id": name, "output": result} for name, result in told]
        done = [{"type": "output_text", "text": "Done.   \n\n\n\n" * 40}]
        items.append({"type": "message", "role": "assistant", "content": done})
    return items


DIALECTS = st.sampled_from([in_openai, in_anthropics, in_responses])


def name_of(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:20]


@settings(deadline=None)
@given(TURNS, DIALECTS, st.sampled_from(STRICT))
def test_a_conversation_begins_as_its_beginning_did(turns: Json, dialect: Any, modes: frozenset[Mode]) -> None:
    messages = dialect(turns)
    before = copy.deepcopy(messages)
    whole = compressed(messages, modes).messages
    for length in range(len(messages)):
        assert list(compressed(messages[:length], modes).messages) == list(whole[:length])
    assert messages == before


@settings(deadline=None, max_examples=50)
@given(TURNS, DIALECTS)
def test_putting_aside_changes_what_was_sent_at_most_once_for_each_step(turns: Json, dialect: Any) -> None:
    modes: frozenset[Mode] = frozenset({"lossless", "reversible"})
    messages = dialect(turns)
    sent: list[Json] = []
    breaks = 0
    for length in range(1, len(messages) + 1):
        now = list(compressed(messages[:length], modes, name_of).messages)
        breaks += now[: length - 1] != sent
        sent = now
    aged = sum(len(result) for _, results in turns for result in results)
    assert breaks <= aged // ASIDE_STEP_BYTES


@settings(deadline=None)
@given(TURNS, DIALECTS, st.sampled_from(STRICT))
def test_only_results_and_passages_are_touched(turns: Json, dialect: Any, modes: frozenset[Mode]) -> None:
    messages = dialect(turns)
    for before, after in zip(messages, compressed(messages, modes).messages, strict=True):
        if before.get("role") in ("system", "developer", "assistant") or before.get("type") == "function_call":
            assert after is before
        if before.get("role") == "user" and "tool_result" not in str(before):
            assert outside_passages(after) == outside_passages(before)
            assert "passages" in modes or after is before


def outside_passages(message: Json) -> str:
    return re.sub(r"(?s)(<document[^>]*>).*?(</document>)", r"\1\2", json.dumps(message["content"]))


@settings(deadline=None)
@given(TURNS, DIALECTS, st.sampled_from(STRICT))
def test_numbers_identifiers_and_quotations_stay(turns: Json, dialect: Any, modes: frozenset[Mode]) -> None:
    messages = dialect(turns)
    before, after = (json.dumps(one) for one in (messages, compressed(messages, modes).messages))
    assert set(re.findall(r"\d+", before)) <= set(re.findall(r"\d+", after))
    assert all((kept in before) <= (kept in after) for kept in ("X-17", "'Quoted words'", "part 29"))


def test_a_block_that_comes_again_is_told_by_where_it_stood_first() -> None:
    messages = in_openai([("Go.", [f"One.\n\n{PARAGRAPH}", "short", f"{PARAGRAPH}\n\nTwo."])])
    sent = compressed(messages, frozenset({"lossless"})).messages
    first, _, third = [one["content"] for one in sent if one["role"] == "tool"]
    assert first == f"One.\n\n{PARAGRAPH.rstrip()}" or first == f"One.\n\n{PARAGRAPH}"
    told = re.fullmatch(r"\[dcoder: block (\d+) of result (\d+) again, which begins '(.*)'\]\n\nTwo\.", third)
    assert told is not None
    assert (told[1], told[2]) == ("2", "1")
    assert PARAGRAPH.startswith(told[3])


def test_what_was_had_again_is_never_put_aside() -> None:
    messages = in_openai([("Go.", [f"{number} {PARAGRAPH * 30}" for number in range(9)])])
    for message in messages:
        for call in message.get("tool_calls", ()):
            call["function"]["name"] = RETRIEVAL_TOOL
    assert compressed(messages, frozenset({"lossless", "reversible"}), name_of).messages is messages


def test_what_is_put_aside_can_be_had_again() -> None:
    messages = in_openai([("Go.", [f"{number} {PARAGRAPH * 30}" for number in range(9)])])
    how = compressed(messages, frozenset({"reversible"}), name_of)
    originals = {one.id: one.text for one in how.originals}
    results = [one["content"] for one in messages if one["role"] == "tool"]
    sent = [one["content"] for one in how.messages if one["role"] == "tool"]
    found = [re.search(r"id='(\w+)'", text) for text in sent]
    assert [originals[told[1]] if told else text for told, text in zip(found, sent, strict=True)] == results
    assert sum(1 for told in found if told) >= 2
    assert sent[-FRESH_ROUNDS + 1 :] == results[-FRESH_ROUNDS + 1 :]


@given(st.lists(st.tuples(st.integers(1, 30), st.integers(0, 20_000)), max_size=30), st.integers(0, 30))
def test_what_is_put_aside_stays_so(sizes: list[tuple[int, int]], rounds: int) -> None:
    sizes = sorted(sizes, key=lambda one: one[0])
    known = [one for one in sizes if one[0] <= rounds]
    assert put_aside(known, rounds) <= put_aside(sizes, rounds + 1)
    assert put_aside(known, rounds) <= max(0, rounds - FRESH_ROUNDS)


@given(
    st.recursive(
        st.none() | st.integers() | st.text(max_size=5),
        lambda inside: (
            st.lists(inside, max_size=3)
            | st.dictionaries(
                st.sampled_from(["role", "content", "type", "text", "tool_calls", "id", "name", "output", "call_id"]),
                inside | st.sampled_from(["tool", "user", "text", "tool_result", "function_call_output"]),
                max_size=5,
            )
        ),
        max_leaves=20,
    )
)
def test_odd_messages_are_left_alone(messages: Json) -> None:
    if isinstance(messages, list):
        assert compressed(messages, STRICT[2]).messages is messages


@pytest.mark.parametrize(
    "text",
    [
        " " * 200_000 + "x",
        "1" * 200_000,
        "x\n" + "\n" * 200_000 + "y",
        "x" + "\n " * 100_000,
        "<document>" * 20_000,
        "<document " * 20_000,
        "<document>" + "." * 200_000 + "</document>",
        "<document>" + "x\n" * 100_000 + "</document>",
        "<document>pumps" + "\n" * 200_000 + "</document>",
        "<document>pumps" + " " * 200_000 + "y</document>",
        "```\n" * 50_000,
        "{" * 200_000,
        "[" * 100_000 + "]" * 100_000,
        "if " + "{" * 200_000 + "x",
        "a = " * 60_000,
        "2026-11-27 10:00:01 " * 10_000,
    ],
    ids=lambda text: text[:12].strip() or "white space",
)
def test_no_text_takes_the_square_of_its_length(text: str) -> None:
    """The limit on a test's time would end it."""
    for messages in in_openai([("Pumps?", [text]), (text, [])]), in_anthropics([("Pumps?", [text])]):
        compressed(messages, frozenset({"lossless", "passages"}))
