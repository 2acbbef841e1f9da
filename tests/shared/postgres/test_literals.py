"""A text as a literal of SQL is that text, and nothing of it is SQL."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from shared.postgres import ControlDatabase, quoted

TEXTS = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"])) | st.text("'\\E\"$;-{}\n")


@given(st.lists(TEXTS, min_size=1, max_size=20))
@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
async def test_any_text_comes_back_as_it_was(control: ControlDatabase, texts: list[str]) -> None:
    for conforming in ("on", "off"):
        async with control.transaction() as transaction:
            await transaction.execute(f"SET LOCAL standard_conforming_strings = {conforming}")
            row = await transaction.fetchrow("SELECT " + ", ".join(map(quoted, texts)))
        assert row is not None
        assert list(row) == texts


def test_what_no_text_can_hold_is_refused() -> None:
    with pytest.raises(ValueError, match="U\\+0000"):
        quoted("a\0b")
