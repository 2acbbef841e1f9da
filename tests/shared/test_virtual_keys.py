"""The form of a key: whatever is not one of ours is known without asking the database."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from shared.virtual_keys import keyed_hash, new_key, parse

PEPPER = bytes(range(32))


def test_a_new_key_is_parsed_to_what_was_stored() -> None:
    key = new_key(PEPPER)
    parsed = parse(key.text)
    assert parsed is not None
    assert (parsed[0], keyed_hash(PEPPER, parsed[1])) == (key.id, key.hash)


def test_another_pepper_gives_another_hash() -> None:
    key = new_key(PEPPER)
    parsed = parse(key.text)
    assert parsed is not None
    assert keyed_hash(bytes(32), parsed[1]) != key.hash


@given(st.integers(0, 64), st.sampled_from("abz27_-A"))
def test_a_key_with_one_character_changed_is_none_of_ours(place: int, character: str) -> None:
    text = new_key(PEPPER).text
    place %= len(text)
    changed = text[:place] + character + text[place + 1 :]
    assert changed == text or parse(changed) is None


@given(st.text())
def test_any_other_text_is_none_of_ours(text: str) -> None:
    assert parse(text) is None
