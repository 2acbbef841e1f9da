"""A text in pieces gives what the whole text gives."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st

from shared.guardrails import BUILT_IN, Finding, Scan, phrases, scan
from shared.guardrails.scanning import AHEAD, SLICE_CHARS
from tests.shared.guardrails.test_rules import FOUND

RULES = (*BUILT_IN, phrases("own", ["kestrel", "kes"]))
EXAMPLES = [text for texts in FOUND.values() for text in texts] + ["kestrel", "KES"]
PARTS = st.one_of(
    st.sampled_from(EXAMPLES),
    st.text(alphabet=" a1@.-+_sk\né🙂", max_size=12),
    st.sampled_from(["x" * 900, "4" * 40, " ".join(["word"] * 300), "eyJ" + "a" * 500]),
)


def whole(text: str) -> list[Finding]:
    """What the rules say of the text as it is, without any slicing."""
    found = []
    for rule in RULES:
        for match in rule.pattern.finditer(text):
            if counted := rule.judge(match.group()):
                start = match.start()
                found.append(Finding(rule.name, rule.kind, start, start + counted, text[start : start + counted]))
    return sorted(found, key=lambda one: (one.start, one.rule))


def in_pieces(pieces: Sequence[str]) -> list[Finding]:
    one = Scan(RULES)
    found = [finding for piece in pieces for finding in one.feed(piece)]
    return sorted([*found, *one.end()], key=lambda finding: (finding.start, finding.rule))


@given(st.lists(PARTS, max_size=40), st.randoms())
def test_any_cut_of_a_text_gives_the_same_findings(parts: list[str], random: object) -> None:
    text = "".join(parts)
    size = random.randint(1, 6000)  # type: ignore[attr-defined]  # hypothesis's random.Random
    pieces = [text[start : start + size] for start in range(0, len(text), size)]
    assert in_pieces(pieces) == scan(text, RULES) == whole(text)


@given(st.sampled_from(EXAMPLES), st.integers(min_value=-40, max_value=40))
def test_what_stands_across_a_slices_end_is_found_once(example: str, offset: int) -> None:
    lead = "." * (SLICE_CHARS + offset) + " "
    text = lead + example + " " + "." * 2 * (SLICE_CHARS + AHEAD)
    assert in_pieces(list(text)) == whole(text)


def test_what_is_held_does_not_grow_with_the_text() -> None:
    one = Scan(RULES)
    for _ in range(200):
        list(one.feed("word " * 500))
        assert len(one._held) <= SLICE_CHARS + 2 * AHEAD + 2500
